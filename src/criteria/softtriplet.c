/* SoftTriple loss. Qian, Shang, Sun, Hu, Li, Jin 2019, "SoftTriple loss: deep metric learning
 * without triplet sampling".
 *
 *     w_ck: K centroids of class c, normalised to length 1;  s_ck = <e_i, w_ck>
 *     q_ck = softmax_k(s_ck / gamma),  z_c = sum_k q_ck s_ck
 *     L = mean_i cross entropy of lambda (z_c - delta [c = y_i])
 *         + reg_weight sum_c sum_{k<l} sqrt(2.00001 - 2 <w_ck, w_cl>) / (C K (K - 1))
 *
 * With p the softmax over classes: dL/dz_c = lambda (p_c - [c = y]) / n and
 * dz_c/ds_ck = q_ck (1 + (s_ck - z_c) / gamma). The regulariser's root r gives -w_cl / r to w_ck.
 * Centroids are stored as in PyTorch, (dim, C K): a column each. */
#include "criteria/common.h"

#include "base/memory.h"
#include "math/linear.h"
#include "math/transcendental.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

struct options {
    int64_t centroids;
    double delta, gamma, lambda, reg_weight, lrmulti;
};

static const struct dml_param params[] = {
    {.name = "loss_softtriplet_n_centroids",
     .type = DML_PARAM_INT,
     .offset = offsetof(struct options, centroids),
     .fallback = "2",
     .min = 1,
     .max = 1000,
     .help = "Centroids per class."},
    {.name = "loss_softtriplet_margin_delta",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, delta),
     .fallback = "0.01",
     .max = INFINITY,
     .help = "Margin subtracted from the similarity to the sample's class."},
    {.name = "loss_softtriplet_gamma",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, gamma),
     .fallback = "0.1",
     .max = INFINITY,
     .above_min = true,
     .help = "Temperature of the weights over a class's centroids."},
    {.name = "loss_softtriplet_lambda",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, lambda),
     .fallback = "8",
     .max = INFINITY,
     .above_min = true,
     .help = "Factor applied to the similarities to classes."},
    {.name = "loss_softtriplet_reg_weight",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, reg_weight),
     .fallback = "0.2",
     .max = INFINITY,
     .help = "Weight of the regulariser that pulls a class's centroids together."},
    {.name = "loss_softtriplet_lrmulti",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, lrmulti),
     .fallback = "1",
     .max = INFINITY,
     .help = "Learning rate of the centroids, as a multiple of --lr."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: softtriplet", struct options, params);

struct state {
    struct options options;
    size_t dim, classes, k, columns; /* columns = classes * k */
    double lr;
    float *centroids, *grad, *units; /* (dim, columns): w, dL/dw, w with columns of length 1 */
    double *norms, *along;           /* (columns): ||w||; <w / ||w||, dL/d(w / ||w||)> */
    struct dml_buffer memory;
};

static void destroy(void *data) {
    struct state *state = data;
    if (!state)
        return;
    free(state->centroids);
    free(state->grad);
    free(state->units);
    free(state->norms);
    free(state->along);
    dml_buffer_free(&state->memory);
    free(state);
}

static enum dml_status create(const void *options, const struct dml_criterion_context *context,
                              void **out) {
    struct state *state = dml_alloc(1, sizeof *state);
    if (!state)
        return DML_ERROR_MEMORY;
    state->options = *(const struct options *)options;
    state->dim = context->dim;
    state->classes = context->classes;
    state->k = (size_t)state->options.centroids;
    state->columns = state->classes * state->k;
    state->lr = context->lr * state->options.lrmulti;
    size_t count = state->dim * state->columns;
    state->centroids = dml_alloc(state->columns, state->dim * sizeof(float));
    state->grad = dml_alloc(state->columns, state->dim * sizeof(float));
    state->units = dml_alloc(state->columns, state->dim * sizeof(float));
    state->norms = dml_alloc(state->columns, sizeof(double));
    state->along = dml_alloc(state->columns, sizeof(double));
    if (!state->centroids || !state->grad || !state->units || !state->norms || !state->along) {
        destroy(state);
        return DML_ERROR_MEMORY;
    }
    dml_init_uniform(state->centroids, count, context->seed, 1 / sqrt((double)state->columns));
    *out = state;
    return DML_OK;
}

