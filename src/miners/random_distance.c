/* Distance mining (distance.c) on labels permuted at random: its triplets say nothing about the
 * classes, a baseline of the study. As there, a sample that ends up alone in its class gives no
 * triplet. */
#include "miners/distance.h"
#include "miners/inverse_sphere.h"

#include "base/memory.h"

#include <stdlib.h>

static enum dml_status mine(void *state, const struct dml_batch *batch, struct dml_rng *rng,
                            struct dml_tuples *out, size_t *swapped) {
    const struct miner_state *own = state;
    const struct miner_distance_options *options = own->options;
    uint64_t *order = dml_alloc(batch->n, sizeof *order);
    int32_t *labels = dml_alloc(batch->n, sizeof *labels);
    enum dml_status status = DML_ERROR_MEMORY;
    if (order && labels) {
        dml_rng_distinct(rng, batch->n, batch->n, order);
        for (size_t i = 0; i < batch->n; i++)
            labels[i] = batch->labels[order[i]];
        const struct miner_distance_rule rule = {.lower_cutoff = options->lower_cutoff,
                                                 .skip_alone = true};
        status = miner_mine_by_distance(state, batch, labels, &rule, rng, out, swapped);
    }
    free(order);
    free(labels);
    return status;
}

const struct dml_miner dml_miner_random_distance = {
    .method = {.name = "random_distance",
               .summary = "Distance mining on labels permuted at random: a baseline",
               .paper = "Roth et al. 2020, Revisiting training strategies and generalization "
                        "performance in deep metric learning",
               .params = &miner_distance_params},
    .gives = DML_TUPLES_TRIPLETS,
    .create = miner_create,
    .mine = mine,
    .destroy = miner_destroy,
};
