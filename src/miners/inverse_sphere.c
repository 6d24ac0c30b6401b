#include "miners/inverse_sphere.h"

#include "base/memory.h"
#include "math/transcendental.h"

#include <float.h>
#include <stdlib.h>

enum { BLOCK = 32 }; /* weights are summed and searched in blocks of so many */

struct sphere {
    float least2;       /* squared lower cutoff */
    float near, cosine; /* factors of log d^2 and log(1 - d^2/4) */
};

/* out (n): log 1/q of the distances of one anchor. */
static void log_weights(const struct miner_state *state, size_t anchor, struct sphere sphere,
                        float *out) {
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

/* Turns logarithms into weights relative to the largest, and sums each block of them. */
static double exponentiate(float *row, size_t n, float *block_sums) {
    float most = -FLT_MAX;
#pragma omp simd reduction(max : most)
    for (size_t j = 0; j < n; j++)
        most = row[j] > most ? row[j] : most;
    double total = 0;
    for (size_t start = 0; start < n; start += BLOCK) {
        size_t end = start + BLOCK < n ? start + BLOCK : n;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (size_t j = start; j < end; j++) {
            row[j] = dml_expf(row[j] - most);
            sum += row[j];
        }
        block_sums[start / BLOCK] = sum;
        total += sum;
    }
    return total;
}

/* The index at which the running sum of the weights passes draw * total. */
static size_t search(const float *row, size_t n, const float *block_sums, double total,
                     double draw) {
    double at = draw * total;
    size_t block = 0, blocks = (n + BLOCK - 1) / BLOCK;
    while (block + 1 < blocks && at >= block_sums[block])
        at -= block_sums[block++];
    size_t last =
        n; /* what rounding leaves of `at` behind the last block goes to its last weight */
    for (size_t j = block * BLOCK; j < n && at >= 0; j++) {
        if (!(row[j] > 0))
            continue;
        last = j;
        at -= row[j];
    }
    for (size_t j = block * BLOCK; last == n && j-- > 0;)
        if (row[j] > 0)
            last = j;
    return last;
}

static int32_t draw_negative(const struct miner_state *state, struct sphere sphere, size_t anchor,
                             double draw, float *row, float *block_sums) {
    const struct miner_classes *classes = &state->classes;
    size_t n = classes->n, own = classes->class_of[anchor];
    log_weights(state, anchor, sphere, row);
    for (size_t at = classes->start[own]; at < classes->start[own + 1]; at++)
        row[classes->order[at]] = -FLT_MAX;
    double total = exponentiate(row, n, block_sums);
    return (int32_t)search(row, n, block_sums, total, draw);
}

enum dml_status miner_inverse_sphere(struct miner_state *state, size_t dim, double lower_cutoff,
                                     const struct dml_tuples *tuples) {
    const float least = (float)fmax(lower_cutoff, 1e-6);
    const struct sphere sphere = {
        .least2 = least * least, .near = (2 - (float)dim) / 2, .cosine = (3 - (float)dim) / 2};
    size_t n = state->classes.n;
    int failed = 0;
#pragma omp parallel if (n > 64) reduction(| : failed)
    {
        float *row = dml_alloc_aligned(2 * n, sizeof *row); /* weights, then block sums */
        failed = !row;
#pragma omp for
        for (size_t t = 0; t < tuples->count; t++)
            if (row && tuples->negatives[t] < 0)
                tuples->negatives[t] = draw_negative(state, sphere, (size_t)tuples->anchors[t],
                                                     state->draws[t], row, row + n);
        free(row);
    }
    return failed ? dml_fail(DML_ERROR_MEMORY, "out of memory for a row of %zu weights", n)
                  : DML_OK;
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
            miner_add(out, a, positive, 0);
            out->negatives[out->count - 1] = -1;
        }
    }
    if (swapped)
        *swapped = swaps;
    return miner_inverse_sphere(state, batch->dim, rule->lower_cutoff, out);
}
