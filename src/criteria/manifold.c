/* Manifold similarity. Aziere, Todorovic 2019, "Ensemble deep manifold similarity learning using
 * hard proxies".
 *
 *     Of the n samples and K proxies, N = n + K vectors: S_ij = exp(2 [c_ij]+), 0 for i = j,
 *     D: its row sums, W = D^-1/2 S D^-1/2, F = (1 - alpha) (I - alpha W)^-1
 *     H(G) = mean_i log(1 + sum_{p != m_i, t >= 0} e^t),  t = G_ip - G_{i m_i} + margin
 *     L = H(F of samples and proxies) + lambda_c H(cosines of the rows of F of samples and proxies)
 *
 * m_i is the proxy of i's class: a random permutation of the classes, taken modulo K. With Y =
 * dL/dW = alpha / (1 - alpha) F dL/dF F: dL/dS_ij = Y_ij / sqrt(D_i D_j) - sum_k (Y_ik + Y_ki) W_ik
 * / (2 D_i). All in float64. */
#include "criteria/common.h"

#include "base/memory.h"
#include "math/inverse.h"
#include "math/linear.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct options {
    double lr;
    int64_t n_proxies;
    double alpha;
    double margin;
    double lambda_c;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"loss_manifold_lr", DML_PARAM_FLOAT, AT(lr), "0.0005", 0, INFINITY,
     .help = "Learning rate of the proxies."},
    {"loss_manifold_n_proxies", DML_PARAM_INT, AT(n_proxies), "50", 1, 100000,
     .help = "Proxies, each for a random share of the classes."},
    {"loss_manifold_alpha", DML_PARAM_FLOAT, AT(alpha), "0.8", 0, 0.999,
     .help = "How far similarity spreads along the manifold."},
    {"loss_manifold_margin", DML_PARAM_FLOAT, AT(margin), "0.0005", 0, INFINITY,
     .help = "How far ahead of the others a sample's proxy should be."},
    {"loss_manifold_lambda_c", DML_PARAM_FLOAT, AT(lambda_c), "1", 0, INFINITY,
     .help = "Weight of the term on contexts, the rows of F."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: manifold", struct options, params);

struct state {
    struct options options;
    size_t classes, dim;
    float *proxies, *grad; /* (n_proxies, dim) */
    int32_t *meta_classes; /* (classes): the proxy of a class */
    struct dml_buffer memory;
};

static void destroy(void *data) {
    struct state *state = data;
    if (!state)
        return;
    free(state->proxies);
    free(state->grad);
    free(state->meta_classes);
    dml_buffer_free(&state->memory);
    free(state);
}

/* Deals the classes, in a random order, to the proxies. */
static void deal(struct state *state, uint32_t *order, uint64_t seed) {
    struct dml_rng rng = dml_rng_make(seed, DML_PURPOSE_CRITERION, 0, 1);
    for (size_t c = 0; c < state->classes; c++)
        order[c] = (uint32_t)c;
    for (size_t c = state->classes; c > 1; c--) {
        size_t other = dml_rng_below(&rng, (uint32_t)c);
        uint32_t swapped = order[c - 1];
        order[c - 1] = order[other];
        order[other] = swapped;
    }
    for (size_t c = 0; c < state->classes; c++)
        state->meta_classes[c] = (int32_t)(order[c] % (uint32_t)state->options.n_proxies);
}

static enum dml_status create(const void *options, const struct dml_criterion_context *context,
                              void **out) {
    void *made;
    enum dml_status status =
        dml_state_new(sizeof(struct state), options, sizeof(struct options), &made);
    if (status)
        return status;
    struct state *state = made;
    size_t count = (size_t)state->options.n_proxies;
    state->classes = context->classes;
    state->dim = context->dim;
    state->proxies = dml_alloc(count, context->dim * sizeof(float));
    state->grad = dml_alloc(count, context->dim * sizeof(float));
    state->meta_classes = dml_alloc(context->classes, sizeof(int32_t));
    uint32_t *order = dml_alloc(context->classes, sizeof *order);
    if (!state->proxies || !state->grad || !state->meta_classes || !order) {
        free(order);
        destroy(state);
        return DML_ERROR_MEMORY;
    }
    dml_init_normal(state->proxies, count * context->dim, context->seed, 1);
    deal(state, order, context->seed);
    free(order);
    *out = state;
    return DML_OK;
}

static size_t parameters(void *data, struct dml_criterion_parameter *out, size_t max) {
    struct state *state = data;
    if (max == 0)
        return 0;
    out[0] =
        (struct dml_criterion_parameter){.name = "proxies",
                                         .values = state->proxies,
                                         .grad = state->grad,
                                         .dims = {(size_t)state->options.n_proxies, state->dim},
                                         .lr = state->options.lr};
    return 1;
}

static size_t buffers(void *data, struct dml_criterion_buffer *out, size_t max) {
    struct state *state = data;
    if (max == 0)
        return 0;
    out[0] = (struct dml_criterion_buffer){.name = "meta_classes",
                                           .ints = state->meta_classes,
                                           .dims = {state->classes, 1},
                                           .most = (int32_t)state->options.n_proxies - 1};
    return 1;
}

/* One step; n samples, then k proxies. */
struct step {
    const struct options *o;
    const int32_t *labels, *meta_classes;
    size_t n, k, all, dim;
    double *units, *norms, *pull; /* (all, dim), (all), (all, dim) */
    double *s;                    /* (all, all): cosines, then S */
    double *sums;                 /* (all): D */
    double *f, *slope, *work;     /* (all, all): F; dL/dF, later dL/dc; workspace */
    double *lengths;              /* (all): of the rows of F */
    double *scores, *pulls;       /* (n, k): G, dH/dG */
};

static bool start(struct step *step, struct state *state, const struct dml_batch *batch) {
    size_t n = batch->n, k = (size_t)state->options.n_proxies, all = n + k, dim = batch->dim;
    double *memory = dml_buffer_reserve(&state->memory, all * (2 * dim + 3 + 4 * all) + 2 * n * k,
                                        sizeof *memory);
    if (!memory)
        return false;
    *step = (struct step){.o = &state->options,
                          .labels = batch->labels,
                          .meta_classes = state->meta_classes,
                          .n = n,
                          .k = k,
                          .all = all,
                          .dim = dim};
    step->units = memory;
    step->pull = step->units + all * dim;
    step->norms = step->pull + all * dim;
    step->sums = step->norms + all;
    step->lengths = step->sums + all;
    step->s = step->lengths + all;
    step->f = step->s + all * all;
    step->slope = step->f + all * all;
    step->work = step->slope + all * all;
    step->scores = step->work + all * all;
    step->pulls = step->scores + n * k;
    for (size_t i = 0; i < all; i++) {
        const float *x = i < n ? batch->embeddings + i * dim : state->proxies + (i - n) * dim;
        step->norms[i] = sqrt(dml_dot(x, x, dim));
        double scale = step->norms[i] < 1e-12 ? 0 : 1 / step->norms[i];
        for (size_t d = 0; d < dim; d++)
            step->units[i * dim + d] = scale * x[d];
    }
    return true;
}

/* S, D and F from the cosines in s. */
static void spread(struct step *step) {
    const size_t all = step->all;
    const double alpha = step->o->alpha;
#pragma omp parallel for
    for (size_t i = 0; i < all; i++) {
        double *s = step->s + i * all, sum = 0;
        for (size_t j = 0; j < all; j++) {
            s[j] = i == j ? 0 : exp(2 * fmax(s[j], 0));
            sum += s[j];
        }
        step->sums[i] = sum;
    }
#pragma omp parallel for
    for (size_t i = 0; i < all; i++)
        for (size_t j = 0; j < all; j++)
            step->f[i * all + j] = (i == j ? 1 : 0) - alpha * step->s[i * all + j] /
                                                          sqrt(step->sums[i] * step->sums[j]);
    dml_invert64(step->f, all, step->work);
    for (size_t i = 0; i < all * all; i++)
        step->f[i] *= 1 - alpha;
}

/* weight H(G) of the scores, and its gradient in pulls. */
static double hinge(struct step *step, double weight) {
    double sum = 0;
    for (size_t i = 0; i < step->n; i++) {
        const size_t own = (size_t)step->meta_classes[step->labels[i]];
        const double *g = step->scores + i * step->k;
        double *pull = step->pulls + i * step->k, most = 0, all = 0;
        for (size_t p = 0; p < step->k; p++)
            most = fmax(most, p == own ? 0 : g[p] - g[own] + step->o->margin);
        for (size_t p = 0; p < step->k; p++) {
            double t = g[p] - g[own] + step->o->margin;
            pull[p] = p != own && t >= 0 ? exp(t - most) : 0;
            all += pull[p];
        }
        double value = most == 0 ? log1p(all) : most + log(exp(-most) + all);
        double scale = weight / (double)step->n * exp(most - value);
        for (size_t p = 0; p < step->k; p++)
            pull[p] *= scale;
        pull[own] = -scale * all;
        sum += value;
    }
    return weight * sum / (double)step->n;
}

/* The term of F's own block; starts dL/dF. */
static double similarity_term(struct step *step) {
    const size_t all = step->all, n = step->n, k = step->k;
    for (size_t i = 0; i < n; i++)
        memcpy(step->scores + i * k, step->f + i * all + n, k * sizeof(double));
    double loss = hinge(step, 1);
    memset(step->slope, 0, all * all * sizeof(double));
    for (size_t i = 0; i < n; i++)
        memcpy(step->slope + i * all + n, step->pulls + i * k, k * sizeof(double));
    return loss;
}

/* The term of the rows of F; adds to dL/dF. */
static double context_term(struct step *step) {
    const size_t all = step->all, n = step->n, k = step->k;
    double *rows = step->work; /* scaled to length 1 */
    for (size_t i = 0; i < all; i++) {
        double square = 0;
        for (size_t j = 0; j < all; j++)
            square += step->f[i * all + j] * step->f[i * all + j];
        step->lengths[i] = sqrt(square);
        for (size_t j = 0; j < all; j++)
            rows[i * all + j] = step->f[i * all + j] / step->lengths[i];
    }
    dml_gemm64(0, 1, n, k, all, 1, rows, all, rows + n * all, all, 0, step->scores, k);
    double loss = hinge(step, step->o->lambda_c);
#pragma omp parallel for
    for (size_t i = 0; i < all; i++) {
        double *slope = step->slope + i * all;
        const double *row = rows + i * all;
        for (size_t other = i < n ? n : 0; other < (i < n ? all : n); other++) {
            double pull = i < n ? step->pulls[i * k + other - n] : step->pulls[other * k + i - n];
            if (pull == 0)
                continue;
            double cosine =
                i < n ? step->scores[i * k + other - n] : step->scores[other * k + i - n];
            double weight = pull / step->lengths[i];
            for (size_t j = 0; j < all; j++)
                slope[j] += weight * (rows[other * all + j] - cosine * row[j]);
        }
    }
    return loss;
}

/* dL/dF becomes dL/dc: those of c_ij and c_ji together. */
static void back_to_cosines(struct step *step) {
    const size_t all = step->all;
    const double alpha = step->o->alpha;
    dml_gemm64(0, 0, all, all, all, 1, step->f, all, step->slope, all, 0, step->work, all);
    dml_gemm64(0, 0, all, all, all, alpha / (1 - alpha), step->work, all, step->f, all, 0,
               step->slope, all);
    double *by_sum = step->lengths; /* dL/dD */
    for (size_t i = 0; i < all; i++) {
        double sum = 0;
        for (size_t j = 0; j < all; j++)
            sum += (step->slope[i * all + j] + step->slope[j * all + i]) * step->s[i * all + j] /
                   sqrt(step->sums[i] * step->sums[j]);
        by_sum[i] = -sum / (2 * step->sums[i]);
    }
    for (size_t i = 0; i < all; i++)
        for (size_t j = 0; j <= i; j++) {
            double y = step->slope[i * all + j] + step->slope[j * all + i];
            double by_s = y / sqrt(step->sums[i] * step->sums[j]) + by_sum[i] + by_sum[j];
            double s = step->s[i * all + j]; /* 1 where the cosine is 0 or less */
            by_s *= s > 1 ? 2 * s : 0;
            step->slope[i * all + j] = step->slope[j * all + i] = by_s;
        }
}

/* Row i of pull, through the normalisation. */
static void store(const struct step *step, size_t i, float *grad) {
    const double *unit = step->units + i * step->dim, *pull = step->pull + i * step->dim;
    double along = 0, scale = step->norms[i] < 1e-12 ? 0 : 1 / step->norms[i];
    for (size_t d = 0; d < step->dim; d++)
        along += unit[d] * pull[d];
    for (size_t d = 0; d < step->dim; d++)
        grad[d] = (float)(scale * (pull[d] - along * unit[d]));
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)tuples, (void)rng;
    struct state *state = data;
    struct step step;
    if (!start(&step, state, batch))
        return DML_ERROR_MEMORY;
    const size_t all = step.all, dim = step.dim;
    dml_gemm64(0, 1, all, all, dim, 1, step.units, dim, step.units, dim, 0, step.s, all);
    spread(&step);
    *loss = (struct dml_loss){.tuples = batch->n};
    loss->value = similarity_term(&step);
    loss->value += context_term(&step);
    loss->active = loss->value > 0 ? batch->n : 0;
    back_to_cosines(&step);
    dml_gemm64(0, 0, all, dim, all, 1, step.slope, all, step.units, dim, 0, step.pull, dim);
    for (size_t i = 0; i < all; i++)
        store(&step, i, i < step.n ? grad + i * dim : state->grad + (i - step.n) * dim);
    return DML_OK;
}

const struct dml_criterion dml_criterion_manifold = {
    .method = {.name = "manifold",
               .summary =
                   "Learnt proxies, compared along the manifold that a batch and the proxies span",
               .paper = "Aziere and Todorovic 2019, Ensemble deep manifold similarity learning "
                        "using hard proxies",
               .params = &table},
    .takes = DML_TUPLES_NONE,
    .create = create,
    .forward_backward = forward_backward,
    .parameters = parameters,
    .buffers = buffers,
    .destroy = destroy,
};
