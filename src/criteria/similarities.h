#ifndef DML_CRITERIA_SIMILARITIES_H
#define DML_CRITERIA_SIMILARITIES_H

#include "criteria/common.h"

/* The inner products of a batch with itself and the gradient back through them, in float64: for
 * criteria whose distances cancel or whose bins and clamps jump. Keeps its memory between steps.
 * All zero is empty. */
struct dml_similarities {
    size_t n, dim;
    double *x;    /* (n, dim): the embeddings */
    double *s;    /* (n, n): s_ij = <e_i, e_j> */
    double *g;    /* (n, n): dL/ds_ij, which the criterion fills in; starts as 0 */
    double *back; /* (n, dim): result of backward */
    struct dml_buffer memory;
};

enum dml_status dml_similarities_forward(struct dml_similarities *similarities,
                                         const struct dml_batch *batch);

/* Makes g symmetric, g + g^T (the diagonal is doubled too), and returns back = g x (n, dim). */
double *dml_similarities_backward(struct dml_similarities *similarities);

/* L = log(1 + sum_j exp x_j) over the samples j whose label is not `label`. Turns x (n) into
 * dL/dx_j = exp(x_j - L), 0 for the other samples. `e` is room for n floats. */
double dml_softplus_negatives(const int32_t *labels, int32_t label, size_t n, double *x, float *e);

void dml_similarities_free(struct dml_similarities *similarities);

#endif
