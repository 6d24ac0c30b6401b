#include "math/gram.h"

#include <cblas.h>

enum { TILE = 32, ROWS = 96 }; /* ROWS is a multiple of TILE */

/* Copies a tile of the lower half to the upper one, by way of a small square: a column of `out`
 * walks through memory in steps that caches cannot hold. The upper half of a tile on the diagonal
 * follows from its lower one. */
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

/* Rows row..row + height - 1 up to the diagonal. */
static void fill_rows(const float *x, size_t n, size_t dim, size_t row, size_t height, float *out) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)height, (blasint)(row + height),
                (blasint)dim, 1.0f, x + row * dim, (blasint)dim, x, (blasint)dim, 0.0f,
                out + row * n, (blasint)n);
}

static void mirror_rows(float *out, size_t n, size_t row, size_t height) {
    for (size_t i = row; i < row + height; i += TILE)
        for (size_t j = 0; j <= i; j += TILE)
            mirror_tile(out, n, i, j);
}

void dml_gram(const float *x, size_t n, size_t dim, float *out) {
    /* In blocks of fixed size. BLAS on all cores would sum in an order that depends on how many
     * there are; it uses one within a parallel region, and for products of up to 2^18 terms. A
     * small batch takes such steps on one core, which costs less than to wake the others. */
    size_t few = ((size_t)1 << 18) / (n * dim);
    if (n <= 128 && few >= 8) {
        for (size_t row = 0; row < n; row += few)
            fill_rows(x, n, dim, row, n - row < few ? n - row : few, out);
        mirror_rows(out, n, 0, n);
        return;
    }
    size_t blocks = (n + ROWS - 1) / ROWS;
#pragma omp parallel for schedule(dynamic, 1)
    for (size_t b = 0; b < blocks; b++) { /* the longest first */
        size_t row = (blocks - 1 - b) * ROWS, height = n - row < ROWS ? n - row : ROWS;
        fill_rows(x, n, dim, row, height, out);
        mirror_rows(out, n, row, height);
    }
}
