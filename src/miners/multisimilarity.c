/* Pairs that are hard for their anchor. Wang, Han, Huang, Dong, Scott 2019, "Multi-similarity loss
 * with general pair weighting for deep metric learning".
 *
 * By cosine: positives with c - epsilon < max_n c_an and negatives with c + epsilon > min_p c_ap.
 */
#include "miners/pair_lists.h"

#include <math.h>

struct options {
    double epsilon;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"miner_multisimilarity_epsilon", DML_PARAM_FLOAT, AT(epsilon), "0.1", 0, 2,
     .help =
         "How far short of the hardest pair of the other kind a pair may fall and still be kept."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Batch miner: multisimilarity", struct options, params);

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
        status = miner_cosines64(state, batch);
    if (status)
        return status;
    for (size_t a = 0; a < n; a++) {
        const double *c = state->exact + a * n;
        double weakest = INFINITY, hardest = -INFINITY; /* positive, negative */
        for (size_t j = 0; j < n; j++) {
            if (batch->labels[j] != batch->labels[a])
                hardest = fmax(hardest, c[j]);
            else if (j != a)
                weakest = fmin(weakest, c[j]);
        }
        for (size_t j = 0; j < n; j++) {
            const bool same = batch->labels[j] == batch->labels[a];
            if (same && j != a && c[j] - o->epsilon < hardest)
                miner_add_pair(&out->positive_pairs, a, j);
            if (!same && c[j] + o->epsilon > weakest)
                miner_add_pair(&out->negative_pairs, a, j);
        }
    }
    return DML_OK;
}

const struct dml_miner dml_miner_multisimilarity = {
    .method = {.name = "multisimilarity",
               .summary = "Pairs that are hardly better than the hardest pair of the other kind",
               .paper = "Wang et al. 2019, Multi-similarity loss with general pair weighting for "
                        "deep metric learning",
               .params = &table},
    .gives = DML_TUPLES_LISTS,
    .create = miner_create,
    .mine = mine,
    .destroy = miner_destroy,
};
