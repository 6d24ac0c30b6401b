#include "miners/common.h"

#include "base/memory.h"

#include <stdlib.h>

/* A negative with d_ap < d_an < d_ap + margin, any negative when there is none. `found` is room
 * for n indices. */
static size_t draw_negative(const struct miner_state *state, const struct dml_batch *batch,
                            size_t anchor, size_t positive, double draw, uint32_t *found) {
    const struct miner_classes *classes = &state->classes;
    double least = miner_distance(batch, anchor, positive);
    double most = least + state->context.margin;
    size_t count = 0, own = classes->class_of[anchor];
    for (size_t j = 0; j < batch->n; j++)
        if (classes->class_of[j] != own && miner_beyond(state, batch, anchor, j, least) > 0 &&
            miner_beyond(state, batch, anchor, j, most) < 0)
            found[count++] = (uint32_t)j;
    if (count > 0)
        return found[miner_index(draw, count)];
    return miner_negative_at(classes, anchor, miner_index(draw, miner_negatives(classes, anchor)));
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
        size_t positive = miner_any_positive(&own->classes, a, rng);
        own->draws[out->count] = dml_rng_uniform(rng);
        miner_add(out, a, positive, 0);
    }
    int failed = 0;
#pragma omp parallel if (batch->n > 64) reduction(| : failed)
    {
        uint32_t *found = dml_alloc(batch->n, sizeof *found);
        failed = !found;
#pragma omp for
        for (size_t t = 0; t < out->count; t++)
            if (found)
                out->negatives[t] =
                    (int32_t)draw_negative(own, batch, (size_t)out->anchors[t],
                                           (size_t)out->positives[t], own->draws[t], found);
        free(found);
    }
    return failed ? dml_fail(DML_ERROR_MEMORY, "out of memory for %zu candidates", batch->n)
                  : DML_OK;
}

const struct dml_miner dml_miner_semihard = {
    .method = {.name = "semihard",
               .summary =
                   "a random positive, and a negative beyond it by less than the criterion's "
                   "margin",
               .paper =
                   "Schroff et al. 2015, FaceNet: a unified embedding for face recognition and "
                   "clustering"},
    .gives = DML_TUPLES_TRIPLETS,
    .create = miner_create,
    .mine = mine,
    .destroy = miner_destroy,
};
