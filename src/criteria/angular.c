/* Angular loss. Wang, Zhou, Wen, Liu, Lin 2017, "Deep metric learning with angular loss".
 *
 *     u_i = e_i / ||e_i||,  c_ij = <u_i, u_j>,  s_ij = <e_i, e_j>,  t = tan(alpha)
 *     f_n = 4 t^2 (c_an + c_pn) - 2 (1 + t^2) c_ap
 *     angular = mean_a log(1 + sum_n exp f_n)
 *     npair   = mean_a log(1 + sum_n exp clamp(s_an - s_ap, -50, 50))
 *     L = npair + weight angular + l2 mean_i ||e_i||,  n: all samples of other classes
 *
 * Both terms have dL/dx_n = exp(x_n - L_a), 0 where clamped. Gradients with respect to c are folded
 * into those with respect to s: c_ij = s_ij / (||e_i|| ||e_j||), so dL/dc_ij = v adds v / (||e_i||
 * ||e_j||) to dL/ds_ij and -v c_ij e_i / ||e_i||^2 to dL/de_i, and the same with i and j swapped to
 * dL/de_j. A pair without negatives costs nothing; when no pair has any, the loss is 0. */
#include "criteria/similarities.h"

#include "base/memory.h"
#include "math/linear.h"
#include "math/reduce.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct options {
    double alpha, weight, l2;
};

static const struct dml_param params[] = {
    {.name = "loss_angular_alpha",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, alpha),
     .fallback = "45",
     .max = 89,
     .above_min = true,
     .help = "Upper bound of the angle at the negative, in degrees."},
    {.name = "loss_angular_npair_ang_weight",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, weight),
     .fallback = "2",
     .max = INFINITY,
     .help = "Weight of the angular term relative to the N-pair term."},
    {.name = "loss_angular_npair_l2",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, l2),
     .fallback = "0.005",
     .max = INFINITY,
     .help = "Weight of the mean norm of the embeddings."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: angular", struct options, params);

static const double CLAMP = 50;

struct state {
    struct options options;
    double tan2; /* tan(alpha)^2 */
    struct dml_similarities similarities;
    struct dml_buffer memory;
};

/* One step. */
struct step {
    const struct options *options;
    const int32_t *labels;
    double tan2, share; /* share: 1 / pairs */
    double *inverse;    /* (n): 1 / ||e_i||, 0 for a zero embedding */
    double *along;      /* (n): component of dL/du_i along u_i */
    double *losses;     /* (pairs) */
    double *scales;     /* (pairs): of slopes */
    float *slopes;      /* (pairs, n): d angular / df of each sample, up to a pair's scale */
    float *h;           /* (n, n): the angular term's part of dL/ds, besides g */
};

static void destroy(void *data) {
    struct state *state = data;
    if (!state)
        return;
    dml_similarities_free(&state->similarities);
    dml_buffer_free(&state->memory);
    free(state);
}

static enum dml_status create(const void *options, const struct dml_criterion_context *context,
                              void **out) {
    (void)context;
    struct state *state = dml_alloc(1, sizeof *state);
    if (!state)
        return DML_ERROR_MEMORY;
    state->options = *(const struct options *)options;
    double tangent = tan(state->options.alpha * acos(-1) / 180);
    state->tan2 = tangent * tangent;
    *out = state;
    return DML_OK;
}

static enum dml_status start(struct state *state, const struct dml_batch *batch, size_t pairs,
                             struct step *step) {
    size_t n = batch->n;
    step->options = &state->options;
    step->labels = batch->labels;
    step->tan2 = state->tan2;
    step->share = 1 / (double)pairs;
    step->inverse = dml_buffer_reserve(&state->memory, 2 * (2 * n + 2 * pairs) + (n + pairs) * n,
                                       sizeof *step->slopes);
    if (!step->inverse)
        return DML_ERROR_MEMORY;
    step->along = step->inverse + n;
    step->losses = step->along + n;
    step->scales = step->losses + pairs;
    step->h = (float *)(step->scales + pairs);
    step->slopes = step->h + n * n;
    memset(step->h, 0, n * n * sizeof *step->h);
    double shortest = INFINITY;
    for (size_t i = 0; i < n; i++) {
        const float *x = batch->embeddings + i * batch->dim;
        double norm = sqrt(dml_dot(x, x, batch->dim));
        step->inverse[i] = norm < 1e-12 ? 0 : 1 / norm;
        shortest = norm < 1e-12 ? shortest : fmin(shortest, norm);
    }
    double slope = fmax(1, 4 * step->tan2 / (shortest * shortest));
    return dml_similarities_forward(&state->similarities, batch, slope, pairs);
}

/* The N-pair term of one pair; adds its gradient to g. `row`: products of a. */
static double npair_term(struct dml_similarities *s, const struct step *step, size_t a, size_t p,
                         const double *row) {
    double *x = dml_similarities_work(s), positive = row[p];
    float *g = s->g + a * s->n, *e = (float *)(x + s->n);
    int clamped = 0;
    for (size_t j = 0; j < s->n; j++) {
        double above = row[j] - positive, raised = above < -CLAMP ? -CLAMP : above;
        x[j] = raised > CLAMP ? CLAMP : raised;
        clamped |= x[j] != above;
    }
    struct dml_softplus terms = dml_softplus_negatives(step->labels, step->labels[a], s->n, x, e);
    const float share = (float)(step->share * terms.scale);
    double sum = step->share * terms.sum;
    if (clamped) {
        for (size_t j = 0; j < s->n; j++)
            e[j] = fabs(row[j] - positive) > CLAMP ? 0 : e[j];
        sum = share * dml_sum(e, s->n);
    }
#pragma omp simd
    for (size_t j = 0; j < s->n; j++)
        g[j] += share * e[j];
    g[p] -= (float)sum;
    return terms.value;
}

