#include "criteria/similarities.h"

#include "math/linear.h"
#include "math/products.h"
#include "math/transcendental.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum { ROOM = 4 }; /* doubles of room a column */

static enum dml_status lay_out(struct dml_similarities *s, const struct dml_batch *batch,
                               size_t tuples) {
    size_t n = batch->n, dim = batch->dim, threads = (size_t)omp_get_max_threads();
    size_t doubles = n + threads * ROOM * n, packed = dml_product_room(dim, n);
    size_t floats = n * n + n * dim + packed;
    double *memory =
        dml_buffer_reserve(&s->memory, 2 * doubles + floats + n + tuples, sizeof(float));
    if (!memory)
        return DML_ERROR_MEMORY;
    s->n = n;
    s->dim = dim;
    s->embeddings = batch->embeddings;
    s->norms2 = memory;
    s->rows = memory + n;
    s->packed = (float *)(memory + doubles);
    s->back = s->packed + packed;
    s->g = s->back + n * dim;
    s->first = (uint32_t *)(s->g + n * n);
    s->next = s->first + n;
    return DML_OK;
}

enum dml_status dml_similarities_forward(struct dml_similarities *s, const struct dml_batch *batch,
                                         double slope, size_t tuples) {
    enum dml_status status = lay_out(s, batch, tuples);
    if (!status)
        status = dml_inner_products(&s->products, batch->embeddings, batch->n, batch->dim, slope);
    if (status)
        return status;
    for (size_t i = 0; i < s->n; i++) {
        const float *x = batch->embeddings + i * s->dim;
        s->norms2[i] = dml_dot(x, x, s->dim);
    }
    memset(s->g, 0, s->n * s->n * sizeof *s->g);
    return DML_OK;
}

void dml_similarities_group(struct dml_similarities *s, const int32_t *samples, size_t count) {
    for (size_t i = 0; i < s->n; i++)
        s->first[i] = DML_NO_TUPLE;
    for (size_t t = count; t-- > 0;) {
        s->next[t] = s->first[samples[t]];
        s->first[samples[t]] = (uint32_t)t;
    }
}

double *dml_similarities_room(const struct dml_similarities *s) {
    return s->rows + (size_t)omp_get_thread_num() * ROOM * s->n;
}

/* A tile's row is a line of the cache. */
enum { TILE = 16 };

/* The tile at (row, column) and its mirror image, which lies as far on the other side. */
static void fold_tiles(float *m, size_t n, size_t row, size_t column) {
    float turned[TILE][TILE];
    size_t height = n - row < TILE ? n - row : TILE, width = TILE;
    for (size_t j = 0; j < width; j++)
        for (size_t i = 0; i < height; i++)
            turned[i][j] = m[(column + j) * n + row + i];
    for (size_t i = 0; i < height; i++) {
        float *to = m + (row + i) * n + column;
        for (size_t j = 0; j < width; j++)
            to[j] = turned[i][j] += to[j];
    }
    for (size_t j = 0; j < width; j++)
        for (size_t i = 0; i < height; i++)
            m[(column + j) * n + row + i] = turned[i][j];
}

static void fold_diagonal(float *m, size_t n, size_t first) {
    for (size_t i = first; i < n && i < first + TILE; i++)
        for (size_t j = first; j <= i; j++)
            m[i * n + j] = m[j * n + i] = m[i * n + j] + m[j * n + i];
}

void dml_fold(float *m, size_t n) {
#pragma omp parallel for schedule(dynamic, 2) if (n > 200)
    for (size_t row = 0; row < n; row += TILE) {
        for (size_t column = 0; column < row; column += TILE)
            fold_tiles(m, n, row, column);
        fold_diagonal(m, n, row);
    }
}

void dml_similarities_product(const struct dml_similarities *s, bool add, float *grad) {
    const struct dml_product_start sum = {.matrix = grad, .ld = s->dim};
    dml_product(0, 0, s->n, s->dim, s->n, s->g, s->n, s->embeddings, s->dim, add ? &sum : NULL,
                grad, s->dim, s->packed);
}

float *dml_similarities_backward(struct dml_similarities *s) {
    dml_fold(s->g, s->n);
    dml_similarities_product(s, false, s->back);
    return s->back;
}

double dml_softplus_negatives(const int32_t *labels, int32_t label, size_t n, const double *x,
                              float *e) {
    double most = 0, sum = 0;
#pragma omp simd reduction(max : most)
    for (size_t j = 0; j < n; j++) {
        double value = labels[j] != label ? x[j] : 0;
        most = value > most ? value : most;
    }
#pragma omp simd
    for (size_t j = 0; j < n; j++)
        e[j] = (float)(x[j] - most);
#pragma omp simd
    for (size_t j = 0; j < n; j++) {
        float value = dml_expf(e[j]);
        e[j] = labels[j] != label ? value : 0.0f;
    }
#pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < n; j++)
        sum += e[j];
    double value = most == 0 ? log1p(sum) : most + log(exp(-most) + sum);
    float scale = (float)exp(most - value);
    for (size_t j = 0; j < n; j++)
        e[j] *= scale;
    return value;
}

void dml_similarities_free(struct dml_similarities *s) {
    dml_inner_products_free(&s->products);
    dml_buffer_free(&s->memory);
    *s = (struct dml_similarities){0};
}
