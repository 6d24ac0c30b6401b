/* Lion. Chen et al. 2023, "Symbolic discovery of optimization algorithms".
 *
 *     p *= 1 - lr decay      p -= lr sign(b1 m + (1 - b1) g)      m = b2 m + (1 - b2) g
 *
 * All steps have the same size, so that rates are 3 to 10 times smaller than adamw's, and decays
 * larger by as much. */
#include "dml/optimisers.h"

#include <math.h>

struct options {
    double beta1, beta2;
};

static const struct dml_param params[] = {
    {.name = "lion_beta1",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, beta1),
     .fallback = "0.9",
     .max = 0.999999,
     .help = "Share of the mean of gradients in the direction of a step; the rest is the newest "
             "gradient's."},
    {.name = "lion_beta2",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, beta2),
     .fallback = "0.99",
     .max = 0.99999999,
     .help = "Decay of the mean of gradients."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Optimiser: lion", struct options, params);

static void update(const void *options, const struct dml_update *u, float *restrict values,
                   const float *restrict grad, float *const *states, size_t n) {
    const struct options *o = options;
    float *restrict mean = states[0];
    double b1 = isnan(u->momentum) ? o->beta1 : u->momentum;
    const float beta1 = (float)b1, fresh1 = (float)(1.0 - b1);
    const float beta2 = (float)o->beta2, fresh2 = (float)(1.0 - o->beta2);
    const float rate = (float)u->lr, shrink = (float)(u->lr * u->decay);
#pragma omp parallel for simd schedule(static) if (n > 16384)
    for (size_t i = 0; i < n; i++) {
        float g = grad[i], direction = beta1 * mean[i] + fresh1 * g;
        float sign = (float)(direction > 0) - (float)(direction < 0);
        mean[i] = beta2 * mean[i] + fresh2 * g;
        values[i] -= shrink * values[i] + rate * sign;
    }
}

const struct dml_optimiser dml_optimiser_lion = {
    .method = {.name = "lion",
               .summary =
                   "Steps of one size along the sign of a running mean of gradients, decoupled "
                   "decay",
               .paper = "Chen et al. 2023, Symbolic discovery of optimization algorithms",
               .params = &table},
    .states = 1,
    .update = update,
};
