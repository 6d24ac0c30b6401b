/* Margin loss. Wu, Manmatha, Smola, Kraehenbuehl 2017, "Sampling matters in deep embedding
 * learning".
 *
 *     D(x, y) = sqrt(||x - y||^2 + 1e-8)
 *     pos_t = [D(a,p) - beta_{y_a} + m]+      neg_t = [beta_{y_a} - D(a,n) + m]+
 *     L = sum_t (pos_t + neg_t) / max(1, N) + nu sum_t beta_{y_a},   N = terms above 0
 *
 * Each active term gives dL/dD = +-1/N, with dD/dx = (x - y) / D; beta gets its negative, and nu
 * from every triplet. */
#include "criteria/common.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct options {
    double margin, beta, beta_lr, nu;
    bool beta_constant;
};

static const struct dml_param params[] = {
    {.name = "loss_margin_margin",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, margin),
     .fallback = "0.2",
     .max = INFINITY,
     .help = "Margin around the class boundary beta."},
    {.name = "loss_margin_beta",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, beta),
     .fallback = "1.2",
     .max = INFINITY,
     .help = "Initial distance of the boundary between positives and negatives."},
    {.name = "loss_margin_beta_lr",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, beta_lr),
     .fallback = "0.0005",
     .max = INFINITY,
     .help = "Learning rate of the boundaries, one per class."},
    {.name = "loss_margin_nu",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, nu),
     .fallback = "0",
     .max = INFINITY,
     .help = "Weight of the penalty on the boundaries."},
    {.name = "loss_margin_beta_constant",
     .type = DML_PARAM_FLAG,
     .offset = offsetof(struct options, beta_constant),
     .help = "The boundaries are not trained."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: margin", struct options, params);

struct state {
    struct options options;
    size_t classes;
    float *beta, *grad; /* (classes) */
    struct dml_buffer distances;
};

static void destroy(void *data) {
    struct state *state = data;
    if (!state)
        return;
    free(state->beta);
    free(state->grad);
    dml_buffer_free(&state->distances);
    free(state);
}

static enum dml_status create(const void *options, const struct dml_criterion_context *context,
                              void **out) {
    struct state *state = dml_alloc(1, sizeof *state);
    if (!state)
        return DML_ERROR_MEMORY;
    state->options = *(const struct options *)options;
    state->classes = context->classes;
    state->beta = dml_alloc(context->classes, sizeof *state->beta);
    state->grad = dml_alloc(context->classes, sizeof *state->grad);
    if (!state->beta || !state->grad) {
        destroy(state);
        return DML_ERROR_MEMORY;
    }
    for (size_t c = 0; c < context->classes; c++)
        state->beta[c] = (float)state->options.beta;
    *out = state;
    return DML_OK;
}

static double distance(const struct dml_batch *batch, size_t i, size_t j) {
    double d = dml_pair_distance(batch, i, j, 0);
    return sqrt(d * d + 1e-8);
}

/* Distances into d (2 per triplet: to the positive, to the negative); sums the active terms. */
static double forward(const struct state *state, const struct dml_batch *batch,
                      const struct dml_tuples *tuples, double *d, size_t *terms) {
    double m = state->options.margin, sum = 0;
    for (size_t t = 0; t < tuples->count; t++) {
        size_t a = (size_t)tuples->anchors[t];
        double beta = state->beta[batch->labels[a]];
        d[2 * t] = distance(batch, a, (size_t)tuples->positives[t]);
        d[2 * t + 1] = distance(batch, a, (size_t)tuples->negatives[t]);
        double pos = d[2 * t] - beta + m, neg = beta - d[2 * t + 1] + m;
        *terms += (size_t)(pos > 0) + (size_t)(neg > 0);
        sum += fmax(pos, 0) + fmax(neg, 0);
    }
    return sum;
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)rng;
    struct state *state = data;
    double m = state->options.margin, nu = state->options.nu;
    double *d = dml_buffer_reserve(&state->distances, 2 * tuples->count, sizeof *d);
    if (!d)
        return DML_ERROR_MEMORY;
    dml_loss_none(batch, tuples->count, grad, loss);
    memset(state->grad, 0, state->classes * sizeof *state->grad);

    size_t terms = 0;
    double sum = forward(state, batch, tuples, d, &terms);
    double weight = 1 / fmax(1, (double)terms);
    loss->value = sum * weight;
    for (size_t t = 0; t < tuples->count; t++) {
        size_t a = (size_t)tuples->anchors[t], y = (size_t)batch->labels[a];
        double beta = state->beta[y], dbeta = nu;
        bool pos = d[2 * t] - beta + m > 0, neg = beta - d[2 * t + 1] + m > 0;
        if (pos) {
            dml_pair_pull(batch, a, (size_t)tuples->positives[t], 0, weight / d[2 * t], grad);
            dbeta -= weight;
        }
        if (neg) {
            dml_pair_pull(batch, a, (size_t)tuples->negatives[t], 0, -weight / d[2 * t + 1], grad);
            dbeta += weight;
        }
        state->grad[y] += (float)dbeta;
        loss->value += nu * beta;
        loss->active += pos || neg;
    }
    return DML_OK;
}

static size_t parameters(void *data, struct dml_criterion_parameter *out, size_t max) {
    struct state *state = data;
    if (state->options.beta_constant || max == 0)
        return 0;
    out[0] = (struct dml_criterion_parameter){.name = "beta",
                                              .values = state->beta,
                                              .grad = state->grad,
                                              .dims = {state->classes, 1},
                                              .lr = state->options.beta_lr};
    return 1;
}

static double margin(const void *options) {
    return ((const struct options *)options)->margin;
}

const struct dml_criterion dml_criterion_margin = {
    .method = {.name = "margin",
               .summary = "Keeps positives inside and negatives outside a learnt boundary",
               .paper = "Wu et al. 2017, Sampling matters in deep embedding learning",
               .params = &table},
    .takes = DML_TUPLES_TRIPLETS,
    .create = create,
    .forward_backward = forward_backward,
    .parameters = parameters,
    .destroy = destroy,
    .margin = margin,
};
