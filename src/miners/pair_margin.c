/* Pairs by their distance. Hadsell, Chopra, LeCun 2006, "Dimensionality reduction by learning an
 * invariant mapping".
 *
 * Positive pairs with d > pos_margin and negative pairs with d < neg_margin. */
#include "miners/pair_lists.h"

#include <math.h>

struct options {
    double pos_margin, neg_margin;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"miner_pair_margin_pos_margin", DML_PARAM_FLOAT, AT(pos_margin), "0.2", 0, INFINITY,
     .help = "Positive pairs that are farther apart are kept."},
    {"miner_pair_margin_neg_margin", DML_PARAM_FLOAT, AT(neg_margin), "0.8", 0, INFINITY,
     .help = "Negative pairs that are nearer are kept."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Batch miner: pair_margin", struct options, params);

static enum dml_status mine(void *data, const struct dml_batch *batch, struct dml_rng *rng,
                            struct dml_tuples *out, size_t *swapped) {
    (void)rng, (void)swapped;
    struct miner_state *state = data;
    const struct options *o = state->options;
    const size_t n = batch->n;
    enum dml_status status = miner_classify(state, batch->labels, n);
    if (!status)
        status = miner_start_lists(state, out);
    if (!status)
        status = miner_distances64(state, batch);
    if (status)
        return status;
    for (size_t a = 0; a < n; a++)
        for (size_t j = 0; j < n; j++) {
            const double d = state->exact[a * n + j];
            const bool same = batch->labels[j] == batch->labels[a];
            if (same && j != a && d > o->pos_margin)
                miner_add_pair(&out->positive_pairs, a, j);
            if (!same && d < o->neg_margin)
                miner_add_pair(&out->negative_pairs, a, j);
        }
    return DML_OK;
}

const struct dml_miner dml_miner_pair_margin = {
    .method = {.name = "pair_margin",
               .summary = "Positive pairs farther apart and negative pairs nearer than a margin",
               .paper =
                   "Hadsell et al. 2006, Dimensionality reduction by learning an invariant mapping",
               .params = &table},
    .gives = DML_TUPLES_LISTS,
    .create = miner_create,
    .mine = mine,
    .destroy = miner_destroy,
};
