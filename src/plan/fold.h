#ifndef DML_PLAN_FOLD_H
#define DML_PLAN_FOLD_H

#include <stdbool.h>
#include <stddef.h>

/* A batch norm with running statistics is a scale and a shift of each channel, which become part of
 * the convolution before it: with s = sqrt(variance + epsilon), W' = W g/s and
 * b' = beta + (b - mu) g/s. What differs between backends is how they walk W; the rest is here. */

/* A batch norm's parameters, one float per channel. */
struct plan_norm {
    size_t channels;
    const float *weight, *bias, *mean, *variance;
    double epsilon;
};

/* y = scale[c] x + shift[c]. Arrays of `padded` floats, 0 after the channels. */
void plan_norm_affine(const struct plan_norm *norm, float *scale, float *shift, size_t padded);

/* scale[c] = g/s alone. */
void plan_norm_scale(const struct plan_norm *norm, float *scale);

/* From the gradients of the folded weight and bias (dW', db') those of the norm, and of the
 * convolution's bias where it has one: db = db' g/s, dbeta = db',
 * dg = (sum(dW' W) + (b - mu) db') / s. */
struct plan_folded_grads {
    const double *dots;     /* sum(dW' W) of each channel */
    const float *grad_bias; /* db' */
    const float *bias;      /* b; NULL: the convolution has none */
    const float *scale;     /* plan_norm_scale */
};
void plan_norm_gradients(const struct plan_norm *norm, const struct plan_folded_grads *folded,
                         float *grad_weight, float *grad_shift, float *grad_bias);

#endif
