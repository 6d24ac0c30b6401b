#ifndef DML_CRITERIA_SYMMETRIC_H
#define DML_CRITERIA_SYMMETRIC_H

#include "criteria/inner_products.h"
#include "math/gram.h"

/* Symmetric matrices over a batch, functions of its inner products s_ij = <x_i, x_j>, for criteria
 * whose gradient follows from them row by row: half of each is computed, in blocks while the
 * products are in cache, and a row of dL/ds + (dL/ds)^T exists only until it is multiplied by x.
 * Keeps its memory between steps; all zero is empty. */
struct dml_symmetric {
    size_t n, dim;
    const float *x;                 /* (n, dim): the embeddings, or at length 1 */
    float *norms;                   /* (n): of the embeddings; NULL where x is as given */
    struct dml_inner_products rows; /* x centred: shifts, spread, and memory for one matrix */
    float *panels;                  /* x, packed */
    float *blocks;                  /* (threads, a few rows, n) */
    struct dml_buffer memory;
};

/* Centres x, which is the batch's embeddings or what they are at length 1 (`unit`; zero stays
 * zero), so that s_ij is a centred product plus the shifts of i and j. The embeddings must live
 * until backward. */
enum dml_status dml_symmetric_start(struct dml_symmetric *symmetric, const struct dml_batch *batch,
                                    bool unit);

/* slope s_ij is slope times a centred product, plus offsets[i] + offsets[j] + `middle`, which is
 * what all have in common. `offsets` has n + DML_PANEL places, 0 from n on, for blocks that are
 * wider than the matrix. Returns the largest absolute offset. */
double dml_symmetric_offsets(const struct dml_symmetric *symmetric, double slope, float *offsets,
                             double *middle);

/* outs[o] (n, n), their rows `ld` apart, become what `finish` makes of centred products
 * (math/gram.h). rows.products may be one, where `ld` is n. */
void dml_symmetric_forward(const struct dml_symmetric *symmetric, dml_gram_finish finish,
                           const void *data, float *const *outs, size_t count, size_t ld);

/* dL/dE into grad (n, dim), where f, of which `fill` writes row i (n), is dL/ds + (dL/ds)^T over
 * `scale`. */
typedef void (*dml_symmetric_fill)(const void *data, size_t i, float *f);
void dml_symmetric_backward(const struct dml_symmetric *symmetric, dml_symmetric_fill fill,
                            const void *data, double scale, float *grad);

/* The sums of a row of a matrix over the columns of the row's own label, and over the others. */
struct dml_label_sums {
    double same, others;
};
struct dml_label_sums dml_sum_by_label(const float *row, const int32_t *labels, int32_t label,
                                       size_t n);

void dml_symmetric_free(struct dml_symmetric *symmetric);

#endif
