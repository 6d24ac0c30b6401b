/* Histogram loss. Ustinova, Lempitsky 2016, "Learning deep embeddings with histogram loss".
 *
 *     Each pair i < j is shared between two of R nodes, which are w = 2 / (R - 1) apart on [-1, 1]:
 *     with b = floor((s_ij + 1) / w) and f = (s_ij + 1) / w - b, node b gets 1 - f and node b+1 f.
 *     h+, h-: these histograms of positive and negative pairs, over their counts N+, N-
 *     L = sum_r h-_r sum_{q<=r} h+_q
 *
 * Moving a pair from node b to b+1 changes L by h+_{b+1} for a negative and by -h-_b for a positive
 * pair, so dL/ds = h+_{b+1} / (w N-) and -h-_b / (w N+): one table look-up per pair. Similarities
 * beyond [-1, 1] count as its ends and have no gradient. Without positive or negative pairs the
 * loss is 0. */
#include "criteria/similarities.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct options {
    int64_t nbins;
};

static const struct dml_param params[] = {
    {.name = "loss_histogram_nbins",
     .type = DML_PARAM_INT,
     .offset = offsetof(struct options, nbins),
     .fallback = "65",
     .min = 2,
     .max = 1000000,
     .help = "Nodes of the histograms on [-1, 1]."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: histogram", struct options, params);

struct state {
    size_t nbins;
    double *histograms[2]; /* (nbins) of negative and of positive pairs */
    double *slopes[2];     /* (nbins) dL/ds of a pair in bin b */
    struct dml_similarities similarities;
};

static void destroy(void *data) {
    struct state *state = data;
    if (!state)
        return;
    free(state->histograms[0]);
    dml_similarities_free(&state->similarities);
    free(state);
}

static enum dml_status create(const void *options, const struct dml_criterion_context *context,
                              void **out) {
    (void)context;
    struct state *state = dml_alloc(1, sizeof *state);
    if (!state)
        return DML_ERROR_MEMORY;
    size_t nbins = (size_t)((const struct options *)options)->nbins;
    double *memory = dml_alloc(4 * nbins, sizeof *memory);
    if (!memory) {
        free(state);
        return DML_ERROR_MEMORY;
    }
    state->nbins = nbins;
    for (size_t i = 0; i < 2; i++) {
        state->histograms[i] = memory + i * nbins;
        state->slopes[i] = memory + (2 + i) * nbins;
    }
    *out = state;
    return DML_OK;
}

/* The bin of a similarity, and in *fraction how far it is on the way to the next node. */
static size_t bin_of(double s, double width, size_t nbins, double *fraction) {
    double raised = s < -1 ? -1 : s, at = ((raised > 1 ? 1 : raised) + 1) / width;
    size_t bin = (size_t)at < nbins - 1 ? (size_t)at : nbins - 2; /* s = 1: all of the last node */
    *fraction = at - (double)bin;
    return bin;
}

/* Fills the histograms, divided by counts[2] of negative and positive pairs. */
static void count_pairs(struct state *state, const int32_t *labels, double width,
                        double counts[2]) {
    const struct dml_similarities *s = &state->similarities;
    counts[0] = counts[1] = 0;
    memset(state->histograms[0], 0, 2 * state->nbins * sizeof(double));
    for (size_t i = 0; i < s->n; i++)
        for (size_t j = i + 1; j < s->n; j++) {
            double fraction;
            size_t bin = bin_of(s->products.s[i * s->n + j], width, state->nbins, &fraction);
            int same = labels[i] == labels[j];
            state->histograms[same][bin] += 1 - fraction;
            state->histograms[same][bin + 1] += fraction;
            counts[same]++;
        }
    for (int same = 0; same < 2; same++)
        for (size_t r = 0; r < state->nbins; r++)
            state->histograms[same][r] /= fmax(counts[same], 1);
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)tuples, (void)rng;
    struct state *state = data;
    struct dml_similarities *s = &state->similarities;
    /* A similarity on the wrong side of a node changes the gradient. */
    enum dml_status status = dml_similarities_forward(s, batch, INFINITY, 0);
    if (status)
        return status;
    double width = 2 / (double)(state->nbins - 1), counts[2], below = 0;
    count_pairs(state, batch->labels, width, counts);
    dml_loss_none(batch, (size_t)(counts[0] + counts[1]), grad, loss);
    if (counts[0] == 0 || counts[1] == 0)
        return DML_OK;
    for (size_t r = 0; r < state->nbins; r++) {
        below += state->histograms[1][r];
        loss->value += state->histograms[0][r] * below;
    }
    for (size_t b = 0; b + 1 < state->nbins; b++) {
        state->slopes[0][b] = state->histograms[1][b + 1] / (width * counts[0]);
        state->slopes[1][b] = -state->histograms[0][b] / (width * counts[1]);
    }
    size_t active = 0;
#pragma omp parallel for schedule(dynamic, 16) reduction(+ : active) if (s->n > 64)
    for (size_t i = 0; i < s->n; i++)
        for (size_t j = i + 1; j < s->n; j++) {
            double fraction, similarity = s->products.s[i * s->n + j];
            size_t bin = bin_of(similarity, width, state->nbins, &fraction);
            double slope = state->slopes[batch->labels[i] == batch->labels[j]][bin];
            s->g[i * s->n + j] = (float)(fabs(similarity) > 1 ? 0 : slope);
            active += s->g[i * s->n + j] != 0;
        }
    loss->active = active;
    memcpy(grad, dml_similarities_backward(s), s->n * s->dim * sizeof *grad);
    return DML_OK;
}

const struct dml_criterion dml_criterion_histogram = {
    .method = {.name = "histogram",
               .summary = "Overlap of the histograms of positive and negative similarities",
               .paper = "Ustinova and Lempitsky 2016, Learning deep embeddings with histogram loss",
               .params = &table},
    .takes = DML_TUPLES_NONE,
    .create = create,
    .forward_backward = forward_backward,
    .destroy = destroy,
};
