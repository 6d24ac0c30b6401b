#include "math/gram.h"

#include "math/linear.h"

enum { TILE = 32, ROWS = 64 }; /* ROWS is a multiple of TILE */

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
    /* Blocks of rows, the longest first, up to the diagonal; in tiles of fixed size, because BLAS
     * on all cores sums in an order that depends on how many there are. */
    size_t blocks = (n + ROWS - 1) / ROWS;
#pragma omp parallel for schedule(dynamic, 1) if (n > ROWS)
    for (size_t b = 0; b < blocks; b++) {
        size_t row = (blocks - 1 - b) * ROWS, height = n - row < ROWS ? n - row : ROWS;
        dml_gemm(0, 1, height, row + height, dim, 1.0f, x + row * dim, dim, x, dim, 0.0f,
                 out + row * n, n);
        for (size_t i = row; i < row + height; i += TILE)
            for (size_t j = 0; j <= i; j += TILE)
                mirror_tile(out, n, i, j);
    }
}
