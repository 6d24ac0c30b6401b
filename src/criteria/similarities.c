#include "criteria/similarities.h"

#include "math/products.h"
#include "math/reduce.h"
#include "math/transcendental.h"
#include "math/turn.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum { WORK = 4 }; /* doubles of work per column */

static enum dml_status lay_out(struct dml_similarities *s, const struct dml_batch *batch,
                               size_t tuples) {
    size_t n = batch->n, dim = batch->dim, threads = (size_t)omp_get_max_threads();
    size_t doubles = threads * WORK * n, packed = dml_product_workspace(dim, n);
    size_t floats = n * n + n * dim + packed;
    double *memory =
        dml_buffer_reserve(&s->memory, 2 * doubles + floats + n + tuples, sizeof(float));
    if (!memory)
        return DML_ERROR_MEMORY;
    s->n = n;
    s->dim = dim;
    s->embeddings = batch->embeddings;
    s->work = memory;
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
    memset(s->g, 0, s->n * s->n * sizeof *s->g);
    return DML_OK;
}

void dml_group_tuples(const int32_t *samples, size_t count, size_t n, uint32_t *first,
                      uint32_t *next) {
    for (size_t i = 0; i < n; i++)
        first[i] = DML_NO_TUPLE;
    for (size_t t = count; t-- > 0;) {
        next[t] = first[samples[t]];
        first[samples[t]] = (uint32_t)t;
    }
}

void dml_similarities_group(struct dml_similarities *s, const int32_t *samples, size_t count) {
    dml_group_tuples(samples, count, s->n, s->first, s->next);
}

double *dml_similarities_work(const struct dml_similarities *s) {
    return s->work + (size_t)omp_get_thread_num() * WORK * s->n;
}

/* A row of a tile is one cache line. */
enum { TILE = 16 };

/* The tile at (row, column) and its mirror image across the diagonal. */
static void fold_tiles(float *m, size_t n, size_t row, size_t column) {
    float sum[TILE][TILE];
    float *own = m + row * n + column, *other = m + column * n + row;
    for (size_t i = 0; i < TILE; i += DML_TURN)
        for (size_t j = 0; j < TILE; j += DML_TURN)
            dml_turn(other + j * n + i, n, &sum[i][j], TILE);
    for (size_t i = 0; i < TILE; i++)
        for (size_t j = 0; j < TILE; j++)
            own[i * n + j] = sum[i][j] += own[i * n + j];
    for (size_t j = 0; j < TILE; j += DML_TURN)
        for (size_t i = 0; i < TILE; i += DML_TURN)
            dml_turn(&sum[i][j], TILE, other + j * n + i, n);
}

/* Rows from `row` on, as many as a tile has or fewer, and columns from `left` up to the
 * diagonal. */
static void fold_one_by_one(float *m, size_t n, size_t row, size_t left) {
    for (size_t i = row; i < n && i < row + TILE; i++)
        for (size_t j = left; j <= i; j++)
            m[i * n + j] = m[j * n + i] = m[i * n + j] + m[j * n + i];
}

void dml_fold(float *m, size_t n) {
#pragma omp parallel for schedule(dynamic, 2) if (n > 200)
    for (size_t row = 0; row < n; row += TILE) {
        const bool whole = row + TILE <= n;
        for (size_t column = 0; whole && column < row; column += TILE)
            fold_tiles(m, n, row, column);
        fold_one_by_one(m, n, row, whole ? row : 0);
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

/* Writes x to e in float32. Returns the largest x of another label, or 0 if that is larger; rounded
 * where it is finite in float32. Numbers of one width vectorise with one number of lanes. */
static double largest_negative(const int32_t *labels, int32_t label, size_t n, const double *x,
                               float *e) {
    int32_t order = 0; /* numbers from 0 on are ordered as their bits are */
    for (size_t j = 0; j < n; j++) {
        float value = (float)x[j];
        int32_t bits = labels[j] != label ? dml_float_to_bits(value) : 0;
        e[j] = value;
        order = bits > order ? bits : order;
    }
    double most = dml_bits_to_float(order);
    if (most < INFINITY)
        return most;
    most = 0;
    for (size_t j = 0; j < n; j++)
        most = labels[j] != label ? fmax(most, x[j]) : most;
    return most;
}

struct dml_softplus dml_softplus_negatives(const int32_t *labels, int32_t label, size_t n,
                                           const double *x, float *e) {
    enum { SMALL = 16 }; /* below it float32 rounds what matters by at most 5e-7 */
    const double most = largest_negative(labels, label, n, x, e);
    const bool small = most < SMALL;
    for (size_t j = 0; j < n && !small; j++)
        e[j] = (float)(x[j] - most);
    const float shift = small ? (float)most : 0;
#pragma omp simd
    for (size_t j = 0; j < n; j++) {
        float value = dml_expf(e[j] - shift);
        e[j] = labels[j] != label ? value : 0.0f;
    }
    const double sum = dml_sum(e, n), none = most == 0 ? 1 : exp(-most);
    const double scale = 1 / (none + sum);
    return (struct dml_softplus){.value = most == 0 ? log1p(sum) : most + log(none + sum),
                                 .scale = scale,
                                 .sum = sum * scale};
}

void dml_similarities_free(struct dml_similarities *s) {
    dml_inner_products_free(&s->products);
    dml_buffer_free(&s->memory);
    *s = (struct dml_similarities){0};
}
