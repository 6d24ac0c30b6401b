#include "math/inverse.h"

#include "math/linear.h"

enum { SMALL = 48 };

/* Gauss-Jordan without pivoting, which a positive definite matrix does not need. */
static void invert_small(double *a, size_t n, size_t lda) {
    for (size_t p = 0; p < n; p++) {
        double *pivot = a + p * lda, inverse = 1 / pivot[p];
        pivot[p] = 1;
        for (size_t j = 0; j < n; j++)
            pivot[j] *= inverse;
        for (size_t i = 0; i < n; i++) {
            double *row = a + i * lda, factor = row[p];
            if (i == p)
                continue;
            row[p] = 0;
            for (size_t j = 0; j < n; j++)
                row[j] -= factor * pivot[j];
        }
    }
}

/* By halves [a b; b^T d]: with w = a^-1 b and s = d - b^T w the inverse is
 * [a^-1 + w s^-1 w^T, -w s^-1; (-w s^-1)^T, s^-1]. */
static void invert(double *a, size_t n, size_t lda, double *work) {
    if (n <= SMALL) {
        invert_small(a, n, lda);
        return;
    }
    size_t h = n / 2, k = n - h;
    double *b = a + h, *c = a + h * lda, *d = c + h, *w = work;
    invert(a, h, lda, work);
    dml_gemm64(0, 0, h, k, h, 1, a, lda, b, lda, 0, w, k);
    dml_gemm64(0, 0, k, k, h, -1, c, lda, w, k, 1, d, lda);
    invert(d, k, lda, work + h * k);
    dml_gemm64(0, 0, h, k, k, -1, w, k, d, lda, 0, b, lda);
    dml_gemm64(0, 1, h, h, k, -1, b, lda, w, k, 1, a, lda);
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < h; j++)
            c[i * lda + j] = b[j * lda + i];
}

void dml_invert64(double *a, size_t n, double *work) {
    invert(a, n, n, work);
}
