/* Distances and cosines of a batch in float64, for miners that decide by them alone. */
#include "miners/common.h"

#include "base/memory.h"
#include "math/linear.h"

#include <math.h>
#include <stdlib.h>

static enum dml_status reserve(struct miner_state *state, size_t n) {
    if (n <= state->exact_capacity)
        return DML_OK;
    free(state->exact);
    state->exact_capacity = 0;
    state->exact = dml_alloc_aligned(n, n * sizeof *state->exact);
    if (!state->exact)
        return DML_ERROR_MEMORY;
    state->exact_capacity = n;
    return DML_OK;
}

static void mirror(double *values, size_t n) {
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++)
            values[j * n + i] = values[i * n + j];
}

enum dml_status miner_distances64(struct miner_state *state, const struct dml_batch *batch) {
    const size_t n = batch->n;
    enum dml_status status = reserve(state, n);
    if (status)
        return status;
#pragma omp parallel for schedule(dynamic, 8) if (n > 32)
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++)
            state->exact[i * n + j] = miner_distance(batch, i, j);
    mirror(state->exact, n);
    return DML_OK;
}

enum dml_status miner_cosines64(struct miner_state *state, const struct dml_batch *batch) {
    const size_t n = batch->n, dim = batch->dim;
    enum dml_status status = reserve(state, n);
    if (status)
        return status;
    double *cosines = state->exact;
#pragma omp parallel for schedule(dynamic, 8) if (n > 32)
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++)
            cosines[i * n + j] =
                dml_dot(batch->embeddings + i * dim, batch->embeddings + j * dim, dim);
    for (size_t i = 0; i < n; i++) {
        double *square = &cosines[i * n + i];
        *square = *square < 1e-24 ? 0 : 1 / sqrt(*square);
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++)
            cosines[i * n + j] *= cosines[i * n + i] * cosines[j * n + j];
    mirror(cosines, n);
    return DML_OK;
}
