#ifndef DML_MATH_DESCENT_H
#define DML_MATH_DESCENT_H

#include <stddef.h>

/* What happens to gradients before an optimiser's step, and to weights after it. Runs on all
 * cores; results do not depend on their number. */

/* Adds the squares of `n` gradients to *squares, and raises *largest to their largest absolute
 * value. A NaN among them reaches *squares only. */
void dml_gradient_measure(const float *grads, size_t n, double *squares, double *largest);

/* Multiplies gradients by `scale`, then limits each to [-limit, limit]. */
void dml_gradient_clip(float *grads, size_t n, double scale, double limit);

/* The scale that brings gradients of this norm to the largest norm allowed, as in
 * torch.nn.utils.clip_grad_norm_: min(1, largest / (norm + 1e-6)). */
double dml_gradient_scale(double norm, double largest);

/* average = decay * average + (1 - decay) * values; decay 0 copies. */
void dml_moving_average(float *average, const float *values, size_t n, double decay);

#endif
