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

#include "math/transcendental.h"

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

/* Distances of sample i to all others into d (n), from inner products; those that would be lost in
 * rounding are computed anew. sums (n): of the components of each embedding. */
static void distances(const struct dml_batch *batch, const struct dml_similarities *s, size_t i,
                      const double *sums, double *d) {
    size_t n = batch->n;
    const double *row = s->s + i * n;
    double own = row[i], most = own,
           constant = (double)batch->dim * DML_PAIR_OFFSET * DML_PAIR_OFFSET;
    for (size_t j = 0; j < n; j++)
        most = s->s[j * n + j] > most ? s->s[j * n + j] : most;
    for (size_t j = 0; j < n; j++) {
        double d2 = own + s->s[j * n + j] - 2 * row[j];
        d[j] = d2 + 2 * DML_PAIR_OFFSET * (sums[i] - sums[j]) + constant;
    }
    for (size_t j = 0; j < n; j++)
        d[j] = d[j] > 1e-7 * most ? sqrt(d[j]) : dml_pair_distance(batch, i, j, DML_PAIR_OFFSET);
}

/* Turns d (n) into w (n), a row of the weights w_ij above times the number of anchors. Returns
 * L_a; *complete: the anchor has positives and negatives. */
static double anchor_terms(const struct dml_batch *batch, size_t a, double margin, double *d,
                           float *e, bool *complete) {
    size_t n = batch->n;
    int32_t label = batch->labels[a];
    double farthest = -INFINITY, nearest = INFINITY, positives = 0, negatives = 0;
    for (size_t j = 0; j < n; j++) {
        bool same = batch->labels[j] == label;
        farthest = same && j != a && d[j] > farthest ? d[j] : farthest;
        nearest = !same && d[j] < nearest ? d[j] : nearest;
    }
    *complete = isfinite(farthest) && isfinite(nearest);
    if (!*complete)
        return 0;
#pragma omp simd
    for (size_t j = 0; j < n; j++)
        e[j] = dml_expf((float)(batch->labels[j] == label ? d[j] - farthest : nearest - d[j]));
    e[a] = 0;
    for (size_t j = 0; j < n; j++) {
        positives += batch->labels[j] == label ? e[j] : 0;
        negatives += batch->labels[j] == label ? 0 : e[j];
    }
    double value = farthest + log(positives) + margin - nearest + log(negatives);
    for (size_t j = 0; j < n; j++) {
        double share = batch->labels[j] == label ? e[j] / positives : -e[j] / negatives;
        d[j] = value > 0 && d[j] > 0 ? share / d[j] : 0;
    }
    return fmax(value, 0);
}

/* dL/dE from the weights in g, which become symmetric; offsets (n) holds sum_j (w_ij - w_ji). */
static void backward(struct dml_similarities *s, const double *offsets, double scale, float *grad) {
    size_t n = s->n, dim = s->dim;
    const double *pulled = dml_similarities_backward(s);
    for (size_t i = 0; i < n; i++) {
        double total = 0;
        for (size_t j = 0; j < n; j++)
            total += s->g[i * n + j];
        for (size_t k = 0; k < dim; k++)
            grad[i * dim + k] = (float)(scale * (total * s->x[i * dim + k] - pulled[i * dim + k] +
                                                 DML_PAIR_OFFSET * offsets[i]));
    }
}

static void sum_components(const struct dml_similarities *s, double *sums) {
    for (size_t i = 0; i < s->n; i++) {
        sums[i] = 0;
        for (size_t k = 0; k < s->dim; k++)
            sums[i] += s->x[i * s->dim + k];
    }
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)rng;
    struct state *state = data;
    struct dml_similarities *s = &state->similarities;
    size_t n = batch->n, complete = 0;
    double *sums = dml_buffer_reserve(&state->memory, 4 * n, sizeof *sums);
    if (!sums)
        return DML_ERROR_MEMORY;
    enum dml_status status = dml_similarities_forward(s, batch);
    if (status)
        return status;
    double *offsets = sums + n, *d = offsets + n, total = 0;
    float *e = (float *)(d + n);
    memset(offsets, 0, n * sizeof *offsets);
    sum_components(s, sums);
    dml_loss_none(batch, tuples->count, grad, loss);
    for (size_t t = 0; t < tuples->count; t++) {
        size_t a = (size_t)tuples->anchors[t];
        bool counts;
        distances(batch, s, a, sums, d);
        double value = anchor_terms(batch, a, state->options.neg_margin, d, e, &counts);
        complete += counts;
        total += value;
        loss->active += value > 0;
        if (value <= 0)
            continue;
        for (size_t j = 0; j < n; j++) {
            s->g[a * n + j] += d[j];
            offsets[a] += d[j];
            offsets[j] -= d[j];
        }
    }
    if (complete == 0)
        return DML_OK;
    double scale = 1 / (double)tuples->count;
    backward(s, offsets, scale, grad);
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
