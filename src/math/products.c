#include "math/products.h"

#include "math/panels.h"
#include "math/turn.h"

#include <omp.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Columns and rows of b that are packed at a time, and the most rows of c that a thread has at a
 * time, a multiple of DML_PANEL_ROWS. How k is cut affects the last bits and depends on k alone;
 * how many rows a thread has does not affect them. */
enum { WIDE = 1024, DEEP = 768, ROWS = 48 };

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

/* The size of the equal parts that `whole` is cut into: a multiple of DML_PANEL, at most `most`. */
static size_t part_of(size_t whole, size_t most) {
    size_t count = (whole + most - 1) / most;
    return least(((whole + count - 1) / count + DML_PANEL - 1) / DML_PANEL * DML_PANEL, whole);
}

size_t dml_product_workspace(size_t n, size_t k) {
    return dml_panels_size(part_of(k, DEEP), part_of(n, WIDE));
}

/* Rows at a time: as many as let the threads finish together, each having its share of the parts.
 */
static size_t height_of(size_t m) {
    const size_t threads = (size_t)omp_get_max_threads();
    size_t best = ROWS, least_rows = SIZE_MAX;
    for (size_t height = ROWS; height >= DML_PANEL_ROWS; height -= DML_PANEL_ROWS) {
        size_t parts = (m + height - 1) / height;
        size_t rows = (parts + threads - 1) / threads * height; /* of the thread that has most */
        if (rows + rows / 32 < least_rows) {                    /* taller parts pack less */
            least_rows = rows;
            best = height;
        }
    }
    return best;
}

/* Packs the part (k, n) of op(b) that begins at `b`. */
static void pack(int transpose, size_t n, size_t k, const float *b, size_t ldb, float *work) {
#pragma omp parallel for schedule(dynamic, 1) if (n * k > 30000)
    for (size_t j = 0; j < n; j += DML_PANEL) {
        size_t width = least(n - j, DML_PANEL);
        if (transpose)
            dml_panels_pack_transposed(k, width, b + j * ldb, ldb, work + j * k);
        else
            dml_panels_pack(k, width, b + j, ldb, work + j * k);
    }
}

void dml_product_begin(const struct dml_product_start *start, size_t top, size_t left, size_t rows,
                       size_t columns, float *c, size_t ldc) {
    const float *row = start->row ? start->row + left : NULL;
    for (size_t i = 0; i < rows; i++, c += ldc) {
        const float *from = start->matrix ? start->matrix + (top + i) * start->ld + left : NULL;
        if (row && from)
#pragma omp simd
            for (size_t j = 0; j < columns; j++)
                c[j] = from[j] + row[j];
        else if (row || (from && from != c))
            memcpy(c, row ? row : from, columns * sizeof *c);
    }
}

/* `from` (depth, rows), its rows `ld` apart, transposed. */
static void turn(size_t rows, size_t depth, const float *from, size_t ld, float *to) {
    size_t whole_rows = rows / DML_TURN * DML_TURN, whole_depth = depth / DML_TURN * DML_TURN;
    for (size_t l = 0; l < whole_depth; l += DML_TURN)
        for (size_t i = 0; i < whole_rows; i += DML_TURN)
            dml_turn(from + l * ld + i, ld, to + i * depth + l, depth);
    for (size_t i = 0; i < rows; i++)
        for (size_t l = i < whole_rows ? whole_depth : 0; l < depth; l++)
            to[i * depth + l] = from[l * ld + i];
}

/* What the part with the upper left element (top, left) starts from. */
static struct dml_product_start start_at(const struct dml_product_start *whole, size_t top,
                                         size_t left) {
    struct dml_product_start start = {0};
    if (whole && whole->row)
        start.row = whole->row + left;
    if (whole && whole->matrix)
        start = (struct dml_product_start){start.row, whole->matrix + top * whole->ld + left,
                                           whole->ld};
    return start;
}

static float sum_of(const float *values, size_t count) {
    enum { STRETCH = 64 }; /* summed in float32; those sums are summed in float64 */
    double sum = 0;
    for (size_t l = 0; l < count; l += STRETCH) {
        float part = 0;
#pragma omp simd reduction(+ : part)
        for (size_t i = l; i < least(l + STRETCH, count); i++)
            part += values[i];
        sum += part;
    }
    return (float)sum;
}

/* Some rows of a part. Those of a transposed `a` are turned first: a tile of few rows would use a
 * fraction of each line of cache, which are too many for the nearest one. Then they can be summed
 * while they are there, too. */
static void multiply(int transpose_a, size_t rows, size_t width, size_t depth, const float *a,
                     size_t lda, const float *work, struct dml_product_start start, float *c,
                     size_t ldc, float *sums) {
    float turned[DEEP * ROWS];
    if (transpose_a) {
        turn(rows, depth, a, lda, turned);
        a = turned;
        lda = depth;
    }
    for (size_t i = 0; sums && i < rows; i++)
        sums[i] += sum_of(a + i * lda, depth);
    if (start.row && start.matrix) {
        dml_product_begin(&start, 0, 0, rows, width, c, ldc);
        start = (struct dml_product_start){NULL, c, ldc};
    }
    dml_panels_multiply(rows, width, depth, a, lda, 1, work, start.row ? start.row : start.matrix,
                        start.row ? 0 : start.ld, c, ldc);
}

static void product(int transpose_a, int transpose_b, size_t m, size_t n, size_t k, const float *a,
                    size_t lda, const float *b, size_t ldb, const struct dml_product_start *start,
                    float *c, size_t ldc, float *sums, float *work) {
    size_t row = transpose_a ? 1 : lda, step = transpose_a ? lda : 1;
    size_t wide = part_of(n, WIDE), deep = part_of(k, DEEP), height = height_of(m);
    for (size_t j = 0; j < n; j += wide)
        for (size_t l = 0; l < k; l += deep) {
            size_t width = least(n - j, wide), depth = least(k - l, deep);
            pack(transpose_b, width, depth, b + (transpose_b ? j * ldb + l : l * ldb + j), ldb,
                 work);
#pragma omp parallel for schedule(dynamic, 1) if (m * width * depth > 2000000)
            for (size_t i = 0; i < m; i += height) {
                float *to = c + i * ldc + j;
                multiply(transpose_a, least(m - i, height), width, depth, a + i * row + l * step,
                         lda, work,
                         l > 0 ? (struct dml_product_start){NULL, to, ldc} : start_at(start, i, j),
                         to, ldc, sums && j == 0 ? sums + i : NULL);
            }
        }
}

void dml_product(int transpose_a, int transpose_b, size_t m, size_t n, size_t k, const float *a,
                 size_t lda, const float *b, size_t ldb, const struct dml_product_start *start,
                 float *c, size_t ldc, float *work) {
    product(transpose_a, transpose_b, m, n, k, a, lda, b, ldb, start, c, ldc, NULL, work);
}

void dml_product_gradients(size_t m, size_t n, size_t k, const float *grad, size_t ldg,
                           const float *x, size_t ldx, float *c, size_t ldc, float *sums,
                           float *work) {
    memset(sums, 0, m * sizeof *sums);
    product(1, 0, m, n, k, grad, ldg, x, ldx, NULL, c, ldc, sums, work);
}
