#ifndef DML_MINERS_INVERSE_SPHERE_H
#define DML_MINERS_INVERSE_SPHERE_H

#include "miners/common.h"

/* Distance-weighted sampling (Wu et al. 2017, "Sampling matters in deep embedding learning"): draws
 * a negative for every anchor with probability proportional to 1/q(d), q(d) being the distribution
 * of distances on the unit sphere in `dim` dimensions:
 *
 *     log 1/q(d) = (2 - dim) log d - (dim - 3)/2 log(1 - d^2/4)
 *
 * d is clamped below at `lower_cutoff` and the second logarithm's argument at 1e-8: embeddings that
 * are not normalised have distances of 2 and more. Fills the negatives of the tuples as
 * miner_draw_negatives does. */
enum dml_status miner_inverse_sphere(const struct miner_state *state, const struct dml_batch *batch,
                                     double lower_cutoff, struct dml_tuples *out);

/* Builds a triplet for every sample, with a random positive and such a negative. A sample alone in
 * its class takes itself as positive, or with `skip_alone` gives no triplet. With probability
 * `swap_share` the triplet is (a, a, another of its class) instead; `*swapped` counts those. */
struct miner_distance_rule {
    double lower_cutoff, swap_share;
    bool skip_alone;
};
enum dml_status miner_mine_by_distance(struct miner_state *state, const struct dml_batch *batch,
                                       const int32_t *labels,
                                       const struct miner_distance_rule *rule, struct dml_rng *rng,
                                       struct dml_tuples *out, size_t *swapped);

#endif
