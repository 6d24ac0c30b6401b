/* Adam. Kingma and Ba 2015, "Adam: a method for stochastic optimization".
 *
 *     g += decay p      m = b1 m + (1 - b1) g      v = b2 v + (1 - b2) g^2
 *     p -= lr / (1 - b1^k) m / (sqrt(v / (1 - b2^k)) + epsilon),   k = updates so far */
#include "optimisers/adam.h"

#include <math.h>

static const struct dml_param params[] = {
    {.name = "adam_beta1",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct dml_adam_options, beta1),
     .fallback = "0.9",
     .max = 0.999999,
     .help = "Decay of the mean of gradients (adam, adamw)."},
    {.name = "adam_beta2",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct dml_adam_options, beta2),
     .fallback = "0.999",
     .max = 0.99999999,
     .help = "Decay of the mean of squared gradients (adam, adamw)."},
    {.name = "adam_epsilon",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct dml_adam_options, epsilon),
     .fallback = "1e-8",
     .max = 1,
     .above_min = true,
     .help = "Added to the root of the mean of squared gradients (adam, adamw)."},
};
const struct dml_param_table dml_adam_params =
    DML_PARAM_TABLE("Optimiser: adam", struct dml_adam_options, params);

void dml_adam_update(const struct dml_adam_options *o, const struct dml_update *update, double l2,
                     double shrinkage, float *restrict values, const float *restrict grad,
                     float *restrict mean, float *restrict square, size_t n) {
    double b1 = isnan(update->momentum) ? o->beta1 : update->momentum;
    const float decay = (float)l2, shrink = (float)shrinkage, epsilon = (float)o->epsilon;
    const float beta1 = (float)b1, beta2 = (float)o->beta2;
    const float fresh1 = (float)(1.0 - b1), fresh2 = (float)(1.0 - o->beta2);
    /* Bias corrections, in float64 as PyTorch computes them on the host. */
    const float rate = (float)(update->lr / (1.0 - pow(b1, (double)update->step)));
    const float root = (float)(1.0 / sqrt(1.0 - pow(o->beta2, (double)update->step)));
#pragma omp parallel for simd schedule(static) if (n > 16384)
    for (size_t i = 0; i < n; i++) {
        float g = grad[i] + decay * values[i];
        float m = beta1 * mean[i] + fresh1 * g;
        float v = beta2 * square[i] + fresh2 * g * g;
        mean[i] = m;
        square[i] = v;
        values[i] -= shrink * values[i] + rate * m / (sqrtf(v) * root + epsilon);
    }
}

static void update(const void *options, const struct dml_update *u, float *values,
                   const float *grad, float *const *states, size_t n) {
    dml_adam_update(options, u, u->decay, 0, values, grad, states[0], states[1], n);
}

const struct dml_optimiser dml_optimiser_adam = {
    .method = {.name = "adam",
               .summary = "Running means of gradients and of their squares, L2 decay",
               .paper = "Kingma, Ba 2015, Adam: a method for stochastic optimization",
               .params = &dml_adam_params},
    .states = 2,
    .update = update,
};
