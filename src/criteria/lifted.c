/* Generalised lifted structure loss. Hermans, Beyer, Leibe 2017, "In defense of the triplet loss
 * for person re-identification"; after Oh Song et al. 2016.
 *
 *     d(x, y) = ||x - y + 1e-6||
 *     L_a = [LSE_p d(a,p) + LSE_n (m - d(a,n))]+,  p: all of a's class, n: all others
 *     L = mean_a L_a + l2 mean_i ||e_i||
 *
 * An active anchor gives dL/dd(a,p) = softmax_p / A and dL/dd(a,n) = -softmax_n / A. With
 * w_ij = dL/dd_ij / d_ij and the offset o = 1e-6,
 *     dL/de_i = e_i sum_j (w_ij + w_ji) - sum_j (w_ij + w_ji) e_j + o sum_j (w_ij - w_ji).
 * An anchor without negatives costs nothing; when no anchor has both, the loss is 0. */
#include "criteria/similarities.h"

#include "math/linear.h"
#include "math/reduce.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct options {
    double neg_margin, l2;
};

static const struct dml_param params[] = {
    {.name = "loss_lifted_neg_margin",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, neg_margin),
     .fallback = "1",
     .max = INFINITY,
     .help = "Margin that the distances of negatives are subtracted from."},
    {.name = "loss_lifted_l2",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, l2),
     .fallback = "0.005",
     .max = INFINITY,
     .help = "Weight of the mean norm of the embeddings."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: lifted", struct options, params);

struct state {
    struct options options;
    struct dml_similarities similarities;
    struct dml_buffer memory;
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
    return dml_state_new(sizeof(struct state), options, sizeof(struct options), out);
}

/* One step. */
struct step {
    const struct dml_batch *batch;
    double margin;
    double least;      /* squared distances below this are recomputed */
    double *sums;      /* (n): of the components of an embedding */
    double *squares;   /* (n): squared norms */
    double *offsets;   /* (n): sum_j (w_ij - w_ji) */
    double *losses;    /* (anchors) */
    uint8_t *complete; /* (anchors): has positives and negatives */
};

/* Squared distances below this share of the largest squared norm (of products in float32: of the
 * largest squared distance from the mean) would be lost in rounding: they are recomputed. Below
 * NEAR, pulls are lost in float32. */
static const double LOST = 1e-7, LOST_NARROW = 1.0 / 32, NEAR = 1e-3;

static enum dml_status start(struct state *state, const struct dml_batch *batch, size_t anchors,
                             struct step *step) {
    size_t n = batch->n;
    struct dml_similarities *s = &state->similarities;
    step->batch = batch;
    step->margin = state->options.neg_margin;
    step->sums = dml_buffer_reserve(&state->memory, 3 * n + 2 * anchors, sizeof *step->sums);
    if (!step->sums)
        return DML_ERROR_MEMORY;
    step->offsets = step->sums + n;
    step->squares = step->offsets + n;
    step->losses = step->squares + n;
    step->complete = (uint8_t *)(step->losses + anchors);
    memset(step->offsets, 0, n * sizeof *step->offsets);
    enum dml_status status = dml_similarities_forward(s, batch, 1, anchors);
    if (status)
        return status;
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        const float *x = batch->embeddings + i * batch->dim;
        step->sums[i] = dml_sum(x, batch->dim);
        step->squares[i] = dml_dot(x, x, batch->dim);
        most = fmax(most, step->squares[i]);
    }
    step->least = s->products.wide ? LOST * most : LOST_NARROW * s->products.spread;
    return DML_OK;
}

