#ifndef DML_CRITERIA_COMMON_H
#define DML_CRITERIA_COMMON_H

#include "dml/criteria.h"

/* What several criteria share. */

/* Working memory that a criterion keeps between steps; it only grows. All zero is empty. */
struct dml_buffer {
    void *data;
    size_t size; /* bytes */
};

/* Memory for count items of `size` bytes, aligned to 64; its contents are lost when it grows. NULL
 * sets DML_ERROR_MEMORY's message. */
void *dml_buffer_reserve(struct dml_buffer *buffer, size_t count, size_t size);
void dml_buffer_free(struct dml_buffer *buffer);

/* A state of `size` bytes that begins with a copy of the options, the rest zeroed. Release it with
 * free(). */
enum dml_status dml_state_new(size_t size, const void *options, size_t options_size, void **state);

/* The result of a batch with nothing to learn from. */
enum dml_status dml_loss_none(const struct dml_batch *batch, size_t tuples, float *grad,
                              struct dml_loss *loss);

/* PyTorch's PairwiseDistance adds this to every component of a difference. */
#define DML_PAIR_OFFSET 1e-6

/* ||e_i - e_j + offset||, and its gradient times `weight`: with f = weight * (e_i - e_j + offset),
 * row i of grad (n, dim) gains f and row j loses it. So `weight` is dL/dd / d. */
double dml_pair_distance(const struct dml_batch *batch, size_t i, size_t j, double offset);
void dml_pair_pull(const struct dml_batch *batch, size_t i, size_t j, double offset, double weight,
                   float *grad);

/* weight * mean_i ||e_i||: adds its gradient to grad (n, dim), 0 for a zero embedding. */
double dml_norm_penalty(const struct dml_batch *batch, double weight, float *grad);

/* Initial values of a learnable parameter: U(-bound, bound), or N(0, scale^2). */
void dml_init_uniform(float *values, size_t count, uint64_t seed, double bound);
void dml_init_normal(float *values, size_t count, uint64_t seed, double scale);

/* Rows of x (n, dim) divided by their norms into `units`, the norms into `norms` (n). A row of
 * norm below 1e-12 has no direction: its unit is 0. `units` may be x. */
void dml_units_forward(const float *x, size_t n, size_t dim, float *units, float *norms);

/* The gradient back through that, in place: g_i becomes (g_i - u_i <u_i, g_i>) / norm_i. */
void dml_units_backward(const float *units, const float *norms, size_t n, size_t dim, float *grad);

#endif
