/* Easy, hard and semihard pairs combined. Xuan, Stylianou, Pless 2020, "Improved embeddings with
 * easy positive triplet mining".
 *
 *     pos:  easy: the nearest,  hard: the farthest,
 *           semihard: the farthest nearer than the negative
 *     neg:  easy: the farthest,  hard: the nearest,
 *           semihard: the nearest farther than the positive
 *
 * Only distances within pos_range and neg_range count. No triplet where either is missing. */
#include "miners/common.h"

#include <math.h>

struct options {
    enum kind { EASY, HARD, SEMIHARD } pos, neg;
    struct dml_floats pos_range, neg_range;
};

static const char *const kinds[] = {
    [EASY] = "easy", [HARD] = "hard", [SEMIHARD] = "semihard", NULL};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"miner_batch_easy_hard_pos", DML_PARAM_CHOICE, AT(pos), "easy", .choices = kinds,
     .help = "The positive: the nearest, the farthest, or the farthest nearer than the negative."},
    {"miner_batch_easy_hard_neg", DML_PARAM_CHOICE, AT(neg), "semihard", .choices = kinds,
     .help = "The negative: the farthest, the nearest, or the nearest farther than the positive."},
    {"miner_batch_easy_hard_pos_range", DML_PARAM_FLOATS, AT(pos_range), NULL, 0, INFINITY,
     .help = "Smallest and largest distance of positives, inclusive; without it all count."},
    {"miner_batch_easy_hard_neg_range", DML_PARAM_FLOATS, AT(neg_range), NULL, 0, INFINITY,
     .help = "The same for negatives."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Batch miner: batch_easy_hard", struct options, params);

static enum dml_status check_range(const char *flag, const struct dml_floats *range) {
    if (range->count == 0)
        return DML_OK;
    if (range->count != 2)
        return dml_fail(DML_ERROR_USAGE, "--miner_batch_easy_hard_%s takes two distances, got %zu",
                        flag, range->count);
    if (range->items[0] > range->items[1])
        return dml_fail(DML_ERROR_USAGE, "--miner_batch_easy_hard_%s must rise, but %g is above %g",
                        flag, range->items[0], range->items[1]);
    return DML_OK;
}

static enum dml_status create(const void *data, const struct dml_miner_context *context,
                              void **state) {
    const struct options *o = data;
    if (o->pos == SEMIHARD && o->neg == SEMIHARD)
        return dml_fail(DML_ERROR_USAGE,
                        "--miner_batch_easy_hard_pos semihard and --miner_batch_easy_hard_neg "
                        "semihard cannot be given together: each needs the other's choice");
    enum dml_status status = check_range("pos_range", &o->pos_range);
    if (!status)
        status = check_range("neg_range", &o->neg_range);
    return status ? status : miner_create(data, context, state);
}

struct wanted {
    bool positives;      /* samples of the anchor's class, or of others */
    bool farthest;       /* the farthest of them, or the nearest */
    double least, most;  /* distances that count, ends included */
    double above, below; /* and ends excluded */
};

/* The sample of the batch that is wanted for an anchor; n where there is none. */
static size_t find(const struct dml_batch *batch, const double *d, size_t a,
                   const struct wanted *wanted) {
    size_t best = batch->n;
    for (size_t j = 0; j < batch->n; j++) {
        bool same = batch->labels[j] == batch->labels[a];
        bool counts = j != a && same == wanted->positives && d[j] >= wanted->least &&
                      d[j] <= wanted->most && d[j] > wanted->above && d[j] < wanted->below;
        if (counts && (best == batch->n || (wanted->farthest ? d[j] > d[best] : d[j] < d[best])))
            best = j;
    }
    return best;
}

static struct wanted wanted_of(enum kind kind, const struct dml_floats *range, bool positives) {
    bool ranged = range->count == 2;
    return (struct wanted){.positives = positives,
                           .farthest = positives != (kind == EASY),
                           .least = ranged ? range->items[0] : 0,
                           .most = ranged ? range->items[1] : INFINITY,
                           .above = -INFINITY,
                           .below = INFINITY};
}

static enum dml_status mine(void *data, const struct dml_batch *batch, struct dml_rng *rng,
                            struct dml_tuples *out, size_t *swapped) {
    (void)rng, (void)swapped;
    struct miner_state *state = data;
    const struct options *o = state->options;
    const size_t n = batch->n;
    enum dml_status status = dml_tuples_reserve(out, DML_TUPLES_TRIPLETS, n);
    if (!status)
        status = miner_distances64(state, batch);
    if (status)
        return status;
    const bool soft_pos = o->pos == SEMIHARD;
    const bool soft_neg = o->neg == SEMIHARD;
    for (size_t a = 0; a < n; a++) {
        const double *d = state->exact + a * n;
        struct wanted pos = wanted_of(o->pos, &o->pos_range, true);
        struct wanted neg = wanted_of(o->neg, &o->neg_range, false);
        size_t negative = soft_neg ? n : find(batch, d, a, &neg);
        if (soft_pos && negative < n)
            pos.below = d[negative];
        size_t positive = soft_pos && negative == n ? n : find(batch, d, a, &pos);
        if (soft_neg && positive < n) {
            neg.above = d[positive];
            negative = find(batch, d, a, &neg);
        }
        if (positive < n && negative < n)
            miner_add(out, a, positive, negative);
    }
    return DML_OK;
}

const struct dml_miner dml_miner_batch_easy_hard = {
    .method = {.name = "batch_easy_hard",
               .summary = "One easy, hard or semihard positive and negative for every sample",
               .paper = "Xuan et al. 2020, Improved embeddings with easy positive triplet mining",
               .params = &table},
    .gives = DML_TUPLES_TRIPLETS,
    .create = create,
    .mine = mine,
    .destroy = miner_destroy,
};
