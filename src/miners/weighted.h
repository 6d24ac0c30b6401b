#ifndef DML_MINERS_WEIGHTED_H
#define DML_MINERS_WEIGHTED_H

#include "miners/common.h"

/* Writes the weight of every sample as the negative of a pair: 0 for samples of the anchor's class,
 * above 0 for at least one other. */
typedef void miner_weigh(const struct miner_state *state, const struct dml_batch *batch,
                         const void *data, size_t anchor, size_t positive, float *weights);

/* Draws the negative of every triplet that has -1 there, with probability weight / sum, on all
 * cores. state->draws[t] decides for triplet t, so the number of threads does not matter. */
enum dml_status miner_draw_negatives(const struct miner_state *state, const struct dml_batch *batch,
                                     miner_weigh *weigh, const void *data, struct dml_tuples *out);

/* Reserves triplets and adds one with a random positive, negative -1 and a draw for every sample
 * that has a positive and a negative. */
enum dml_status miner_start_triplets(struct miner_state *state, const struct dml_batch *batch,
                                     struct dml_rng *rng, struct dml_tuples *out);

#endif
