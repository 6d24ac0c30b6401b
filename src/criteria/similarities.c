#include "criteria/similarities.h"

#include "math/linear.h"
#include "math/transcendental.h"

#include <math.h>
#include <string.h>

enum dml_status dml_similarities_forward(struct dml_similarities *s,
                                         const struct dml_batch *batch) {
    size_t n = batch->n, dim = batch->dim;
    double *memory =
        dml_buffer_reserve(&s->memory, 2 * n * (n + dim), sizeof *memory); /* x, back, s, g */
    if (!memory)
        return DML_ERROR_MEMORY;
    s->n = n;
    s->dim = dim;
    s->x = memory;
    s->back = s->x + n * dim;
    s->s = s->back + n * dim;
    s->g = s->s + n * n;
    for (size_t i = 0; i < n * dim; i++)
        s->x[i] = batch->embeddings[i];
    dml_gemm64(0, 1, n, n, dim, 1, s->x, dim, s->x, dim, 0, s->s, n);
    memset(s->g, 0, n * n * sizeof *s->g);
    return DML_OK;
}

enum { TILE = 16 };

/* g + g^T for the tile at (row, column) below the diagonal or on it, and for its mirror image. */
static void fold_tile(double *g, size_t n, size_t row, size_t column) {
    size_t row_end = row + TILE < n ? row + TILE : n;
    for (size_t i = row; i < row_end; i++) {
        size_t column_end = column + TILE < i + 1 ? column + TILE : i + 1;
        for (size_t j = column; j < column_end; j++) {
            double sum = g[i * n + j] + g[j * n + i];
            g[i * n + j] = sum;
            g[j * n + i] = sum;
        }
    }
}

double *dml_similarities_backward(struct dml_similarities *s) {
    for (size_t row = 0; row < s->n; row += TILE)
        for (size_t column = 0; column <= row; column += TILE)
            fold_tile(s->g, s->n, row, column);
    dml_gemm64(0, 0, s->n, s->dim, s->n, 1, s->g, s->n, s->x, s->dim, 0, s->back, s->dim);
    return s->back;
}

double dml_softplus_negatives(const int32_t *labels, int32_t label, size_t n, double *x, float *e) {
    double most = 0, sum = 0;
    for (size_t j = 0; j < n; j++)
        most = labels[j] != label && x[j] > most ? x[j] : most;
#pragma omp simd
    for (size_t j = 0; j < n; j++) {
        float value = dml_expf((float)(x[j] - most));
        e[j] = labels[j] != label ? value : 0.0f;
    }
    for (size_t j = 0; j < n; j++)
        sum += e[j];
    double value = most == 0 ? log1p(sum) : most + log(exp(-most) + sum);
    double scale = exp(most - value);
    for (size_t j = 0; j < n; j++)
        x[j] = e[j] * scale;
    return value;
}

void dml_similarities_free(struct dml_similarities *s) {
    dml_buffer_free(&s->memory);
    *s = (struct dml_similarities){0};
}
