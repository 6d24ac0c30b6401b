/* Softhard triplets. Roth, Milbich, Sinha, Gupta, Ommer, Cohen 2020, "Revisiting training
 * strategies and generalization performance in deep metric learning".
 *
 * For every anchor, drawn uniformly: one of the positives with d_ap > min_n d_an and one of the
 * negatives with d_an < max_p d_ap; one of all positives or negatives where there is none. */
#include "miners/common.h"

#include "base/memory.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

/* Workspace for one anchor: squared distances to its negatives (infinite to its own class), and the
 * candidates found. */
struct row {
    float *distances2;
    uint32_t *found;
};

static double farthest_positive(const struct miner_state *state, const struct dml_batch *batch,
                                size_t anchor) {
    double farthest = 0;
    for (size_t k = 0; k < miner_positives(&state->classes, anchor); k++) {
        size_t j = miner_positive_at(&state->classes, anchor, k);
        if (miner_beyond(state, batch, anchor, j, farthest) > 0)
            farthest = miner_distance(batch, anchor, j);
    }
    return farthest;
}

/* The smallest in float32, then in float64 among those that float32 cannot tell from it. */
static double nearest_negative(const struct miner_state *state, const struct dml_batch *batch,
                               size_t anchor, const float *distances2) {
    float least = INFINITY;
#pragma omp simd reduction(min : least)
    for (size_t j = 0; j < batch->n; j++)
        least = distances2[j] < least ? distances2[j] : least;
    double nearest = INFINITY;
    float bound = fminf(least + 2 * miner_doubt(state, anchor), FLT_MAX);
    for (size_t j = 0; j < batch->n; j++)
        if (distances2[j] <= bound)
            nearest = fmin(nearest, miner_distance(batch, anchor, j));
    return nearest;
}

static size_t draw_positive(const struct miner_state *state, const struct dml_batch *batch,
                            size_t anchor, double nearest, double draw, uint32_t *found) {
    const struct miner_classes *classes = &state->classes;
    size_t count = 0, all = miner_positives(classes, anchor);
    for (size_t k = 0; k < all; k++) {
        found[count] = (uint32_t)miner_positive_at(classes, anchor, k);
        count += miner_beyond(state, batch, anchor, found[count], nearest) > 0;
    }
    return count ? found[miner_index(draw, count)]
                 : miner_positive_at(classes, anchor, miner_index(draw, all));
}

static size_t draw_negative(const struct miner_state *state, const struct dml_batch *batch,
                            size_t anchor, double farthest, double draw, const struct row *row) {
    const struct miner_classes *classes = &state->classes;
    const float doubt = miner_doubt(state, anchor), bound = (float)(farthest * farthest);
    const float least = bound - doubt, most = fminf(bound + doubt, FLT_MAX);
    size_t count = 0, unsure = 0;
    for (size_t j = 0; j < batch->n; j++) { /* no branch: candidates come in no order */
        bool surely = row->distances2[j] < least;
        row->found[count] = (uint32_t)j;
        count += surely;
        unsure += !surely && row->distances2[j] <= most;
    }
    for (size_t j = 0; j < batch->n && unsure > 0; j++)
        if (!(row->distances2[j] < least) && row->distances2[j] <= most) {
            row->found[count] = (uint32_t)j;
            count += miner_distance(batch, anchor, j) < farthest;
            unsure--;
        }
    if (count > 0)
        return row->found[miner_index(draw, count)];
    return miner_negative_at(classes, anchor, miner_index(draw, miner_negatives(classes, anchor)));
}

static void draw_pair(const struct miner_state *state, const struct dml_batch *batch, size_t anchor,
                      const double draws[2], const struct row *row, int32_t *positive,
                      int32_t *negative) {
    const struct miner_classes *classes = &state->classes;
    size_t own = classes->class_of[anchor];
    miner_distances2(state, anchor, 0, row->distances2);
    for (size_t at = classes->start[own]; at < classes->start[own + 1]; at++)
        row->distances2[classes->order[at]] = INFINITY;
    double nearest = nearest_negative(state, batch, anchor, row->distances2);
    double farthest = farthest_positive(state, batch, anchor);
    *positive = (int32_t)draw_positive(state, batch, anchor, nearest, draws[0], row->found);
    *negative = (int32_t)draw_negative(state, batch, anchor, farthest, draws[1], row);
}

static enum dml_status mine(void *state, const struct dml_batch *batch, struct dml_rng *rng,
                            struct dml_tuples *out, size_t *swapped) {
    (void)swapped;
    struct miner_state *own = state;
    enum dml_status status = dml_tuples_reserve(out, DML_TUPLES_TRIPLETS, batch->n);
    if (!status)
        status = miner_classify(own, batch->labels, batch->n);
    if (!status)
        status = miner_measure(own, batch);
    if (status)
        return status;
    for (size_t a = 0; a < batch->n; a++) {
        if (miner_positives(&own->classes, a) == 0 || miner_negatives(&own->classes, a) == 0)
            continue;
        own->draws[2 * out->count] = dml_rng_uniform(rng);
        own->draws[2 * out->count + 1] = dml_rng_uniform(rng);
        miner_add(out, a, a, a);
    }
    int failed = 0;
#pragma omp parallel if (batch->n > 128) reduction(| : failed)
    {
        struct row row = {dml_alloc_aligned(batch->n, sizeof *row.distances2),
                          dml_alloc(batch->n + 1, sizeof *row.found)};
        failed = !row.distances2 || !row.found;
#pragma omp for
        for (size_t t = 0; t < out->count; t++)
            if (!failed)
                draw_pair(own, batch, (size_t)out->anchors[t], own->draws + 2 * t, &row,
                          out->positives + t, out->negatives + t);
        free(row.distances2);
        free(row.found);
    }
    return failed ? dml_fail(DML_ERROR_MEMORY, "out of memory for %zu candidates", batch->n)
                  : DML_OK;
}

const struct dml_miner dml_miner_softhard = {
    .method = {.name = "softhard",
               .summary = "Positives farther than the nearest negative, negatives nearer than the "
                          "farthest positive",
               .paper = "Roth et al. 2020, Revisiting training strategies and generalization "
                        "performance in deep metric learning"},
    .gives = DML_TUPLES_TRIPLETS,
    .create = miner_create,
    .mine = mine,
    .destroy = miner_destroy,
};