/* Distances of sample i to all others into d (n), from inner products; `work` (n). */
static void distances(const struct step *step, const struct dml_similarities *s, size_t i,
                      double *d, double *work) {
    const double *row = dml_inner_products_row(&s->products, i, work);
    const double *sums = step->sums, *squares = step->squares;
    const double two_offsets = 2 * DML_PAIR_OFFSET, own = squares[i], sum = sums[i];
    const double constant = (double)s->dim * DML_PAIR_OFFSET * DML_PAIR_OFFSET;
    const double least = step->least;
    int lost = 0;
#pragma omp simd reduction(| : lost)
    for (size_t j = 0; j < s->n; j++) {
        double d2 = own + squares[j] - 2 * row[j] + two_offsets * (sum - sums[j]) + constant;
        lost |= !(d2 > least);
        d[j] = d2;
    }
    for (size_t j = 0; lost && j < s->n; j++)
        if (!(d[j] > least)) {
            double exact = dml_pair_distance(step->batch, i, j, DML_PAIR_OFFSET);
            d[j] = exact * exact;
        }
    if (s->products.wide) {
#pragma omp simd
        for (size_t j = 0; j < s->n; j++)
            d[j] = sqrt(d[j]);
    } else { /* rounded like the products */
#pragma omp simd
        for (size_t j = 0; j < s->n; j++)
            d[j] = sqrtf((float)d[j]);
    }
}

/* 1 for samples of the anchor's class, -1 for others, 0 for itself; the largest distance of the
 * former and the smallest of the latter, rounded, INFINITY or -INFINITY where there are none. */
static void compare(const struct step *step, size_t a, const double *d, float *signs,
                    double *farthest, double *nearest) {
    const int32_t *labels = step->batch->labels, label = labels[a];
    const int32_t none = dml_order(-INFINITY), any = dml_order(INFINITY);
    int32_t most = none, least = any;
    for (size_t j = 0; j < step->batch->n; j++)
        signs[j] = labels[j] == label ? 1.0f : -1.0f;
    signs[a] = 0;
    for (size_t j = 0; j < step->batch->n; j++) {
        int32_t order = dml_order((float)d[j]);
        int32_t positive = signs[j] > 0 ? order : none, negative = signs[j] < 0 ? order : any;
        most = positive > most ? positive : most;
        least = negative < least ? negative : least;
    }
    *farthest = dml_from_order(most);
    *nearest = dml_from_order(least);
}

/* Turns d (n) into w (n), a row of the weights w_ij above times the number of anchors, 0 where the
 * anchor costs nothing. Returns L_a; *complete: the anchor has positives and negatives. `signs` (n)
 * is workspace. */
static double anchor_terms(const struct step *step, size_t a, const double *d, float *e,
                           float *signs, uint8_t *complete) {
    size_t n = step->batch->n;
    double farthest, nearest, positives, negatives;
    compare(step, a, d, signs, &farthest, &nearest);
    *complete = isfinite(farthest) && isfinite(nearest);
    if (!*complete)
        return 0;
#pragma omp simd
    for (size_t j = 0; j < n; j++)
        e[j] = (float)(signs[j] > 0 ? d[j] - farthest : nearest - d[j]);
#pragma omp simd
    for (size_t j = 0; j < n; j++) {
        float value = dml_expf(e[j]);
        e[j] = signs[j] != 0 ? value : 0.0f;
    }
    dml_sum_by_sign(e, signs, n, &positives, &negatives);
    double value = farthest + log(positives) + step->margin - nearest + log(negatives);
    if (value <= 0)
        return 0;
    const float positive = (float)(1 / positives), negative = (float)(-1 / negatives);
#pragma omp simd
    for (size_t j = 0; j < n; j++) {
        float distance = (float)d[j], share = e[j] * (signs[j] > 0 ? positive : negative);
        e[j] = distance > 0 ? share / distance : 0.0f;
    }
    return value;
}

static void anchor(struct dml_similarities *s, const struct step *step, size_t t, size_t a) {
    double *d = dml_similarities_work(s);
    float *g = s->g + a * s->n, *w = (float *)(d + s->n), *signs = w + s->n;
    distances(step, s, a, d, d + 2 * s->n);
    step->losses[t] = anchor_terms(step, a, d, w, signs, &step->complete[t]);
    for (size_t j = 0; step->losses[t] > 0 && j < s->n; j++)
        g[j] += w[j];
}

