#include "math/gram.h"

#include <cblas.h>

enum { TILE = 32 };

/* Copies a tile of the lower half to the upper one. */
static void mirror_tile(float *out, size_t n, size_t row, size_t column) {
    size_t row_end = row + TILE < n ? row + TILE : n;
    size_t column_end = column + TILE < n ? column + TILE : n;
    for (size_t j = column; j < column_end; j++)
        for (size_t i = row > j ? row : j + 1; i < row_end; i++)
            out[j * n + i] = out[i * n + j];
}

void dml_gram(const float *x, size_t n, size_t dim, float *out) {
    cblas_ssyrk(CblasRowMajor, CblasLower, CblasNoTrans, (blasint)n, (blasint)dim, 1.0f, x,
                (blasint)dim, 0.0f, out, (blasint)n);
    size_t tiles = (n + TILE - 1) / TILE;
#pragma omp parallel for schedule(dynamic, 1) if (n > 128)
    for (size_t row = 0; row < tiles; row++)
        for (size_t column = 0; column <= row; column++)
            mirror_tile(out, n, row * TILE, column * TILE);
}
