/* RMSprop. Tieleman and Hinton 2012, lecture 6.5 of "Neural networks for machine learning"; as in
 * torch.optim.RMSprop, not centred.
 *
 *     g += decay p      v = a v + (1 - a) g^2      d = g / (sqrt(v) + epsilon)
 *     p -= lr d,  or with momentum  b = mu b + d,  p -= lr b */
#include "dml/optimisers.h"

#include <math.h>

struct options {
    double alpha, momentum, epsilon;
};

static const struct dml_param params[] = {
    {.name = "rmsprop_alpha",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, alpha),
     .fallback = "0.99",
     .max = 0.99999999,
     .help = "Decay of the mean of squared gradients."},
    {.name = "rmsprop_momentum",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, momentum),
     .fallback = "0",
     .max = 0.999999,
     .help = "Share of the last step that is kept."},
    {.name = "rmsprop_epsilon",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, epsilon),
     .fallback = "1e-8",
     .max = 1,
     .above_min = true,
     .help = "Added to the root of the mean of squared gradients."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Optimiser: rmsprop", struct options, params);

static void update(const void *options, const struct dml_update *u, float *restrict values,
                   const float *restrict grad, float *const *states, size_t n) {
    const struct options *o = options;
    float *restrict square = states[0], *restrict buffer = states[1];
    const float momentum = (float)(isnan(u->momentum) ? o->momentum : u->momentum);
    const float alpha = (float)o->alpha, fresh = (float)(1.0 - o->alpha);
    const float epsilon = (float)o->epsilon, decay = (float)u->decay, rate = (float)u->lr;
    if (momentum == 0) {
#pragma omp parallel for simd schedule(static) if (n > 16384)
        for (size_t i = 0; i < n; i++) {
            float g = grad[i] + decay * values[i];
            float v = alpha * square[i] + fresh * g * g;
            square[i] = v;
            values[i] -= rate * g / (sqrtf(v) + epsilon);
        }
        return;
    }
#pragma omp parallel for simd schedule(static) if (n > 16384)
    for (size_t i = 0; i < n; i++) {
        float g = grad[i] + decay * values[i];
        float v = alpha * square[i] + fresh * g * g;
        float b = momentum * buffer[i] + g / (sqrtf(v) + epsilon);
        square[i] = v;
        buffer[i] = b;
        values[i] -= rate * b;
    }
}

const struct dml_optimiser dml_optimiser_rmsprop = {
    .method = {.name = "rmsprop",
               .summary = "Gradients divided by the root of their running mean square, L2 decay",
               .paper = "Tieleman, Hinton 2012, Lecture 6.5: divide the gradient by a running "
                        "average of its recent magnitude",
               .params = &table},
    .states = 2,
    .update = update,
};
