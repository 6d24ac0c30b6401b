/* N-pair loss. Sohn 2016, "Improved deep metric learning with multi-class N-pair loss objective".
 *
 *     L_a = log(1 + sum_n exp(s_an - s_ap)),  n: all samples of other classes
 *     L = mean_a L_a + l2 mean_i ||e_i||
 *
 * With q_n = exp(s_an - s_ap - L_a): dL/ds_an = q_n / A and dL/ds_ap = -sum_n q_n / A over A pairs.
 * With a bninception backbone all embeddings are first divided by 4, as in the study. A pair
 * without negatives costs nothing; when no pair has any, the loss is 0. */
#include "criteria/exponentials.h"
#include "criteria/similarities.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct options {
    double l2;
};

static const struct dml_param params[] = {
    {.name = "loss_npair_l2",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, l2),
     .fallback = "0.005",
     .max = INFINITY,
     .help = "Weight of the mean norm of the embeddings."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: npair", struct options, params);

struct state {
    struct options options;
    double scale; /* of the embeddings */
    struct dml_similarities similarities;
    struct dml_exponentials exponentials;
    struct dml_buffer memory;
};

/* A step on exponentials k_ij = exp s_ij, where S_a is the sum over the negatives of a: L_a = log(1
 * + S_a / k_ap), dL/ds_an = k_an / (k_ap + S_a) and dL/ds_ap = -S_a / (k_ap + S_a). */
struct step {
    const struct dml_exponentials *exponentials;
    const struct dml_tuples *tuples;
    const int32_t *labels;
    double *losses; /* (pairs) */
    float *pulls;   /* (pairs): -dL/ds_ap */
    float *rates;   /* (n): the sum of 1 / (k_ap + S_a) over the pairs of a */
    uint32_t *of_anchor, *next_of_anchor, *of_positive, *next_of_positive; /* lists of pairs */
};

static void destroy(void *data) {
    struct state *state = data;
    if (!state)
        return;
    dml_similarities_free(&state->similarities);
    dml_exponentials_free(&state->exponentials);
    dml_buffer_free(&state->memory);
    free(state);
}

static enum dml_status create(const void *options, const struct dml_criterion_context *context,
                              void **out) {
    struct state *state = dml_alloc(1, sizeof *state);
    if (!state)
        return DML_ERROR_MEMORY;
    state->options = *(const struct options *)options;
    state->scale = context->arch && strstr(context->arch, "bninception") ? 0.25 : 1;
    *out = state;
    return DML_OK;
}

/* L_a of tuple t; adds dL_a/ds times the number of pairs to g. */
static double pair(struct dml_similarities *s, const int32_t *labels, size_t a, size_t p,
                   double scale2) {
    double *x = dml_similarities_work(s);
    const double *row = dml_inner_products_row(&s->products, a, x + 2 * s->n), positive = row[p];
    float *g = s->g + a * s->n, *e = (float *)(x + s->n);
#pragma omp simd
    for (size_t j = 0; j < s->n; j++)
        x[j] = scale2 * (row[j] - positive);
    struct dml_softplus terms = dml_softplus_negatives(labels, labels[a], s->n, x, e);
    const float scale = (float)terms.scale;
#pragma omp simd
    for (size_t j = 0; j < s->n; j++)
        g[j] += scale * e[j];
    g[p] -= (float)terms.sum;
    return terms.value;
}

/* The pairs' losses; no exponentials. */
static enum dml_status by_similarities(struct state *state, const struct dml_batch *batch,
                                       const struct dml_tuples *tuples, float *grad,
                                       double *losses) {
    struct dml_similarities *s = &state->similarities;
    const double scale2 = state->scale * state->scale;
    enum dml_status status = dml_similarities_forward(s, batch, scale2, tuples->count);
    if (status)
        return status;
    dml_similarities_group(s, tuples->anchors, tuples->count);
#pragma omp parallel for schedule(dynamic, 8) if (batch->n > 32)
    for (size_t a = 0; a < batch->n; a++)
        for (uint32_t t = s->first[a]; t != DML_NO_TUPLE; t = s->next[t])
            losses[t] = pair(s, batch->labels, a, (size_t)tuples->positives[t], scale2);
    const float *back = dml_similarities_backward(s);
    const float share = (float)(scale2 / (double)tuples->count);
    for (size_t i = 0; i < batch->n * batch->dim; i++)
        grad[i] = share * back[i];
    return DML_OK;
}

static void anchor(const struct step *step, size_t a) {
    const size_t n = step->exponentials->symmetric.n;
    const float *k = step->exponentials->k + a * n;
    double rate = 0, sum = 0;
    uint32_t t = step->of_anchor[a];
    if (t != DML_NO_TUPLE)
        sum = dml_sum_by_label(k, step->labels, step->labels[a], n).others;
    for (; t != DML_NO_TUPLE; t = step->next_of_anchor[t]) {
        const double positive = k[step->tuples->positives[t]], share = 1 / (positive + sum);
        step->losses[t] = log1p(sum / positive);
        step->pulls[t] = (float)(sum * share);
        rate += share;
    }
    step->rates[a] = (float)rate;
}

/* Row i of dL/ds + (dL/ds)^T. */
static void fill(const void *data, size_t i, float *f) {
    const struct step *step = data;
    const size_t n = step->exponentials->symmetric.n;
    const float *k = step->exponentials->k + i * n, *rates = step->rates, own = rates[i];
    const int32_t *labels = step->labels, label = labels[i];
#pragma omp simd
    for (size_t j = 0; j < n; j++) {
        float value = k[j] * (own + rates[j]);
        f[j] = labels[j] != label ? value : 0.0f;
    }
    for (uint32_t t = step->of_anchor[i]; t != DML_NO_TUPLE; t = step->next_of_anchor[t])
        f[step->tuples->positives[t]] -= step->pulls[t];
    for (uint32_t t = step->of_positive[i]; t != DML_NO_TUPLE; t = step->next_of_positive[t])
        f[step->tuples->anchors[t]] -= step->pulls[t];
}

static void by_exponentials(const struct step *step, double scale, float *grad) {
    const size_t n = step->exponentials->symmetric.n, count = step->tuples->count;
    dml_group_tuples(step->tuples->anchors, count, n, step->of_anchor, step->next_of_anchor);
    dml_group_tuples(step->tuples->positives, count, n, step->of_positive, step->next_of_positive);
#pragma omp parallel for schedule(dynamic, 8) if (n > 128)
    for (size_t a = 0; a < n; a++)
        anchor(step, a);
    dml_symmetric_backward(&step->exponentials->symmetric, fill, step, scale, grad);
}

/* Whether some pair is a sample with itself, of which there is no exponential. */
static bool with_itself(const struct dml_tuples *tuples) {
    for (size_t t = 0; t < tuples->count; t++)
        if (tuples->anchors[t] == tuples->positives[t])
            return true;
    return false;
}

static bool lay_out(struct state *state, const struct dml_batch *batch,
                    const struct dml_tuples *tuples, struct step *step) {
    const size_t n = batch->n, count = tuples->count;
    *step = (struct step){
        .exponentials = &state->exponentials, .tuples = tuples, .labels = batch->labels};
    step->losses = dml_buffer_reserve(&state->memory, 5 * count + 3 * n, sizeof *step->pulls);
    if (!step->losses)
        return false;
    step->pulls = (float *)(step->losses + count);
    step->rates = step->pulls + count;
    step->of_anchor = (uint32_t *)(step->rates + n);
    step->of_positive = step->of_anchor + n;
    step->next_of_anchor = step->of_positive + n;
    step->next_of_positive = step->next_of_anchor + count;
    return true;
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)rng;
    struct state *state = data;
    const double scale2 = state->scale * state->scale;
    struct step step;
    bool fits = false;
    enum dml_status status = lay_out(state, batch, tuples, &step) ? DML_OK : DML_ERROR_MEMORY;
    if (!status && !with_itself(tuples))
        status = dml_exponentials_forward(&state->exponentials, batch, false, scale2, &fits);
    if (status)
        return status;
    if (fits)
        by_exponentials(&step, scale2 / (double)tuples->count, grad);
    else
        status = by_similarities(state, batch, tuples, grad, step.losses);
    if (status)
        return status;
    double sum = 0;
    size_t active = 0;
    for (size_t t = 0; t < tuples->count; t++) {
        sum += step.losses[t];
        active += step.losses[t] > 0;
    }
    if (active == 0)
        return dml_loss_none(batch, tuples->count, grad, loss);
    *loss = (struct dml_loss){.tuples = tuples->count, .active = active};
    loss->value = sum / (double)tuples->count +
                  dml_norm_penalty(batch, state->options.l2 * state->scale, grad);
    return DML_OK;
}

const struct dml_criterion dml_criterion_npair = {
    .method = {.name = "npair",
               .summary = "One positive against all samples of other classes",
               .paper = "Sohn 2016, Improved deep metric learning with multi-class N-pair loss "
                        "objective",
               .params = &table},
    .takes = DML_TUPLES_PAIRS,
    .create = create,
    .forward_backward = forward_backward,
    .destroy = destroy,
};
