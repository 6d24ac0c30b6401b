/* Random triplets. Hu, Lu, Tan 2014, "Discriminative deep metric learning for face verification in
 * the wild".
 *
 * n triplets without replacement from all (a, p, n) with a != p of one class and n of another, or
 * all of them in random order where there are fewer. They are numbered instead of listed: their
 * count grows with n^2 times the size of a class. */
#include "miners/common.h"

#include "base/memory.h"

#include <stdlib.h>

/* Which triplet has number t when all valid ones are counted class by class, then by anchor,
 * positive and negative. `before` (classes + 1) counts those of the classes before each. */
static void triplet_at(const struct miner_classes *classes, const uint64_t *before, uint64_t t,
                       struct dml_tuples *out) {
    size_t low = 0, high = classes->count; /* the last class with before[class] <= t */
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (before[middle] <= t)
            low = middle;
        else
            high = middle;
    }
    uint64_t size = classes->start[low + 1] - classes->start[low];
    uint64_t rest = t - before[low], negatives = classes->n - size;
    size_t negative = (size_t)(rest % negatives);
    size_t positive = (size_t)(rest / negatives % (size - 1));
    size_t anchor = classes->order[classes->start[low] + rest / negatives / (size - 1)];
    miner_add(out, anchor, miner_positive_at(classes, anchor, positive),
              miner_negative_at(classes, anchor, negative));
}

static enum dml_status mine(void *state, const struct dml_batch *batch, struct dml_rng *rng,
                            struct dml_tuples *out, size_t *swapped) {
    (void)swapped;
    struct miner_state *own = state;
    const struct miner_classes *classes = &own->classes;
    enum dml_status status = miner_classify(own, batch->labels, batch->n);
    if (status)
        return status;
    uint64_t *before = dml_alloc(classes->count + 1, sizeof *before);
    uint64_t *chosen = dml_alloc(batch->n, sizeof *chosen);
    status = DML_ERROR_MEMORY;
    if (!before || !chosen)
        goto out;
    for (size_t c = 0; c < classes->count; c++) {
        uint64_t size = classes->start[c + 1] - classes->start[c];
        before[c + 1] = before[c] + size * (size - 1) * (batch->n - size);
    }
    uint64_t all = before[classes->count];
    size_t count = all < batch->n ? (size_t)all : batch->n;
    status = dml_tuples_reserve(out, DML_TUPLES_TRIPLETS, count);
    if (status)
        goto out;
    dml_rng_distinct(rng, all, count, chosen);
    for (size_t t = 0; t < count; t++)
        triplet_at(classes, before, chosen[t], out);
out:
    free(before);
    free(chosen);
    return status;
}

const struct dml_miner dml_miner_random = {
    .method = {.name = "random",
               .summary = "Triplets drawn without replacement from all valid ones",
               .paper = "Hu et al. 2014, Discriminative deep metric learning for face verification "
                        "in the wild"},
    .gives = DML_TUPLES_TRIPLETS,
    .create = miner_create,
    .mine = mine,
    .destroy = miner_destroy,
};
