#include "criteria/common.h"

#include "base/memory.h"
#include "math/linear.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void *dml_buffer_reserve(struct dml_buffer *buffer, size_t count, size_t size) {
    if (buffer->data && count <= buffer->size / size)
        return buffer->data;
    void *data = dml_alloc_aligned(count ? count : 1, size);
    if (!data)
        return NULL;
    free(buffer->data);
    buffer->data = data;
    buffer->size = (count ? count : 1) * size;
    return data;
}

void dml_buffer_free(struct dml_buffer *buffer) {
    free(buffer->data);
    *buffer = (struct dml_buffer){0};
}

enum dml_status dml_state_new(size_t size, const void *options, size_t options_size, void **state) {
    void *made = dml_alloc(1, size);
    if (!made)
        return DML_ERROR_MEMORY;
    memcpy(made, options, options_size);
    *state = made;
    return DML_OK;
}

enum dml_status dml_loss_none(const struct dml_batch *batch, size_t tuples, float *grad,
                              struct dml_loss *loss) {
    memset(grad, 0, batch->n * batch->dim * sizeof *grad);
    *loss = (struct dml_loss){.tuples = tuples};
    return DML_OK;
}

double dml_pair_distance(const struct dml_batch *batch, size_t i, size_t j, double offset) {
    const float *a = batch->embeddings + i * batch->dim, *b = batch->embeddings + j * batch->dim;
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t k = 0; k < batch->dim; k++) {
        double difference = (double)a[k] - b[k] + offset;
        sum += difference * difference;
    }
    return sqrt(sum);
}

void dml_pair_pull(const struct dml_batch *batch, size_t i, size_t j, double offset, double weight,
                   float *grad) {
    if (i == j) /* the row loses what it gains */
        return;
    const float *a = batch->embeddings + i * batch->dim, *b = batch->embeddings + j * batch->dim;
    float *restrict to = grad + i * batch->dim, *restrict from = grad + j * batch->dim;
    float factor = (float)weight, shift = (float)offset;
#pragma omp simd
    for (size_t k = 0; k < batch->dim; k++) {
        float force = factor * (a[k] - b[k] + shift);
        to[k] += force;
        from[k] -= force;
    }
}

double dml_norm_penalty(const struct dml_batch *batch, double weight, float *grad) {
    size_t dim = batch->dim;
    double sum = 0;
    for (size_t i = 0; i < batch->n; i++) {
        const float *x = batch->embeddings + i * dim;
        double norm = sqrt(dml_dot(x, x, dim));
        sum += norm;
        if (norm <= 0)
            continue;
        float factor = (float)(weight / ((double)batch->n * norm));
        for (size_t k = 0; k < dim; k++)
            grad[i * dim + k] += factor * x[k];
    }
    return weight * sum / (double)batch->n;
}

void dml_init_uniform(float *values, size_t count, uint64_t seed, double bound) {
    struct dml_rng rng = dml_rng_make(seed, DML_PURPOSE_CRITERION, 0, 0);
    for (size_t i = 0; i < count; i++)
        values[i] = (float)((2 * dml_rng_uniform(&rng) - 1) * bound);
}

void dml_init_normal(float *values, size_t count, uint64_t seed, double scale) {
    struct dml_rng rng = dml_rng_make(seed, DML_PURPOSE_CRITERION, 0, 0);
    for (size_t i = 0; i < count; i++)
        values[i] = (float)(dml_rng_normal(&rng) * scale);
}

void dml_units_forward(const float *x, size_t n, size_t dim, float *units, float *norms) {
#pragma omp parallel for if (n * dim > 100000)
    for (size_t i = 0; i < n; i++) {
        const float *row = x + i * dim;
        double norm = sqrt(dml_dot(row, row, dim));
        float scale = norm < 1e-12 ? 0.0f : (float)(1 / norm);
        norms[i] = (float)norm;
        for (size_t k = 0; k < dim; k++)
            units[i * dim + k] = row[k] * scale;
    }
}

void dml_units_backward(const float *units, const float *norms, size_t n, size_t dim, float *grad) {
#pragma omp parallel for if (n * dim > 100000)
    for (size_t i = 0; i < n; i++) {
        const float *unit = units + i * dim;
        float *g = grad + i * dim;
        float along = (float)dml_dot(unit, g, dim);
        float scale = norms[i] < 1e-12f ? 0.0f : 1 / norms[i];
        for (size_t k = 0; k < dim; k++)
            g[k] = (g[k] - unit[k] * along) * scale;
    }
}
