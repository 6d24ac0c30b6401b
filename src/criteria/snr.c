/* Signal-to-noise ratio loss. Yuan, Deng, Tang, Tang, Chen 2019, "Signal-to-noise ratio: a robust
 * distance metric for deep metric learning".
 *
 *     r(x, y) = var(x - y) / var(x),  var unbiased, over the components
 *     t = [r(a,p) - r(a,n) + m]+
 *     L = sum t / max(1, #(t > 0)) + lambda mean_t |sum_k a_k|
 *     (lambda = 0 with the miner distance)
 *
 * With u = x - y and centred(u) = u - mean(u): dvar(u)/du = 2 centred(u) / (dim - 1). So for an
 * active triplet of weight w and v = var(a), q = 2 w / ((dim - 1) v):
 *     p: -q centred(a - p)     n: +q centred(a - n)
 *     a:  q (centred(a - p) - centred(a - n) - (r(a,p) - r(a,n)) centred(a))
 * An anchor without variance has no ratio: its triplets cost nothing. */
#include "criteria/common.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct options {
    double margin, reg_lambda;
};

static const struct dml_param params[] = {
    {.name = "loss_snr_margin",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, margin),
     .fallback = "0.2",
     .max = INFINITY,
     .help = "Margin between the ratios of positive and negative."},
    {.name = "loss_snr_reg_lambda",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, reg_lambda),
     .fallback = "0.005",
     .max = INFINITY,
     .help = "Weight of the penalty on an anchor's sum; taken as 0 with the miner distance."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: snr", struct options, params);

struct state {
    struct options options;
    struct dml_buffer ratios;
};

/* Sum, and variance times (dim - 1), of x - y; of x itself where y is NULL. */
struct moments {
    double sum, spread;
};

static void destroy(void *data) {
    struct state *state = data;
    if (state)
        dml_buffer_free(&state->ratios);
    free(state);
}

static enum dml_status create(const void *options, const struct dml_criterion_context *context,
                              void **out) {
    if (context->dim < 2)
        return dml_fail(DML_ERROR_INPUT, "snr: an embedding of 1 dimension has no variance");
    struct state *state = dml_alloc(1, sizeof *state);
    if (!state)
        return DML_ERROR_MEMORY;
    state->options = *(const struct options *)options;
    if (context->miner && strcmp(context->miner, "distance") == 0)
        state->options.reg_lambda = 0;
    *out = state;
    return DML_OK;
}

static struct moments moments(const float *x, const float *y, size_t dim) {
    double sum = 0, spread = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t k = 0; k < dim; k++)
        sum += (double)x[k] - (y ? y[k] : 0);
    double mean = sum / (double)dim;
#pragma omp simd reduction(+ : spread)
    for (size_t k = 0; k < dim; k++) {
        double centred = (double)x[k] - (y ? y[k] : 0) - mean;
        spread += centred * centred;
    }
    return (struct moments){sum, spread};
}

/* At or below this an anchor counts as constant: its gradient would leave float32's range. */
#define NO_SPREAD 1e-30

/* Everything forward finds out about a triplet. */
struct ratio {
    struct moments anchor, positive, negative;
    double difference; /* r(a,p) - r(a,n) */
    bool active;
};

static double forward(const struct dml_batch *batch, const struct dml_tuples *tuples, double margin,
                      struct ratio *ratios, size_t *active) {
    size_t dim = batch->dim;
    double sum = 0;
    for (size_t t = 0; t < tuples->count; t++) {
        const float *a = batch->embeddings + (size_t)tuples->anchors[t] * dim;
        struct ratio *ratio = &ratios[t];
        ratio->anchor = moments(a, NULL, dim);
        ratio->positive = moments(a, batch->embeddings + (size_t)tuples->positives[t] * dim, dim);
        ratio->negative = moments(a, batch->embeddings + (size_t)tuples->negatives[t] * dim, dim);
        double spread = ratio->anchor.spread;
        ratio->difference = spread > NO_SPREAD
                                ? (ratio->positive.spread - ratio->negative.spread) / spread
                                : -INFINITY;
        ratio->active = ratio->difference + margin > 0;
        if (!ratio->active)
            continue;
        sum += ratio->difference + margin;
        ++*active;
    }
    return sum;
}

static void backward(const struct dml_batch *batch, size_t a, size_t p, size_t n,
                     const struct ratio *ratio, double weight, float *grad) {
    size_t dim = batch->dim;
    const float *x = batch->embeddings;
    double q = 2 * weight / ratio->anchor.spread, r = ratio->difference;
    double mean_a = ratio->anchor.sum / (double)dim, mean_p = ratio->positive.sum / (double)dim;
    double mean_n = ratio->negative.sum / (double)dim;
    const float *xa = x + a * dim, *xp = x + p * dim, *xn = x + n * dim;
    float *ga = grad + a * dim, *gp = grad + p * dim, *gn = grad + n * dim;
    /* An anchor of little variance has a large r, whose part of the gradient cancels the rest. */
    for (size_t k = 0; k < dim; k++) {
        double to_p = (double)xa[k] - xp[k] - mean_p, to_n = (double)xa[k] - xn[k] - mean_n;
        ga[k] += (float)(q * (to_p - to_n - r * (xa[k] - mean_a)));
        gp[k] -= (float)(q * to_p);
        gn[k] += (float)(q * to_n);
    }
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)rng;
    struct state *state = data;
    struct ratio *ratios = dml_buffer_reserve(&state->ratios, tuples->count, sizeof *ratios);
    if (!ratios)
        return DML_ERROR_MEMORY;
    dml_loss_none(batch, tuples->count, grad, loss);
    double sum = forward(batch, tuples, state->options.margin, ratios, &loss->active);
    double weight = 1 / fmax(1, (double)loss->active);
    double lambda = state->options.reg_lambda / (double)tuples->count;
    loss->value = sum * weight;
    for (size_t t = 0; t < tuples->count; t++) {
        size_t a = (size_t)tuples->anchors[t];
        if (ratios[t].active)
            backward(batch, a, (size_t)tuples->positives[t], (size_t)tuples->negatives[t],
                     &ratios[t], weight, grad);
        double total = ratios[t].anchor.sum;
        loss->value += lambda * fabs(total);
        float push = (float)(total > 0 ? lambda : total < 0 ? -lambda : 0);
        for (size_t k = 0; k < batch->dim; k++)
            grad[a * batch->dim + k] += push;
    }
    return DML_OK;
}

static double margin(const void *options) {
    return ((const struct options *)options)->margin;
}

const struct dml_criterion dml_criterion_snr = {
    .method = {.name = "snr",
               .summary = "Triplet loss on ratios of noise to signal variance",
               .paper = "Yuan et al. 2019, Signal-to-noise ratio: a robust distance metric for "
                        "deep metric learning",
               .params = &table},
    .takes = DML_TUPLES_TRIPLETS,
    .create = create,
    .forward_backward = forward_backward,
    .destroy = destroy,
    .margin = margin,
};