/* The angular term of pair t; fills in its slopes and the part through c_ap. `row_a`: products of
 * a. */
static double angular_term(struct dml_similarities *s, const struct step *step, size_t t, size_t a,
                           size_t p, const double *row_a) {
    double *x = dml_similarities_work(s);
    const double *row_p = dml_inner_products_row(&s->products, p, x + 3 * s->n);
    const double *inverse = step->inverse;
    const double inverse_a = inverse[a], inverse_p = inverse[p];
    double c_ap = row_a[p] * inverse_a * inverse_p;
    double outer = 4 * step->tan2, inner = 2 * (1 + step->tan2);
#pragma omp simd
    for (size_t j = 0; j < s->n; j++)
        x[j] = outer * inverse[j] * (row_a[j] * inverse_a + row_p[j] * inverse_p) - inner * c_ap;
    struct dml_softplus terms =
        dml_softplus_negatives(step->labels, step->labels[a], s->n, x, step->slopes + t * s->n);
    step->scales[t] = terms.scale;
    step->h[a * s->n + p] -=
        (float)(step->share * step->options->weight * inner * terms.sum * inverse_a * inverse_p);
    return terms.value;
}

/* Adds to row i of h what the pairs listed for it contribute. */
static void add_slopes(struct dml_similarities *s, const struct step *step, size_t i) {
    float *h = step->h + i * s->n;
    const double *inverse = step->inverse;
    for (uint32_t t = s->first[i]; t != DML_NO_TUPLE; t = s->next[t]) {
        const float *e = step->slopes + t * s->n;
        const double factor =
            step->share * step->options->weight * 4 * step->tan2 * inverse[i] * step->scales[t];
#pragma omp simd
        for (size_t j = 0; j < s->n; j++)
            h[j] += (float)(factor * inverse[j]) * e[j];
    }
}

/* dL/dE. The component of dL/du_i along u_i is sum_j h_ij s_ij, h being symmetric. */
static void backward(struct dml_similarities *s, const struct step *step,
                     const struct dml_batch *batch, float *grad) {
    size_t n = s->n, dim = s->dim;
    dml_fold(step->h, n);
    dml_fold(s->g, n);
#pragma omp parallel for if (n > 200)
    for (size_t i = 0; i < n; i++) {
        const float *h = step->h + i * n;
        const double *row = dml_inner_products_row(&s->products, i, dml_similarities_work(s));
        float *g = s->g + i * n;
        double sum = 0;
#pragma omp simd reduction(+ : sum)
        for (size_t j = 0; j < n; j++) {
            sum += h[j] * row[j];
            g[j] += h[j];
        }
        step->along[i] = sum * step->inverse[i] * step->inverse[i];
    }
    dml_similarities_product(s, false, grad);
    for (size_t i = 0; i < n; i++) {
        const float along = (float)step->along[i];
        for (size_t k = i * dim; k < (i + 1) * dim; k++)
            grad[k] -= along * batch->embeddings[k];
    }
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)rng;
    struct state *state = data;
    struct dml_similarities *s = &state->similarities;
    struct step step;
    size_t n = batch->n;
    enum dml_status status = start(state, batch, tuples->count, &step);
    if (status)
        return status;
    dml_loss_none(batch, tuples->count, grad, loss);
    dml_similarities_group(s, tuples->anchors, tuples->count);
    double sum = 0;
    size_t active = 0;
#pragma omp parallel for schedule(dynamic, 8) reduction(+ : active) if (n > 32)
    for (size_t a = 0; a < n; a++) {
        if (s->first[a] == DML_NO_TUPLE)
            continue;
        double *work = dml_similarities_work(s) + 2 * n;
        const double *row = dml_inner_products_row(&s->products, a, work);
        for (uint32_t t = s->first[a]; t != DML_NO_TUPLE; t = s->next[t]) {
            size_t p = (size_t)tuples->positives[t];
            double npair = npair_term(s, &step, a, p, row);
            double angular = angular_term(s, &step, t, a, p, row);
            step.losses[t] = npair + state->options.weight * angular;
            active += npair > 0 || angular > 0;
        }
        add_slopes(s, &step, a);
    }
    for (size_t t = 0; t < tuples->count; t++)
        sum += step.losses[t];
    loss->active = active;
    if (active == 0)
        return DML_OK;
    dml_similarities_group(s, tuples->positives, tuples->count);
#pragma omp parallel for schedule(dynamic, 8) if (n > 32)
    for (size_t p = 0; p < n; p++)
        add_slopes(s, &step, p);
    backward(s, &step, batch, grad);
    loss->value = sum * step.share + dml_norm_penalty(batch, state->options.l2, grad);
    return DML_OK;
}

const struct dml_criterion dml_criterion_angular = {
    .method = {.name = "angular",
               .summary = "Bounds the angle at the negative, alongside an N-pair term",
               .paper = "Wang et al. 2017, Deep metric learning with angular loss",
               .params = &table},
    .takes = DML_TUPLES_PAIRS,
    .create = create,
    .forward_backward = forward_backward,
    .destroy = destroy,
};
