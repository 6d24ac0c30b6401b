#include "miners/inverse_sphere.h"

#include "math/transcendental.h"
#include "miners/weighted.h"

#include <float.h>

struct sphere {
    float least2;   /* squared lower cutoff */
    float exponent; /* (2 - dim)/2 */
};

/* 1 - d^2/4 */
static inline float cosine_part(float d2) {
    float rest = 1 - 0.25f * d2;
    return rest > 1e-8f ? rest : 1e-8f;
}

/* 1/q(d) = (d^2 (1 - d^2/4))^((2 - dim)/2) sqrt(1 - d^2/4): one logarithm instead of two. The
 * power is taken relative to the row's largest; the root is never below 1e-4. */
static void weigh(const struct miner_state *state, const struct dml_batch *batch, const void *data,
                  size_t anchor, size_t positive, float *weights) {
    (void)positive;
    const struct miner_classes *classes = &state->classes;
    const struct sphere sphere = *(const struct sphere *)data;
    size_t n = batch->n, own = classes->class_of[anchor];
    miner_distances2(state, anchor, sphere.least2, weights);
    float root[n];
    float power = sphere.exponent, most = -FLT_MAX;
#pragma omp simd
    for (size_t j = 0; j < n; j++) {
        float rest = cosine_part(weights[j]);
        root[j] = sqrtf(rest);
        weights[j] = power * dml_logf(weights[j] * rest);
    }
    for (size_t at = classes->start[own]; at < classes->start[own + 1]; at++)
        weights[classes->order[at]] = -FLT_MAX;
#pragma omp simd reduction(max : most)
    for (size_t j = 0; j < n; j++)
        most = weights[j] > most ? weights[j] : most;
#pragma omp simd
    for (size_t j = 0; j < n; j++)
        weights[j] = dml_expf(weights[j] - most) * root[j];
}

enum dml_status miner_inverse_sphere(const struct miner_state *state, const struct dml_batch *batch,
                                     double lower_cutoff, struct dml_tuples *out) {
    const float least = (float)fmax(lower_cutoff, 1e-6);
    const struct sphere sphere = {.least2 = least * least, .exponent = (2 - (float)batch->dim) / 2};
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