static void normalize_columns(struct state *state) {
    size_t columns = state->columns;
    memset(state->norms, 0, columns * sizeof *state->norms);
    for (size_t d = 0; d < state->dim; d++) {
        const float *w = state->centroids + d * columns;
        for (size_t c = 0; c < columns; c++)
            state->norms[c] += (double)w[c] * w[c];
    }
    for (size_t c = 0; c < columns; c++)
        state->norms[c] = fmax(sqrt(state->norms[c]), 1e-12);
#pragma omp parallel for if (state->dim * columns > 100000)
    for (size_t d = 0; d < state->dim; d++)
        for (size_t c = 0; c < columns; c++)
            state->units[d * columns + c] =
                (float)(state->centroids[d * columns + c] / state->norms[c]);
}

/* The gradient with respect to the units becomes that with respect to the centroids. */
static void denormalize_columns(struct state *state) {
    size_t columns = state->columns;
    memset(state->along, 0, columns * sizeof *state->along);
    for (size_t d = 0; d < state->dim; d++) {
        const float *unit = state->units + d * columns, *grad = state->grad + d * columns;
        for (size_t c = 0; c < columns; c++)
            state->along[c] += (double)unit[c] * grad[c];
    }
#pragma omp parallel for if (state->dim * columns > 100000)
    for (size_t d = 0; d < state->dim; d++) {
        const float *unit = state->units + d * columns;
        float *grad = state->grad + d * columns;
        for (size_t c = 0; c < columns; c++)
            grad[c] = (float)((grad[c] - unit[c] * state->along[c]) / state->norms[c]);
    }
}

/* Weights q (columns) of the centroids within their classes, and class similarities z (classes). */
static void class_similarities(const struct state *state, const float *s, float *q, float *z) {
    size_t k = state->k;
    float inverse = (float)(1 / state->options.gamma);
    for (size_t c = 0; c < state->classes; c++) {
        float most = s[c * k];
        for (size_t l = 1; l < k; l++)
            most = s[c * k + l] > most ? s[c * k + l] : most;
        for (size_t l = 0; l < k; l++)
            q[c * k + l] = (s[c * k + l] - most) * inverse;
    }
#pragma omp simd
    for (size_t j = 0; j < state->columns; j++)
        q[j] = dml_expf(q[j]);
    for (size_t c = 0; c < state->classes; c++) {
        float sum = 0, weighted = 0;
        for (size_t l = 0; l < k; l++) {
            sum += q[c * k + l];
            weighted += q[c * k + l] * s[c * k + l];
        }
        for (size_t l = 0; l < k; l++)
            q[c * k + l] /= sum;
        z[c] = weighted / sum;
    }
}

/* Cross entropy of one sample; similarities s (columns) become dL/ds times n. */
static double sample(const struct state *state, int32_t label, float *s, float *q, float *z,
                     float *p) {
    size_t k = state->k, classes = state->classes;
    float lambda = (float)state->options.lambda, inverse = (float)(1 / state->options.gamma);
    class_similarities(state, s, q, z);
    float own = z[label] - (float)state->options.delta, most = own;
    for (size_t c = 0; c < classes; c++)
        most = z[c] > most && c != (size_t)label ? z[c] : most;
#pragma omp simd
    for (size_t c = 0; c < classes; c++)
        p[c] = dml_expf(lambda * (z[c] - most));
    p[label] = dml_expf(lambda * (own - most));
    double sum = 0;
    for (size_t c = 0; c < classes; c++)
        sum += p[c];
    float scale = (float)(lambda / sum), others = (float)(sum - p[label]);
    for (size_t c = 0; c < classes; c++) {
        float slope = c == (size_t)label ? -scale * others : scale * p[c];
        for (size_t j = c * k; j < (c + 1) * k; j++)
            s[j] = slope * q[j] * (1 + (s[j] - z[c]) * inverse);
    }
    return log(sum) + lambda * (most - own);
}

/* The regulariser of one class, its gradient added to `grad`. w and g are work for (k, dim). */
static double regularize(struct state *state, size_t c, double weight, double *w, double *g) {
    size_t k = state->k, dim = state->dim, columns = state->columns;
    for (size_t l = 0; l < k; l++)
        for (size_t d = 0; d < dim; d++) {
            w[l * dim + d] = state->centroids[d * columns + c * k + l] / state->norms[c * k + l];
            g[l * dim + d] = 0;
        }
    double sum = 0;
    for (size_t l = 0; l < k; l++)
        for (size_t m = l + 1; m < k; m++) {
            double dot = 0;
            for (size_t d = 0; d < dim; d++)
                dot += w[l * dim + d] * w[m * dim + d];
            double root = sqrt(fmax(2.00001 - 2 * dot, 1e-12));
            sum += root;
            for (size_t d = 0; d < dim; d++) {
                g[l * dim + d] -= w[m * dim + d] * weight / root;
                g[m * dim + d] -= w[l * dim + d] * weight / root;
            }
        }
    for (size_t l = 0; l < k; l++)
        for (size_t d = 0; d < dim; d++)
            state->grad[d * columns + c * k + l] += (float)g[l * dim + d];
    return sum * weight;
}

