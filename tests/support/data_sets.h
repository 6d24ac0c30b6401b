#ifndef TESTS_SUPPORT_DATA_SETS_H
#define TESTS_SUPPORT_DATA_SETS_H

#include "data/dataset.h"
#include "support/golden.h"

/* Data sets that tests open. */

/* Default options of a data set in the folder `source`; valid for four more calls. */
struct dml_dataset_options data_options_of(const char *dataset, const char *source);
struct dml_dataset data_open_ok(const struct dml_dataset_options *options);
/* Opening fails with one line that holds both texts, and leaves nothing. */
void data_open_fails(const struct dml_dataset_options *options, enum dml_status status,
                     const char *first, const char *second);
/* A part has that many classes and images, in order of its labels, and its files are there. */
void data_check_part(const struct dml_part *part, size_t classes, size_t images);

#endif
