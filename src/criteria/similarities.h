#ifndef DML_CRITERIA_SIMILARITIES_H
#define DML_CRITERIA_SIMILARITIES_H

#include "criteria/inner_products.h"

/* The inner products of a batch with itself, s_ij = <e_i, e_j>, and the gradient back through them:
 * for criteria whose distances cancel or whose bins and clamps jump. Exponents of 50 multiply the
 * rounding of a product by 50; a gradient is a sum of products without such a factor, and is
 * float32. Keeps its memory between steps. All zero is empty. */
struct dml_similarities {
    size_t n, dim;
    struct dml_inner_products products;
    float *g;       /* (n, n): dL/ds_ij, which the criterion fills in; starts as 0 */
    float *back;    /* (n, dim): result of backward */
    float *packed;  /* workspace of the product that gives it */
    double *work;   /* (threads, 4 n): for a row's pass */
    uint32_t *next; /* (count): see dml_group_tuples */
    uint32_t *first;
    const float *embeddings;
    struct dml_buffer memory;
};

/* `slope` bounds what errors of s are multiplied by (dml_inner_products); `tuples`: how many will
 * be grouped. */
enum dml_status dml_similarities_forward(struct dml_similarities *similarities,
                                         const struct dml_batch *batch, double slope,
                                         size_t tuples);

/* Lists the tuples by one of their samples: those of sample i are t = first[i] (n), then t =
 * next[t] (count) until DML_NO_TUPLE, in their order. */
#define DML_NO_TUPLE UINT32_MAX
void dml_group_tuples(const int32_t *samples, size_t count, size_t n, uint32_t *first,
                      uint32_t *next);

/* The same in s->first and s->next, so that each row of g has one writer. */
void dml_similarities_group(struct dml_similarities *similarities, const int32_t *samples,
                            size_t count);

/* The calling thread's work for a row: 4 n doubles. */
double *dml_similarities_work(const struct dml_similarities *similarities);

/* m (n, n) becomes m + m^T (the diagonal is doubled too). */
void dml_fold(float *m, size_t n);

/* Makes g symmetric and returns back = g e (n, dim). */
float *dml_similarities_backward(struct dml_similarities *similarities);

/* grad (n, dim) becomes g e, or gains it (`add`). */
void dml_similarities_product(const struct dml_similarities *similarities, bool add, float *grad);

/* L = log(1 + sum_j exp x_j) over the samples j whose label is not `label`. dL/dx_j = exp(x_j - L)
 * is e_j times `scale`; e_j is 0 for the other samples. `sum` is that of all dL/dx_j. */
struct dml_softplus {
    double value, scale, sum;
};
struct dml_softplus dml_softplus_negatives(const int32_t *labels, int32_t label, size_t n,
                                           const double *x, float *e);

void dml_similarities_free(struct dml_similarities *similarities);

#endif
