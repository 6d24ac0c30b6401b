#include "miners/weighted.h"

#include "base/memory.h"

#include <stdlib.h>

enum { BLOCK = 32 }; /* weights are summed and searched in blocks of this many */

/* Sums of each block of weights; returns their total. */
static double sum_blocks(const float *weights, size_t n, float *block_sums) {
    double total = 0;
    for (size_t start = 0; start < n; start += BLOCK) {
        size_t end = start + BLOCK < n ? start + BLOCK : n;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (size_t j = start; j < end; j++)
            sum += weights[j];
        block_sums[start / BLOCK] = sum;
        total += sum;
    }
    return total;
}

/* The sample at which the running sum of the weights passes draw * total. */
static size_t search(const float *weights, size_t n, const float *block_sums, double total,
                     double draw) {
    double at = draw * total;
    size_t block = 0, blocks = (n + BLOCK - 1) / BLOCK;
    while (block + 1 < blocks && at >= block_sums[block])
        at -= block_sums[block++];
    size_t last = n;
    for (size_t j = block * BLOCK; j < n && at >= 0; j++) {
        if (!(weights[j] > 0))
            continue;
        last = j;
        at -= weights[j];
    }
    /* Rounding may leave a little of `at` after the last weight above 0: it belongs to that one. */
    for (size_t j = block * BLOCK; last == n && j-- > 0;)
        if (weights[j] > 0)
            last = j;
    return last;
}

enum dml_status miner_draw_negatives(const struct miner_state *state, const struct dml_batch *batch,
                                     miner_weigh *weigh, const void *data, struct dml_tuples *out) {
    size_t n = batch->n;
    int failed = 0;
#pragma omp parallel if (n > 128) reduction(| : failed)
    {
        float *weights = dml_alloc_aligned(2 * n, sizeof *weights);
        float *block_sums = weights ? weights + n : NULL;
        failed = !weights;
#pragma omp for
        for (size_t t = 0; t < out->count; t++) {
            if (failed || out->negatives[t] >= 0)
                continue;
            weigh(state, batch, data, (size_t)out->anchors[t], (size_t)out->positives[t], weights);
            double total = sum_blocks(weights, n, block_sums);
            out->negatives[t] = (int32_t)search(weights, n, block_sums, total, state->draws[t]);
        }
        free(weights);
    }
    return failed ? dml_fail(DML_ERROR_MEMORY, "out of memory for a row of %zu weights", n)
                  : DML_OK;
}

enum dml_status miner_start_triplets(struct miner_state *state, const struct dml_batch *batch,
                                     struct dml_rng *rng, struct dml_tuples *out) {
    const struct miner_classes *classes = &state->classes;
    enum dml_status status = dml_tuples_reserve(out, DML_TUPLES_TRIPLETS, batch->n);
    if (!status)
        status = miner_classify(state, batch->labels, batch->n);
    for (size_t a = 0; a < batch->n && !status; a++) {
        if (miner_positives(classes, a) == 0 || miner_negatives(classes, a) == 0)
            continue;
        size_t positive = miner_any_positive(classes, a, rng);
        state->draws[out->count] = dml_rng_uniform(rng);
        miner_add_open(out, a, positive);
    }
    return status;
}
