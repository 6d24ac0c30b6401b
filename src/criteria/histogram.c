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

/* What falls into one place: a bin, or beyond an end. */
struct tally {
    double count, fractions; /* fractions: the sum of how far pairs are on the way to node b + 1 */
};

/* Place 0 is below -1, place b + 1 is bin b, and place nbins is above 1. Those of positive pairs
 * follow those of negative ones. */
struct state {
    size_t nbins, groups;
    struct tally *tallies; /* (groups, 2, nbins + 1) */
    double *histograms[2]; /* (nbins) of negative and of positive pairs */
    float *slopes;         /* (2, nbins + 1) dL/ds of a pair */
    struct dml_similarities similarities;
    struct dml_buffer places; /* (n, n) int32: of pair i < j */
};

/* Rows are tallied in so many groups, whatever the number of threads; with more bins than MANY the
 * groups' tallies would not stay in cache. */
enum { GROUPS = 8, MANY = 1000 };

static void destroy(void *data) {
    struct state *state = data;
    if (!state)
        return;
    free(state->tallies);
    dml_similarities_free(&state->similarities);
    dml_buffer_free(&state->places);
    free(state);
}

static enum dml_status create(const void *options, const struct dml_criterion_context *context,
                              void **out) {
    (void)context;
    struct state *state = dml_alloc(1, sizeof *state);
    if (!state)
        return DML_ERROR_MEMORY;
    const size_t nbins = (size_t)((const struct options *)options)->nbins;
    state->nbins = nbins;
    state->groups = nbins > MANY ? 1 : GROUPS;
    const size_t tallies = 2 * state->groups * (nbins + 1);
    /* a tally is two doubles, and a pair of slopes one */
    state->tallies = dml_alloc(2 * tallies + 2 * nbins + nbins + 1, sizeof(double));
    if (!state->tallies) {
        free(state);
        return DML_ERROR_MEMORY;
    }
    state->histograms[0] = (double *)(state->tallies + tallies);
    state->histograms[1] = state->histograms[0] + nbins;
    state->slopes = (float *)(state->histograms[1] + nbins);
    *out = state;
    return DML_OK;
}

/* The places of a row's pairs, m similarities s with samples of `labels`, and how far each is on
 * the way to the next node. */
static void find_places(const double *s, const int32_t *labels, int32_t label, size_t m,
                        size_t nbins, int32_t *places, double *fractions) {
    const double width = 2 / (double)(nbins - 1), last_bin = (double)(nbins - 2);
    const int32_t above = (int32_t)nbins, positive = above + 1;
#pragma omp simd
    for (size_t j = 0; j < m; j++) {
        double raised = s[j] < -1 ? -1 : s[j], at = ((raised > 1 ? 1 : raised) + 1) / width;
        int32_t bin = (int32_t)(at > last_bin ? last_bin : at); /* s = 1: all of the last node */
        int32_t place = s[j] < -1 ? 0 : s[j] > 1 ? above : bin + 1;
        places[j] = place + (labels[j] == label ? positive : 0);
        fractions[j] = s[j] < -1 || s[j] > 1 ? 0 : at - bin;
    }
}

/* Tallies the pairs of the rows of one group. */
static void tally_group(struct state *state, const int32_t *labels, size_t group, int32_t *places) {
    const struct dml_similarities *s = &state->similarities;
    const size_t n = s->n, count = 2 * (state->nbins + 1);
    struct tally *tallies = state->tallies + group * count;
    double *fractions = dml_similarities_work(s);
    memset(tallies, 0, count * sizeof *tallies);
    for (size_t i = group; i + 1 < n; i += state->groups) {
        const size_t first = i * n + i + 1, m = n - i - 1;
        int32_t *row = places + first;
        find_places(s->products.s + first, labels + i + 1, labels[i], m, state->nbins, row,
                    fractions);
        for (size_t j = 0; j < m; j++) {
            tallies[row[j]].count++;
            tallies[row[j]].fractions += fractions[j];
        }
    }
}

/* Fills the histograms, divided by counts[2] of negative and positive pairs. */
static void count_pairs(struct state *state, const int32_t *labels, int32_t *places,
                        double counts[2]) {
    const size_t nbins = state->nbins, stride = 2 * (nbins + 1);
#pragma omp parallel for schedule(dynamic, 1) if (state->similarities.n > 128)
    for (size_t group = 0; group < state->groups; group++)
        tally_group(state, labels, group, places);
    for (size_t same = 0; same < 2; same++) {
        double *histogram = state->histograms[same];
        const struct tally *tallies = state->tallies + same * (nbins + 1);
        memset(histogram, 0, nbins * sizeof *histogram);
        counts[same] = 0;
        for (size_t group = 0; group < state->groups; group++, tallies += stride)
            for (size_t place = 0; place <= nbins; place++) {
                const struct tally *t = tallies + place;
                counts[same] += t->count;
                histogram[place ? place - 1 : 0] += t->count - t->fractions;
                if (place < nbins)
                    histogram[place] += t->fractions;
            }
        for (size_t r = 0; r < nbins; r++)
            histogram[r] /= fmax(counts[same], 1);
    }
}

/* dL/ds of the pairs of each place. */
static void find_slopes(struct state *state, const double counts[2]) {
    const size_t nbins = state->nbins;
    const double width = 2 / (double)(nbins - 1);
    float *negative = state->slopes, *positive = negative + nbins + 1;
    negative[0] = negative[nbins] = positive[0] = positive[nbins] = 0;
    for (size_t b = 0; b + 1 < nbins; b++) {
        negative[b + 1] = (float)(state->histograms[1][b + 1] / (width * counts[0]));
        positive[b + 1] = (float)(-state->histograms[0][b] / (width * counts[1]));
    }
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)tuples, (void)rng;
    struct state *state = data;
    struct dml_similarities *s = &state->similarities;
    const size_t n = batch->n;
    int32_t *places = dml_buffer_reserve(&state->places, n * n, sizeof *places);
    if (!places)
        return DML_ERROR_MEMORY;
    /* A similarity on the wrong side of a node changes the gradient. */
    enum dml_status status = dml_similarities_forward(s, batch, INFINITY, 0);
    if (status)
        return status;
    double counts[2], below = 0;
    count_pairs(state, batch->labels, places, counts);
    dml_loss_none(batch, (size_t)(counts[0] + counts[1]), grad, loss);
    if (counts[0] == 0 || counts[1] == 0)
        return DML_OK;
    for (size_t r = 0; r < state->nbins; r++) {
        below += state->histograms[1][r];
        loss->value += state->histograms[0][r] * below;
    }
    find_slopes(state, counts);
    size_t active = 0;
#pragma omp parallel for schedule(dynamic, 16) reduction(+ : active) if (n > 128)
    for (size_t i = 0; i < n; i++) {
        float *g = s->g + i * n;
        int32_t nonzero = 0;
        for (size_t j = i + 1; j < n; j++) {
            g[j] = state->slopes[places[i * n + j]];
            nonzero += g[j] != 0;
        }
        active += (size_t)nonzero;
    }
    loss->active = active;
    memcpy(grad, dml_similarities_backward(s), n * s->dim * sizeof *grad);
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
