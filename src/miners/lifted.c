/* Sets for the lifted structure loss. Song, Xiang, Jegelka, Savarese 2016, "Deep metric learning
 * via lifted structured feature embedding".
 *
 * Every sample with a positive and a negative; both sets follow from the labels. */
#include "miners/common.h"

static enum dml_status mine(void *state, const struct dml_batch *batch, struct dml_rng *rng,
                            struct dml_tuples *out, size_t *swapped) {
    (void)rng;
    (void)swapped;
    struct miner_state *own = state;
    enum dml_status status = dml_tuples_reserve(out, DML_TUPLES_SETS, batch->n);
    if (!status)
        status = miner_classify(own, batch->labels, batch->n);
    if (status)
        return status;
    for (size_t a = 0; a < batch->n; a++)
        if (miner_positives(&own->classes, a) > 0 && miner_negatives(&own->classes, a) > 0)
            out->anchors[out->count++] = (int32_t)a;
    return DML_OK;
}

const struct dml_miner dml_miner_lifted = {
    .method = {.name = "lifted",
               .summary = "Every sample with all its positives and all its negatives",
               .paper = "Song et al. 2016, Deep metric learning via lifted structured feature "
                        "embedding"},
    .gives = DML_TUPLES_SETS,
    .create = miner_create,
    .mine = mine,
    .destroy = miner_destroy,
};
