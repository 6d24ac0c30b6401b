#include "math/products.h"

#include "math/panels.h"

#include <stdbool.h>

/* Columns and rows of b that are packed at a time, and rows of c that a thread has at a time. */
enum { WIDE = 4096, DEEP = 2048, ROWS = 4 * DML_PANEL_ROWS };

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

size_t dml_product_room(size_t n, size_t k) {
    return dml_panels_size(least(k, DEEP), least(n, WIDE));
}

/* op(b)'s part (k, n), of which `b` is the first element. */
static void pack(int transpose, size_t n, size_t k, const float *b, size_t ldb, float *room) {
#pragma omp parallel for schedule(dynamic, 1) if (n * k > 100000)
    for (size_t j = 0; j < n; j += DML_PANEL) {
        size_t width = least(n - j, DML_PANEL);
        if (transpose)
            dml_panels_pack_transposed(k, width, b + j * ldb, ldb, room + j * k);
        else
            dml_panels_pack(k, width, b + j, ldb, room + j * k);
    }
}

void dml_product(int transpose_a, int transpose_b, size_t m, size_t n, size_t k, const float *a,
                 size_t lda, const float *b, size_t ldb, int add, float *c, size_t ldc,
                 float *room) {
    size_t row = transpose_a ? 1 : lda, step = transpose_a ? lda : 1;
    for (size_t j = 0; j < n; j += WIDE)
        for (size_t l = 0; l < k; l += DEEP) {
            size_t width = least(n - j, WIDE), depth = least(k - l, DEEP);
            bool gains = add || l > 0;
            pack(transpose_b, width, depth, b + (transpose_b ? j * ldb + l : l * ldb + j), ldb,
                 room);
#pragma omp parallel for schedule(dynamic, 1) if (m * width * depth > 2000000)
            for (size_t i = 0; i < m; i += ROWS)
                dml_panels_multiply(least(m - i, ROWS), width, depth, a + i * row + l * step, row,
                                    step, room, gains, c + i * ldc + j, ldc);
        }
}
