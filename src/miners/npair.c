/* Pairs for the N-pair and angular losses. Sohn 2016, "Improved deep metric learning with
 * multi-class n-pair loss objective".
 *
 * Every sample with a positive and a negative, and one of its positives at random; its negatives
 * are all samples of other classes and follow from the labels. */
#include "miners/common.h"

static enum dml_status mine(void *state, const struct dml_batch *batch, struct dml_rng *rng,
                            struct dml_tuples *out, size_t *swapped) {
    (void)swapped;
    struct miner_state *own = state;
    enum dml_status status = dml_tuples_reserve(out, DML_TUPLES_PAIRS, batch->n);
    if (!status)
        status = miner_classify(own, batch->labels, batch->n);
    if (status)
        return status;
    for (size_t a = 0; a < batch->n; a++) {
        if (miner_positives(&own->classes, a) == 0 || miner_negatives(&own->classes, a) == 0)
            continue;
        out->anchors[out->count] = (int32_t)a;
        out->positives[out->count++] = (int32_t)miner_any_positive(&own->classes, a, rng);
    }
    return DML_OK;
}

const struct dml_miner dml_miner_npair = {
    .method = {.name = "npair",
               .summary = "Every sample with one random positive and all its negatives",
               .paper = "Sohn 2016, Improved deep metric learning with multi-class n-pair loss "
                        "objective"},
    .gives = DML_TUPLES_PAIRS,
    .create = miner_create,
    .mine = mine,
    .destroy = miner_destroy,
};
