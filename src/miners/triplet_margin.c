/* All triplets by their margin. Schroff, Kalenichenko, Philbin 2015, "FaceNet: a unified embedding
 * for face recognition and clustering".
 *
 *     x = d_an - d_ap
 *     all: x <= margin,  hard: x <= 0,  semihard: 0 < x <= margin,  easy: x > margin */
#include "miners/all_triplets.h"

#include <math.h>

struct options {
    double margin;
    enum type { ALL, HARD, SEMIHARD, EASY } type;
};

static const char *const types[] = {
    [ALL] = "all", [HARD] = "hard", [SEMIHARD] = "semihard", [EASY] = "easy", NULL};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"miner_triplet_margin_margin", DML_PARAM_FLOAT, AT(margin), "0.2", 0, INFINITY,
     .help = "How much farther than the positive a negative must be to be left alone."},
    {"miner_triplet_margin_type", DML_PARAM_CHOICE, AT(type), "all", .choices = types,
     .help = "Negatives: all nearer than the positive plus the margin; of these, the ones "
             "nearer than the positive, or the others; or those that are farther."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Batch miner: triplet_margin", struct options, params);

static bool keeps(const void *data, const double *of_anchor, const double *of_positive,
                  size_t positive, size_t negative) {
    (void)of_positive;
    const struct options *o = data;
    const double x = of_anchor[negative] - of_anchor[positive];
    switch (o->type) {
    case HARD:
        return x <= 0;
    case SEMIHARD:
        return x > 0 && x <= o->margin;
    case EASY:
        return x > o->margin;
    case ALL:
        break;
    }
    return x <= o->margin;
}

static enum dml_status mine(void *data, const struct dml_batch *batch, struct dml_rng *rng,
                            struct dml_tuples *out, size_t *swapped) {
    (void)rng, (void)swapped;
    struct miner_state *state = data;
    return miner_all_triplets(state, batch, keeps, out);
}

const struct dml_miner dml_miner_triplet_margin = {
    .method = {.name = "triplet_margin",
               .summary = "All triplets whose negative is less than a margin beyond the positive",
               .paper = "Schroff et al. 2015, FaceNet: a unified embedding for face recognition "
                        "and clustering",
               .params = &table},
    .gives = DML_TUPLES_TRIPLETS,
    .create = miner_create,
    .mine = mine,
    .destroy = miner_destroy,
};
