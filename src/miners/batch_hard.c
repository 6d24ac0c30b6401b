/* Batch hard. Hermans, Beyer, Leibe 2017, "In defense of the triplet loss for person
 * re-identification".
 *
 * For every anchor with both, its farthest positive and its nearest negative. */
#include "miners/common.h"

static enum dml_status mine(void *data, const struct dml_batch *batch, struct dml_rng *rng,
                            struct dml_tuples *out, size_t *swapped) {
    (void)rng, (void)swapped;
    struct miner_state *state = data;
    const size_t n = batch->n;
    enum dml_status status = dml_tuples_reserve(out, DML_TUPLES_TRIPLETS, n);
    if (!status)
        status = miner_distances64(state, batch);
    if (status)
        return status;
    for (size_t a = 0; a < n; a++) {
        const double *d = state->exact + a * n;
        size_t positive = n, negative = n;
        for (size_t j = 0; j < n; j++) {
            if (batch->labels[j] != batch->labels[a])
                negative = negative == n || d[j] < d[negative] ? j : negative;
            else if (j != a)
                positive = positive == n || d[j] > d[positive] ? j : positive;
        }
        if (positive < n && negative < n)
            miner_add(out, a, positive, negative);
    }
    return DML_OK;
}

const struct dml_miner dml_miner_batch_hard = {
    .method =
        {.name = "batch_hard",
         .summary = "The farthest positive and the nearest negative of every sample",
         .paper =
             "Hermans et al. 2017, In defense of the triplet loss for person re-identification"},
    .gives = DML_TUPLES_TRIPLETS,
    .create = miner_create,
    .mine = mine,
    .destroy = miner_destroy,
};
