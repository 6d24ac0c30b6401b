/* Distance-weighted negatives. Wu, Manmatha, Smola, Kraehenbuehl 2017, "Sampling matters in deep
 * embedding learning".
 *
 * For every anchor a random positive (itself where it is alone in its class), and a negative with
 * probability proportional to 1/q(d_an), so that distances are drawn evenly: see inverse_sphere.h.
 */
#include "miners/distance.h"

#include "miners/inverse_sphere.h"

static const struct dml_param params[] = {
    {.name = "miner_distance_lower_cutoff",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct miner_distance_options, lower_cutoff),
     .fallback = "0.5",
     .min = 0,
     .max = 2,
     .help = "Smaller distances are drawn as if they were this large."},
    {.name = "miner_distance_upper_cutoff",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct miner_distance_options, upper_cutoff),
     .fallback = "1.4",
     .min = 0,
     .max = 1e6,
     .help = "Accepted and ignored, as in the study: cutting large distances off hurts."},
};

const struct dml_param_table miner_distance_params = DML_PARAM_TABLE(
    "Batch miners: distance, random_distance", struct miner_distance_options, params);

static enum dml_status mine(void *state, const struct dml_batch *batch, struct dml_rng *rng,
                            struct dml_tuples *out, size_t *swapped) {
    const struct miner_state *own = state;
    const struct miner_distance_options *options = own->options;
    const struct miner_distance_rule rule = {.lower_cutoff = options->lower_cutoff};
    return miner_mine_by_distance(state, batch, batch->labels, &rule, rng, out, swapped);
}

const struct dml_miner dml_miner_distance = {
    .method = {.name = "distance",
               .summary = "Negatives drawn evenly over distance; a sample alone in its class takes "
                          "itself as positive",
               .paper = "Wu et al. 2017, Sampling matters in deep embedding learning",
               .params = &miner_distance_params},
    .gives = DML_TUPLES_TRIPLETS,
    .create = miner_create,
    .mine = mine,
    .destroy = miner_destroy,
};
