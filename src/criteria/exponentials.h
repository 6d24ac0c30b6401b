#ifndef DML_CRITERIA_EXPONENTIALS_H
#define DML_CRITERIA_EXPONENTIALS_H

#include "criteria/symmetric.h"

/* k_ij = exp(slope <x_i, x_j>) times a factor that is the same for all, 0 where i = j, for criteria
 * whose loss is made of ratios of sums over rows of k. In float32, where all exponents are within
 * DML_EXPONENT_MOST of their middle; their rounding grows with that. Keeps its memory between
 * steps; all zero is empty. */
struct dml_exponentials {
    struct dml_symmetric symmetric; /* for backward */
    float *k;                       /* (n, n) */
    struct dml_buffer memory;
};

#define DML_EXPONENT_MOST 16.0

/* x is the batch's embeddings, or what they are at length 1 (`unit`). `fits` becomes false, and
 * there is no k, where exponents are too large. */
enum dml_status dml_exponentials_forward(struct dml_exponentials *exponentials,
                                         const struct dml_batch *batch, bool unit, double slope,
                                         bool *fits);

void dml_exponentials_free(struct dml_exponentials *exponentials);

#endif
