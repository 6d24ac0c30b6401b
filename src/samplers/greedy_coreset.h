#ifndef DML_SAMPLERS_GREEDY_CORESET_H
#define DML_SAMPLERS_GREEDY_CORESET_H

#include "dml/rng.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dml_greedy_options {
    double coreset_lim; /* squared distance up to which a candidate counts as chosen already */
    bool softened;
};

/* Chooses `count` <= n of n points by farthest-point traversal from `start`: the one with the
 * largest squared distance to its nearest chosen point; softened, a random one of those not below
 * the 97th percentile. Where all that are left lie within coreset_lim of the chosen ones, a random
 * one. distances2 is (n, n), symmetric; nearest (2n) is a workspace. Never chooses a point twice.
 */
void dml_greedy_coreset_select(const double *distances2, size_t n, size_t start, size_t count,
                               const struct dml_greedy_options *options, struct dml_rng *rng,
                               double *nearest, uint32_t *out);

#endif
