#ifndef DML_BASE_BATCH_H
#define DML_BASE_BATCH_H

#include "dml/tuples.h"

/* What miners and criteria may rely on: a batch that is not empty, embeddings of `dim` > 0 finite
 * floats, labels in 0..classes-1 (classes 0: unknown, so any label that is not negative).
 * DML_ERROR_INPUT names the first culprit. */
enum dml_status dml_batch_check(const struct dml_batch *batch, size_t dim, size_t classes);

/* "triplets", "pairs of anchor and positive": for messages. */
const char *dml_tuple_kind_words(enum dml_tuple_kind kind);

#endif
