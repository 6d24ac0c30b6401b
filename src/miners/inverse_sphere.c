#include "miners/inverse_sphere.h"

#include "math/transcendental.h"
#include "miners/weighted.h"

#include <float.h>

struct sphere {
    float least2;       /* squared lower cutoff */
    float near, cosine; /* factors of log d^2 and log(1 - d^2/4) */
};

/* out (n): log 1/q of the distances of one anchor. */
static void log_weights(const struct miner_state *state, size_t anchor, const struct sphere *given,
                        float *out) {
    const struct sphere sphere = *given;
    size_t n = state->classes.n;
    const float *gram = state->gram + anchor * n, *norms = state->norms;
    float own = norms[anchor];
#pragma omp simd
    for (size_t j = 0; j < n; j++) {
        float d2 = own + norms[j] - 2 * gram[j];
        d2 = d2 > sphere.least2 ? d2 : sphere.least2; /* NaN, from overflow, is clamped as well */
        d2 = d2 < 1e30f ? d2 : 1e30f;
        float rest = 1 - 0.25f * d2;
        rest = rest > 1e-8f ? rest : 1e-8f;
        out[j] = sphere.near * dml_logf(d2) + sphere.cosine * dml_logf(rest);
    }
}

static void weigh(const struct miner_state *state, const struct dml_batch *batch, const void *data,
                  size_t anchor, size_t positive, float *weights) {
    (void)positive;
    const struct miner_classes *classes = &state->classes;
    size_t n = batch->n, own = classes->class_of[anchor];
    log_weights(state, anchor, data, weights);
    for (size_t at = classes->start[own]; at < classes->start[own + 1]; at++)
        weights[classes->order[at]] = -FLT_MAX;
    float most = -FLT_MAX;
#pragma omp simd reduction(max : most)
    for (size_t j = 0; j < n; j++)
        most = weights[j] > most ? weights[j] : most;
#pragma omp simd
    for (size_t j = 0; j < n; j++)
        weights[j] = dml_expf(weights[j] - most);
}

enum dml_status miner_inverse_sphere(const struct miner_state *state, const struct dml_batch *batch,
                                     double lower_cutoff, struct dml_tuples *out) {
    const float least = (float)fmax(lower_cutoff, 1e-6), dim = (float)batch->dim;
    const struct sphere sphere = {
        .least2 = least * least, .near = (2 - dim) / 2, .cosine = (3 - dim) / 2};
    return miner_draw_negatives(state, batch, weigh, &sphere, out);
}

enum dml_status miner_mine_by_distance(struct miner_state *state, const struct dml_batch *batch,
                                       const int32_t *labels,
                                       const struct miner_distance_rule *rule, struct dml_rng *rng,
                                       struct dml_tuples *out, size_t *swapped) {
    const struct miner_classes *classes = &state->classes;
    enum dml_status status = dml_tuples_reserve(out, DML_TUPLES_TRIPLETS, batch->n);
    if (!status)
        status = miner_classify(state, labels, batch->n);
    if (!status)
        status = miner_measure(state, batch);
    if (status)
        return status;
    size_t swaps = 0;
    for (size_t a = 0; a < batch->n; a++) {
        bool alone = miner_positives(classes, a) == 0;
        if (miner_negatives(classes, a) == 0 || (alone && rule->skip_alone))
            continue;
        if (rule->swap_share > 0 && !alone && dml_rng_uniform(rng) < rule->swap_share) {
            miner_add(out, a, a, miner_any_positive(classes, a, rng));
            swaps++;
        } else {
            size_t positive = alone ? a : miner_any_positive(classes, a, rng);
            state->draws[out->count] = dml_rng_uniform(rng);
            miner_add_open(out, a, positive);
        }
    }
    if (swapped)
        *swapped = swaps;
    return miner_inverse_sphere(state, batch, rule->lower_cutoff, out);
}
