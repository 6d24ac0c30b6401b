#include "math/gram.h"

#include <cblas.h>

enum { TILE = 32 };

/* Copies a tile of the lower half to the upper one, by way of a small square: a column of `out`
 * walks through memory in steps that caches cannot hold. The
 * upper half of a tile on the diagonal follows from its lower one. */
static void mirror_tile(float *out, size_t n, size_t row, size_t column) {
    size_t height = n - row < TILE ? n - row : TILE;
    size_t width = n - column < TILE ? n - column : TILE;
    float square[TILE][TILE + 1];
    for (size_t i = 0; i < height; i++)
        for (size_t j = 0; j < (row == column ? i + 1 : width); j++)
            square[i][j] = out[(row + i) * n + column + j];
    if (row == column)
        for (size_t i = 0; i < height; i++)
            for (size_t j = i + 1; j < width; j++)
                square[i][j] = square[j][i];
    for (size_t j = 0; j < width; j++)
        for (size_t i = 0; i < height; i++)
            out[(column + j) * n + row + i] = square[i][j];
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
