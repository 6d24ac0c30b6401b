/* Angular loss. Wang, Zhou, Wen, Liu, Lin 2017, "Deep metric learning with angular loss".
 *
 *     u_i = e_i / ||e_i||,  c_ij = <u_i, u_j>,  s_ij = <e_i, e_j>,  t = tan(alpha)
 *     f_n = 4 t^2 (c_an + c_pn) - 2 (1 + t^2) c_ap
 *     angular = mean_a log(1 + sum_n exp f_n)
 *     npair   = mean_a log(1 + sum_n exp clamp(s_an - s_ap, -50, 50))
 *     L = npair + weight angular + l2 mean_i ||e_i||,  n: all samples of other classes
 *
 * Both terms have dL/dx_n = exp(x_n - L_a), 0 where clamped. Gradients by c go into those by s:
 * c_ij = s_ij / (||e_i|| ||e_j||), so dL/dc_ij = v adds v / (||e_i|| ||e_j||) to dL/ds_ij and
 * -v c_ij e_i / ||e_i||^2 to dL/de_i, likewise to e_j. A pair without negatives costs nothing; when
 * no pair has any, the loss is 0. */
#include "criteria/similarities.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>

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
     .help = "Weight of the angular term beside the N-pair term."},
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

/* Arrays of n for one step. */
struct rows {
    double *inverse; /* 1 / ||e_i||, 0 for a zero embedding */
    double *along;   /* sum_j v_ij c_ij: how much of the gradient by u_i is along u_i */
    double *x;
    float *e;
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

static enum dml_status start(struct state *state, const struct dml_batch *batch,
                             struct rows *rows) {
    size_t n = batch->n;
    rows->inverse = dml_buffer_reserve(&state->memory, 4 * n, sizeof *rows->inverse);
    if (!rows->inverse)
        return DML_ERROR_MEMORY;
    rows->along = rows->inverse + n;
    rows->x = rows->along + n;
    rows->e = (float *)(rows->x + n);
    enum dml_status status = dml_similarities_forward(&state->similarities, batch);
    for (size_t i = 0; !status && i < n; i++) {
        double norm = sqrt(state->similarities.s[i * n + i]);
        rows->inverse[i] = norm < 1e-12 ? 0 : 1 / norm;
        rows->along[i] = 0;
    }
    return status;
}

/* The N-pair term of one pair; adds `weight` times its gradient to g. */
static double npair_term(struct dml_similarities *s, const int32_t *labels, size_t a, size_t p,
                         double weight, const struct rows *rows) {
    const double *row = s->s + a * s->n;
    double *g = s->g + a * s->n, *x = rows->x, sum = 0;
    for (size_t j = 0; j < s->n; j++) {
        double above = row[j] - row[p], raised = above < -CLAMP ? -CLAMP : above;
        x[j] = raised > CLAMP ? CLAMP : raised;
    }
    double value = dml_softplus_negatives(labels, labels[a], s->n, x, rows->e);
    for (size_t j = 0; j < s->n; j++) {
        double pull = fabs(row[j] - row[p]) > CLAMP ? 0 : weight * x[j];
        g[j] += pull;
        sum += pull;
    }
    g[p] -= sum;
    return value;
}

/* The angular term of one pair, likewise. */
static double angular_term(struct dml_similarities *s, const int32_t *labels, double tan2, size_t a,
                           size_t p, double weight, const struct rows *rows) {
    const double *row_a = s->s + a * s->n, *row_p = s->s + p * s->n, *inverse = rows->inverse;
    double *g_a = s->g + a * s->n, *g_p = s->g + p * s->n, *x = rows->x, *along = rows->along;
    double c_ap = row_a[p] * inverse[a] * inverse[p], sum = 0, sum_a = 0, sum_p = 0;
    double outer = 4 * tan2, inner = 2 * (1 + tan2);
    for (size_t j = 0; j < s->n; j++)
        x[j] = outer * inverse[j] * (row_a[j] * inverse[a] + row_p[j] * inverse[p]) - inner * c_ap;
    double value = dml_softplus_negatives(labels, labels[a], s->n, x, rows->e);
    for (size_t j = 0; j < s->n; j++) {
        double v = weight * outer * x[j] * inverse[j];
        double v_a = v * inverse[a], v_p = v * inverse[p];
        g_a[j] += v_a;
        g_p[j] += v_p;
        sum_a += v_a * row_a[j];
        sum_p += v_p * row_p[j];
        along[j] += v_a * row_a[j] + v_p * row_p[j];
        sum += x[j];
    }
    double v = weight * inner * sum;
    g_a[p] -= v * inverse[a] * inverse[p];
    along[a] += sum_a - v * c_ap;
    along[p] += sum_p - v * c_ap;
    return value;
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)rng;
    struct state *state = data;
    struct dml_similarities *s = &state->similarities;
    const struct options *options = &state->options;
    struct rows rows;
    enum dml_status status = start(state, batch, &rows);
    if (status)
        return status;
    dml_loss_none(batch, tuples->count, grad, loss);
    double sum = 0, share = 1 / (double)tuples->count;
    for (size_t t = 0; t < tuples->count; t++) {
        size_t a = (size_t)tuples->anchors[t], p = (size_t)tuples->positives[t];
        double npair = npair_term(s, batch->labels, a, p, share, &rows);
        double angular =
            angular_term(s, batch->labels, state->tan2, a, p, share * options->weight, &rows);
        sum += npair + options->weight * angular;
        loss->active += npair > 0 || angular > 0;
    }
    if (loss->active == 0)
        return DML_OK;
    const double *back = dml_similarities_backward(s);
    for (size_t i = 0; i < s->n; i++) {
        double along = rows.along[i] * rows.inverse[i] * rows.inverse[i];
        for (size_t k = i * s->dim; k < (i + 1) * s->dim; k++)
            grad[k] = (float)(back[k] - along * s->x[k]);
    }
    loss->value = sum * share + dml_norm_penalty(batch, options->l2, grad);
    return DML_OK;
}

const struct dml_criterion dml_criterion_angular = {
    .method = {.name = "angular",
               .summary = "Bounds the angle at the negative, beside an N-pair term",
               .paper = "Wang et al. 2017, Deep metric learning with angular loss",
               .params = &table},
    .takes = DML_TUPLES_PAIRS,
    .create = create,
    .forward_backward = forward_backward,
    .destroy = destroy,
};
