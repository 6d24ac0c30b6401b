#ifndef BENCH_WHOLE_STEP_H
#define BENCH_WHOLE_STEP_H

#include "data/loader.h"
#include "dml/criteria.h"

/* What surrounds the network in a whole step: images from JPEG files, the golden photographs in
 * turn, two of each class in a batch, and afterwards distance mining and margin loss. */
struct whole_step;

/* Images of `size` pixels a side for batches of an even number; `cache` as the loader takes it.
 * Training transforms and a criterion for embeddings of `dim`, or those of evaluation, which draw
 * nothing, and no criterion. Pixels lie in `memory`, as the loader takes it. Exits on failure. */
struct whole_step *whole_step_open(size_t batch, int size, size_t dim, int threads, char *cache,
                                   bool training, struct dml_memory_source memory);
void whole_step_close(struct whole_step *whole); /* accepts NULL */

/* Starts a pass over so many batches. */
void whole_step_start(struct whole_step *whole, size_t batches);
/* The next batch, to be given back; passes of training follow each other. */
const struct dml_loaded *whole_step_take(struct whole_step *whole);
/* The one after it, if it is made already, else NULL. */
const struct dml_loaded *whole_step_peek(struct whole_step *whole);
void whole_step_give_back(struct whole_step *whole, const struct dml_loaded *loaded);

/* The loss of embeddings (batch, dim), and its gradient. */
void whole_step_learn(struct whole_step *whole, const struct dml_loaded *loaded,
                      const float *embeddings, float *grad);

#endif
