/* N-pair loss. Sohn 2016, "Improved deep metric learning with multi-class N-pair loss objective".
 *
 *     L_a = log(1 + sum_n exp(s_an - s_ap)),  n: all samples of other classes
 *     L = mean_a L_a + l2 mean_i ||e_i||
 *
 * With q_n = exp(s_an - s_ap - L_a): dL/ds_an = q_n / A and dL/ds_ap = -sum_n q_n / A over A pairs.
 * With a bninception backbone all embeddings are first divided by 4, as in the study. A pair
 * without negatives costs nothing; when no pair has any, the loss is 0. */
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

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)rng;
    struct state *state = data;
    struct dml_similarities *s = &state->similarities;
    double *losses = dml_buffer_reserve(&state->memory, tuples->count, sizeof *losses);
    if (!losses)
        return DML_ERROR_MEMORY;
    double sum = 0, scale2 = state->scale * state->scale;
    enum dml_status status = dml_similarities_forward(s, batch, scale2, tuples->count);
    if (status)
        return status;
    dml_loss_none(batch, tuples->count, grad, loss);
    dml_similarities_group(s, tuples->anchors, tuples->count);
#pragma omp parallel for schedule(dynamic, 8) if (batch->n > 32)
    for (size_t a = 0; a < batch->n; a++)
        for (uint32_t t = s->first[a]; t != DML_NO_TUPLE; t = s->next[t])
            losses[t] = pair(s, batch->labels, a, (size_t)tuples->positives[t], scale2);
    for (size_t t = 0; t < tuples->count; t++) {
        sum += losses[t];
        loss->active += losses[t] > 0;
    }
    if (loss->active == 0)
        return DML_OK;
    const float *back = dml_similarities_backward(s),
                share = (float)(scale2 / (double)tuples->count);
    for (size_t i = 0; i < batch->n * batch->dim; i++)
        grad[i] = back[i] * share;
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
