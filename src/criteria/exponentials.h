#ifndef DML_CRITERIA_EXPONENTIALS_H
#define DML_CRITERIA_EXPONENTIALS_H

#include "criteria/inner_products.h"

/* k_ij = exp(slope <x_i, x_j>) times a factor that is the same for all, 0 where i = j, for criteria
 * whose loss is made of ratios of sums over rows of k. k is symmetric: half of it is computed, each
 * tile while it is in cache, and its gradient needs no second matrix. In float32, where
 * all exponents are within DML_EXPONENT_MOST of their middle; their rounding grows with that. Keeps
 * its memory between steps; all zero is empty. */
struct dml_exponentials {
    size_t n, dim;
    const float *x; /* (n, dim): the rows given, which must live until backward */
    float *k;       /* (n, n) */
    float *offsets; /* (n): exponent (i, j) is slope times a centred product, plus both offsets */
    float *panels;  /* x, packed */
    float *blocks;  /* (threads, a few rows, n) */
    struct dml_inner_products rows;
    struct dml_buffer memory;
};

#define DML_EXPONENT_MOST 16.0

/* `fits` becomes false, and there is no k, where exponents are too large. */
enum dml_status dml_exponentials_forward(struct dml_exponentials *exponentials, const float *x,
                                         size_t n, size_t dim, double slope, bool *fits);

/* The sums of a row of k over the columns of the row's own label, and over the others. */
struct dml_label_sums {
    double same, others;
};
struct dml_label_sums dml_sum_by_label(const float *k, const int32_t *labels, int32_t label,
                                       size_t n);

/* grad (n, dim) = f x, where f is dL/ds + (dL/ds)^T, s_ij = <x_i, x_j>. `fill` writes row i of f
 * (n), of which a few at a time are in cache. */
typedef void (*dml_exponentials_fill)(const void *data, size_t i, float *f);
void dml_exponentials_backward(const struct dml_exponentials *exponentials,
                               dml_exponentials_fill fill, const void *data, float *grad);

void dml_exponentials_free(struct dml_exponentials *exponentials);

#endif
