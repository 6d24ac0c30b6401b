/* n triplets: a random class of the batch, then anchor, positive and negative all drawn from it,
 * with replacement (a class of one sample gives (a, a, a)). A baseline of the study that carries no
 * signal between classes. */
#include "miners/common.h"

static enum dml_status mine(void *state, const struct dml_batch *batch, struct dml_rng *rng,
                            struct dml_tuples *out, size_t *swapped) {
    (void)swapped;
    struct miner_state *own = state;
    const struct miner_classes *classes = &own->classes;
    enum dml_status status = dml_tuples_reserve(out, DML_TUPLES_TRIPLETS, batch->n);
    if (!status)
        status = miner_classify(own, batch->labels, batch->n);
    if (status)
        return status;
    for (size_t t = 0; t < batch->n; t++) {
        size_t of = (size_t)dml_rng_below(rng, classes->count), drawn[3];
        for (int i = 0; i < 3; i++)
            drawn[i] =
                classes->order[classes->start[of] +
                               dml_rng_below(rng, classes->start[of + 1] - classes->start[of])];
        miner_add(out, drawn[0], drawn[1], drawn[2]);
    }
    return DML_OK;
}

const struct dml_miner dml_miner_intra_random = {
    .method = {.name = "intra_random",
               .summary = "Anchor, positive and negative all from one random class: a baseline",
               .paper = "Roth et al. 2020, Revisiting training strategies and generalization "
                        "performance in deep metric learning"},
    .gives = DML_TUPLES_TRIPLETS,
    .create = miner_create,
    .mine = mine,
    .destroy = miner_destroy,
};
