/* Stochastic gradient descent with momentum, as in torch.optim.SGD.
 *
 *     g += decay p      b = mu b + g      p -= lr b,  or with Nesterov's momentum  lr (g + mu b) */
#include "dml/optimisers.h"

#include <math.h>

struct options {
    double momentum;
    bool nesterov;
};

static const struct dml_param params[] = {
    {.name = "sgd_momentum",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, momentum),
     .fallback = "0.9",
     .max = 0.999999,
     .help = "Share of the last step that is kept."},
    {.name = "sgd_nesterov",
     .type = DML_PARAM_FLAG,
     .offset = offsetof(struct options, nesterov),
     .help = "Nesterov's momentum: a step looks ahead."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Optimiser: sgd", struct options, params);

static void update(const void *options, const struct dml_update *u, float *restrict values,
                   const float *restrict grad, float *const *states, size_t n) {
    const struct options *o = options;
    float *restrict buffer = states[0];
    const float momentum = (float)(isnan(u->momentum) ? o->momentum : u->momentum);
    const float decay = (float)u->decay, rate = (float)u->lr;
    if (o->nesterov) {
#pragma omp parallel for simd schedule(static) if (n > 16384)
        for (size_t i = 0; i < n; i++) {
            float g = grad[i] + decay * values[i];
            float b = momentum * buffer[i] + g;
            buffer[i] = b;
            values[i] -= rate * (g + momentum * b);
        }
        return;
    }
#pragma omp parallel for simd schedule(static) if (n > 16384)
    for (size_t i = 0; i < n; i++) {
        float b = momentum * buffer[i] + grad[i] + decay * values[i];
        buffer[i] = b;
        values[i] -= rate * b;
    }
}

const struct dml_optimiser dml_optimiser_sgd = {
    .method = {.name = "sgd",
               .summary = "Stochastic gradient descent with momentum, L2 decay",
               .paper = "Sutskever, Martens, Dahl, Hinton 2013, On the importance of "
                        "initialization and momentum in deep learning",
               .params = &table},
    .states = 1,
    .update = update,
};
