/* Distance mining with the study's rho regularisation. Roth, Milbich, Sinha, Gupta, Ommer, Cohen
 * 2020, "Revisiting training strategies and generalization performance in deep metric learning".
 *
 * As distance.c, but with probability cp the triplet is (a, a, another sample of the class), which
 * pushes that sample away. As in the study, a sample alone in its class gives no triplet. */
#include "miners/inverse_sphere.h"

struct options {
    double lower_cutoff, upper_cutoff, cp;
};

static const struct dml_param params[] = {
    {.name = "miner_rho_distance_lower_cutoff",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, lower_cutoff),
     .fallback = "0.5",
     .min = 0,
     .max = 2,
     .help = "Smaller distances are drawn as if they were this large."},
    {.name = "miner_rho_distance_upper_cutoff",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, upper_cutoff),
     .fallback = "1.4",
     .min = 0,
     .max = 1e6,
     .help = "Accepted and ignored, as in the study: cutting large distances off hurts."},
    {.name = "miner_rho_distance_cp",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, cp),
     .fallback = "0.2",
     .min = 0,
     .max = 1,
     .help = "Probability of pushing a sample of the anchor's own class away instead."},
};

static const struct dml_param_table table =
    DML_PARAM_TABLE("Batch miner: rho_distance", struct options, params);

static enum dml_status mine(void *state, const struct dml_batch *batch, struct dml_rng *rng,
                            struct dml_tuples *out, size_t *swapped) {
    const struct miner_state *own = state;
    const struct options *options = own->options;
    const struct miner_distance_rule rule = {
        .lower_cutoff = options->lower_cutoff, .swap_share = options->cp, .skip_alone = true};
    return miner_mine_by_distance(state, batch, batch->labels, &rule, rng, out, swapped);
}

const struct dml_miner dml_miner_rho_distance = {
    .method = {.name = "rho_distance",
               .summary = "As distance, but now and then a positive is pushed away, which keeps "
                          "the embedding space filled",
               .paper = "Roth et al. 2020, Revisiting training strategies and generalization "
                        "performance in deep metric learning",
               .params = &table},
    .gives = DML_TUPLES_TRIPLETS,
    .create = miner_create,
    .mine = mine,
    .destroy = miner_destroy,
};