/* sum_j (w_ij - w_ji) from the weights in g, in row order. */
static void sum_offsets(const struct dml_similarities *s, double *offsets) {
    for (size_t i = 0; i < s->n; i++) {
        const float *g = s->g + i * s->n;
        double sum = 0;
#pragma omp simd reduction(+ : sum)
        for (size_t j = 0; j < s->n; j++) {
            sum += g[j];
            offsets[j] -= g[j];
        }
        offsets[i] += sum;
    }
}

/* Row i of the symmetric weights: samples that nearly coincide pull on each other one by one, into
 * `pull` (dim), and their weight becomes 0. Returns the sum of the other weights. */
static double pull_near(struct dml_similarities *s, const struct step *step, size_t i,
                        float *pull) {
    size_t n = s->n, dim = s->dim;
    float *g = s->g + i * n;
    const double *row = dml_inner_products_row(&s->products, i, dml_similarities_work(s));
    const double *squares = step->squares, own = (1 - NEAR) * squares[i];
    const float *x = s->embeddings + i * dim;
    double sum = 0;
    int near = 0;
    memset(pull, 0, dim * sizeof *pull);
#pragma omp simd reduction(+ : sum) reduction(| : near)
    for (size_t j = 0; j < n; j++) {
        near |= own + (1 - NEAR) * squares[j] < 2 * row[j] && g[j] != 0;
        sum += g[j];
    }
    for (size_t j = 0; near && j < n; j++) {
        if (g[j] == 0 || own + (1 - NEAR) * squares[j] >= 2 * row[j])
            continue;
        const float *other = s->embeddings + j * dim;
        for (size_t k = 0; k < dim; k++)
            pull[k] += (float)(g[j] * ((double)x[k] - other[k]));
        sum -= g[j];
        g[j] = 0;
    }
    return sum;
}

/* dL/dE times the number of anchors into grad, with the sign of -g. */
static void backward(struct dml_similarities *s, const struct step *step, float *grad) {
    size_t n = s->n, dim = s->dim;
    sum_offsets(s, step->offsets);
    dml_fold(s->g, n);
#pragma omp parallel for if (n > 200)
    for (size_t i = 0; i < n; i++) {
        const float *x = s->embeddings + i * dim;
        const double offset = DML_PAIR_OFFSET * step->offsets[i];
        double total = pull_near(s, step, i, grad + i * dim);
#pragma omp simd
        for (size_t k = 0; k < dim; k++)
            grad[i * dim + k] = -(float)(grad[i * dim + k] + total * x[k] + offset);
    }
    dml_similarities_product(s, true, grad);
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)rng;
    struct state *state = data;
    struct dml_similarities *s = &state->similarities;
    struct step step;
    size_t complete = 0;
    enum dml_status status = start(state, batch, tuples->count, &step);
    if (status)
        return status;
    dml_loss_none(batch, tuples->count, grad, loss);
    dml_similarities_group(s, tuples->anchors, tuples->count);
#pragma omp parallel for schedule(dynamic, 8) if (batch->n > 32)
    for (size_t a = 0; a < batch->n; a++)
        for (uint32_t t = s->first[a]; t != DML_NO_TUPLE; t = s->next[t])
            anchor(s, &step, t, a);
    double total = 0;
    for (size_t t = 0; t < tuples->count; t++) {
        complete += step.complete[t];
        total += step.losses[t];
        loss->active += step.losses[t] > 0;
    }
    if (complete == 0)
        return DML_OK;
    double scale = 1 / (double)tuples->count;
    backward(s, &step, grad);
    const float share = (float)-scale;
    for (size_t i = 0; i < batch->n * batch->dim; i++)
        grad[i] *= share;
    loss->value = total * scale + dml_norm_penalty(batch, state->options.l2, grad);
    return DML_OK;
}

const struct dml_criterion dml_criterion_lifted = {
    .method = {.name = "lifted",
               .summary = "Soft maximum over all positives and all negatives of an anchor",
               .paper = "Hermans et al. 2017, In defense of the triplet loss for person "
                        "re-identification",
               .params = &table},
    .takes = DML_TUPLES_SETS,
    .create = create,
    .forward_backward = forward_backward,
    .destroy = destroy,
};
