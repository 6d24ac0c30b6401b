#include "miners/weighted.h"

/* Evenly among the negatives with d_ap < d_an < d_ap + margin, or among all when there is none. */
static void weigh(const struct miner_state *state, const struct dml_batch *batch, const void *data,
                  size_t anchor, size_t positive, float *weights) {
    (void)data;
    const struct miner_classes *classes = &state->classes;
    double least = miner_distance(batch, anchor, positive);
    double most = least + state->context.margin;
    size_t count = 0, own = classes->class_of[anchor];
    for (size_t j = 0; j < batch->n; j++) {
        bool candidate = classes->class_of[j] != own &&
                         miner_beyond(state, batch, anchor, j, least) > 0 &&
                         miner_beyond(state, batch, anchor, j, most) < 0;
        weights[j] = candidate;
        count += candidate;
    }
    for (size_t j = 0; j < batch->n && count == 0; j++)
        weights[j] = classes->class_of[j] != own;
}

static enum dml_status mine(void *state, const struct dml_batch *batch, struct dml_rng *rng,
                            struct dml_tuples *out, size_t *swapped) {
    (void)swapped;
    enum dml_status status = miner_start_triplets(state, batch, rng, out);
    if (!status)
        status = miner_measure(state, batch);
    return status ? status : miner_draw_negatives(state, batch, weigh, NULL, out);
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
