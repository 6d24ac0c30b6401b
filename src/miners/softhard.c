#include "miners/common.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>

struct range {
    double nearest_negative, farthest_positive;
};

static struct range range_of(const struct miner_state *state, const struct dml_batch *batch,
                             size_t anchor) {
    const struct miner_classes *classes = &state->classes;
    struct range range = {.nearest_negative = INFINITY};
    for (size_t j = 0; j < batch->n; j++) {
        if (classes->class_of[j] != classes->class_of[anchor]) {
            if (miner_beyond(state, batch, anchor, j, range.nearest_negative) < 0)
                range.nearest_negative = miner_distance(batch, anchor, j);
        } else if (miner_beyond(state, batch, anchor, j, range.farthest_positive) > 0) {
            range.farthest_positive = miner_distance(batch, anchor, j);
        }
    }
    return range;
}

/* Draws both for one anchor; `found` is room for n indices. */
static void draw_pair(const struct miner_state *state, const struct dml_batch *batch, size_t anchor,
                      const double draws[2], uint32_t *found, int32_t *positive,
                      int32_t *negative) {
    const struct miner_classes *classes = &state->classes;
    size_t own = classes->class_of[anchor], count = 0;
    struct range range = range_of(state, batch, anchor);
    for (size_t at = classes->start[own]; at < classes->start[own + 1]; at++) {
        size_t j = classes->order[at];
        if (j != anchor && miner_beyond(state, batch, anchor, j, range.nearest_negative) > 0)
            found[count++] = (uint32_t)j;
    }
    size_t any = miner_index(draws[0], count ? count : miner_positives(classes, anchor));
    *positive = (int32_t)(count ? found[any] : miner_positive_at(classes, anchor, any));

    count = 0;
    for (size_t j = 0; j < batch->n; j++)
        if (classes->class_of[j] != own &&
            miner_beyond(state, batch, anchor, j, range.farthest_positive) < 0)
            found[count++] = (uint32_t)j;
    any = miner_index(draws[1], count ? count : miner_negatives(classes, anchor));
    *negative = (int32_t)(count ? found[any] : miner_negative_at(classes, anchor, any));
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
#pragma omp parallel if (batch->n > 64) reduction(| : failed)
    {
        uint32_t *found = dml_alloc(batch->n, sizeof *found);
        failed = !found;
#pragma omp for
        for (size_t t = 0; t < out->count; t++)
            if (found)
                draw_pair(own, batch, (size_t)out->anchors[t], own->draws + 2 * t, found,
                          out->positives + t, out->negatives + t);
        free(found);
    }
    return failed ? dml_fail(DML_ERROR_MEMORY, "out of memory for %zu candidates", batch->n)
                  : DML_OK;
}

const struct dml_miner dml_miner_softhard = {
    .method = {.name = "softhard",
               .summary = "positives farther than the nearest negative, negatives nearer than the "
                          "farthest positive",
               .paper = "Roth et al. 2020, Revisiting training strategies and generalization "
                        "performance in deep metric learning"},
    .gives = DML_TUPLES_TRIPLETS,
    .create = miner_create,
    .mine = mine,
    .destroy = miner_destroy,
};