/* Floats that a thread needs: the rows q, z and p, or the centroids of a class and their gradient.
 */
static size_t thread_floats(const struct state *state) {
    size_t rows = state->columns + 2 * state->classes, centroids = 4 * state->k * state->dim;
    return ((rows > centroids ? rows : centroids) + 15) / 16 * 16;
}

/* Memory of one step. */
struct step {
    double *losses; /* (n) or (classes), whichever is more */
    float *own;     /* (threads, work): what each thread works in */
    size_t work;
    float *s; /* (n, columns): similarities, then dL/ds times n */
};

static bool start(struct state *state, size_t n, struct step *step) {
    size_t threads = (size_t)omp_get_max_threads(), most = n > state->classes ? n : state->classes;
    size_t losses = (2 * most + 15) / 16 * 16; /* in floats, like everything here */
    step->work = thread_floats(state);
    float *memory = dml_buffer_reserve(
        &state->memory, losses + threads * step->work + n * state->columns, sizeof *memory);
    if (!memory)
        return false;
    step->losses = (double *)memory;
    step->own = memory + losses;
    step->s = step->own + threads * step->work;
    return true;
}

/* Mean cross entropy of the batch; similarities become their gradient. */
static double classify(const struct state *state, const struct dml_batch *batch,
                       const struct step *step) {
    double sum = 0;
#pragma omp parallel for if (batch->n * state->columns > 10000)
    for (size_t i = 0; i < batch->n; i++) {
        float *q = step->own + (size_t)omp_get_thread_num() * step->work;
        float *z = q + state->columns, *p = z + state->classes;
        step->losses[i] = sample(state, batch->labels[i], step->s + i * state->columns, q, z, p);
    }
    for (size_t i = 0; i < batch->n; i++)
        sum += step->losses[i];
    return sum / (double)batch->n;
}

/* The regulariser of all classes, its gradient added to that of the units. */
static double regularize_all(struct state *state, const struct step *step) {
    if (state->k == 1)
        return 0;
    double weight = state->options.reg_weight / ((double)state->columns * (double)(state->k - 1));
    double sum = 0;
#pragma omp parallel for if (state->dim * state->columns > 10000)
    for (size_t c = 0; c < state->classes; c++) {
        double *w = (double *)(step->own + (size_t)omp_get_thread_num() * step->work);
        step->losses[c] = regularize(state, c, weight, w, w + state->k * state->dim);
    }
    for (size_t c = 0; c < state->classes; c++)
        sum += step->losses[c];
    return sum;
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)tuples, (void)rng;
    struct state *state = data;
    struct step step;
    size_t n = batch->n, dim = batch->dim, columns = state->columns;
    const float *x = batch->embeddings;
    if (!start(state, n, &step))
        return DML_ERROR_MEMORY;
    normalize_columns(state);
    dml_gemm(0, 0, n, columns, dim, 1, x, dim, state->units, columns, 0, step.s, columns);
    *loss = (struct dml_loss){.tuples = n, .active = n};
    loss->value = classify(state, batch, &step);
    float share = 1 / (float)n;
    dml_gemm(0, 1, n, dim, columns, share, step.s, columns, state->units, columns, 0, grad, dim);
    dml_gemm(1, 0, dim, columns, n, share, x, dim, step.s, columns, 0, state->grad, columns);
    loss->value += regularize_all(state, &step);
    denormalize_columns(state);
    return DML_OK;
}

static size_t parameters(void *data, struct dml_criterion_parameter *out, size_t max) {
    struct state *state = data;
    if (max == 0)
        return 0;
    out[0] = (struct dml_criterion_parameter){.name = "centroids",
                                              .values = state->centroids,
                                              .grad = state->grad,
                                              .dims = {state->dim, state->columns},
                                              .lr = state->lr};
    return 1;
}

const struct dml_criterion dml_criterion_softtriplet = {
    .method = {.name = "softtriplet",
               .summary = "Cross entropy over classes of several learnt centroids each",
               .paper = "Qian et al. 2019, SoftTriple loss: deep metric learning without triplet "
                        "sampling",
               .params = &table},
    .takes = DML_TUPLES_NONE,
    .create = create,
    .forward_backward = forward_backward,
    .parameters = parameters,
    .destroy = destroy,
};
