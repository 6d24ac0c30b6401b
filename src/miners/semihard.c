/* Semihard negatives. Schroff, Kalenichenko, Philbin 2015, "FaceNet: a unified embedding for face
 * recognition and clustering".
 *
 * For every anchor a random positive p, and one drawn uniformly from the negatives with
 *
 *     d_ap < d_an < d_ap + margin
 *
 * or from all negatives where there is none. The margin is the criterion's, or 0.2 if it has
 * none. */
#include "miners/weighted.h"

#include <math.h>

/* Like weigh, but decided by squared distances in float32, for all samples at once. Returns whether
 * one is too near to a bound to be told from it. */
static bool weigh_roughly(const struct miner_state *state, size_t anchor, double least, double most,
                          float *weights) {
    const uint32_t *class_of = state->classes.class_of;
    const uint32_t own = class_of[anchor];
    const float low = (float)(least * least), high = (float)(most * most);
    const float doubt = miner_doubt(state, anchor);
    int unsure = 0;
    miner_distances2(state, anchor, 0, weights);
#pragma omp simd reduction(| : unsure)
    for (size_t j = 0; j < state->classes.n; j++) {
        float d2 = weights[j];
        int other = class_of[j] != own;
        unsure |= other & (!(fabsf(d2 - low) > doubt) | !(fabsf(d2 - high) > doubt));
        weights[j] = (other & (d2 > low) & (d2 < high)) ? 1 : 0;
    }
    return unsure;
}

/* Uniform over the negatives with d_ap < d_an < d_ap + margin, or over all when there is none. */
static void weigh(const struct miner_state *state, const struct dml_batch *batch, const void *data,
                  size_t anchor, size_t positive, float *weights) {
    (void)data;
    const struct miner_classes *classes = &state->classes;
    const size_t own = classes->class_of[anchor];
    double least = miner_distance(batch, anchor, positive);
    double most = least + state->context.margin;
    if (weigh_roughly(state, anchor, least, most, weights))
        for (size_t j = 0; j < batch->n; j++)
            weights[j] = classes->class_of[j] != own &&
                         miner_beyond(state, batch, anchor, j, least) > 0 &&
                         miner_beyond(state, batch, anchor, j, most) < 0;
    float count = 0;
#pragma omp simd reduction(+ : count)
    for (size_t j = 0; j < batch->n; j++)
        count += weights[j];
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
                   "A random positive, and a negative beyond it by less than the criterion's "
                   "margin",
               .paper =
                   "Schroff et al. 2015, FaceNet: a unified embedding for face recognition and "
                   "clustering"},
    .gives = DML_TUPLES_TRIPLETS,
    .create = miner_create,
    .mine = mine,
    .destroy = miner_destroy,
};
