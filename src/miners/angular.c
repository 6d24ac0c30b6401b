/* Triplets by the angle at the negative. Wang, Zhou, Wen, Liu, Lin 2017, "Deep metric learning with
 * angular loss".
 *
 *     all triplets with atan(d_ap / (2 ||n - (a + p) / 2||)) > angle
 *
 * ||n - (a + p) / 2||^2 = d_an^2 / 2 + d_pn^2 / 2 - d_ap^2 / 4. */
#include "miners/all_triplets.h"

#include <math.h>

#define PI 3.14159265358979323846

struct options {
    double angle;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"miner_angular_angle", DML_PARAM_FLOAT, AT(angle), "20", 0, 90,
     .help = "Angle in degrees above which a triplet is kept."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Batch miner: angular", struct options, params);

static bool keeps(const void *data, const double *of_anchor, const double *of_positive,
                  size_t positive, size_t negative) {
    const struct options *o = data;
    const double ap = of_anchor[positive], an = of_anchor[negative], pn = of_positive[negative];
    const double median = sqrt(fmax(an * an / 2 + pn * pn / 2 - ap * ap / 4, 0));
    return atan2(ap, 2 * median) > o->angle * (PI / 180);
}

static enum dml_status mine(void *data, const struct dml_batch *batch, struct dml_rng *rng,
                            struct dml_tuples *out, size_t *swapped) {
    (void)rng, (void)swapped;
    struct miner_state *state = data;
    return miner_all_triplets(state, batch, keeps, out);
}

const struct dml_miner dml_miner_angular = {
    .method = {.name = "angular",
               .summary = "All triplets with a large angle at the negative",
               .paper = "Wang et al. 2017, Deep metric learning with angular loss",
               .params = &table},
    .gives = DML_TUPLES_TRIPLETS,
    .create = miner_create,
    .mine = mine,
    .destroy = miner_destroy,
};
