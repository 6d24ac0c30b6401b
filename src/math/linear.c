#include "math/linear.h"

#include "math/panels.h"
#include "math/reduce.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

/* How a product is cut. BLAS cuts by the number of threads, and sums in another order at the cuts:
 * a run with two threads would differ from one with four. These tiles depend on the shape alone,
 * and BLAS computes each with one thread, since it is called from within a parallel region. */
struct tiling {
    size_t height, width; /* of a tile */
    size_t across, count; /* tiles side by side, and in all */
    int whole;            /* one tile, so small that BLAS uses one thread by itself */
};

static struct tiling tile(size_t m, size_t n, size_t k) {
    enum { TALLEST = 256, WIDEST = 1024, LEAST = 64, MOST_WANTED = 8 };
    double work = (double)m * (double)n * (double)k;
    if (work <= 1 << 18)
        return (struct tiling){m, n, 1, m && n, 1};
    /* Each tile packs its share of a and b anew: small products are not worth many of them. */
    size_t wanted = work < 3 << 20 ? 2 : MOST_WANTED;
    size_t height = m < TALLEST ? m : TALLEST, width = n < WIDEST ? n : WIDEST;
    for (;;) {
        size_t across = (n + width - 1) / width, count = across * ((m + height - 1) / height);
        if (count >= wanted || (height <= LEAST && width <= LEAST))
            return (struct tiling){height, width, across, count, 0};
        if (width >= height)
            width = (width / 2 + 15) / 16 * 16;
        else
            height = (height / 2 + 15) / 16 * 16;
    }
}

/* Tile t of the product (m, n): its size, and where it lies. */
struct piece {
    size_t rows, columns, top, left;
};

static struct piece piece_of(const struct tiling *tiles, size_t t, size_t m, size_t n) {
    size_t top = t / tiles->across * tiles->height, left = t % tiles->across * tiles->width;
    size_t rows = m - top < tiles->height ? m - top : tiles->height;
    size_t columns = n - left < tiles->width ? n - left : tiles->width;
    return (struct piece){rows, columns, top, left};
}

static CBLAS_TRANSPOSE form(int transpose) {
    return transpose ? CblasTrans : CblasNoTrans;
}

/* A product on one thread, where BLAS is called from within a parallel region. */
static void alone(int transpose_a, int transpose_b, size_t m, size_t n, size_t k, float alpha,
                  const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c,
                  size_t ldc) {
    cblas_sgemm(CblasRowMajor, form(transpose_a), form(transpose_b), (blasint)m, (blasint)n,
                (blasint)k, alpha, a, (blasint)lda, b, (blasint)ldb, beta, c, (blasint)ldc);
}

void dml_gemm(int transpose_a, int transpose_b, size_t m, size_t n, size_t k, float alpha,
              const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c,
              size_t ldc) {
    const struct tiling tiles = tile(m, n, k);
#pragma omp parallel for schedule(dynamic, 1) if (!tiles.whole)
    for (size_t t = 0; t < tiles.count; t++) {
        const struct piece p = piece_of(&tiles, t, m, n);
        alone(transpose_a, transpose_b, p.rows, p.columns, k, alpha,
              a + p.top * (transpose_a ? 1 : lda), lda, b + p.left * (transpose_b ? ldb : 1), ldb,
              beta, c + p.top * ldc + p.left, ldc);
    }
}

#if defined(__AVX__)
/* One panel of b after another: BLAS packs both operands, and may not know the processor. */
void dml_gemm_tile(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                   size_t ldb, float *c, size_t ldc) {
    enum { DEPTH = 512 };
    float panel[DEPTH * DML_PANEL];
    for (size_t j = 0; j < n; j += DML_PANEL)
        for (size_t l = 0; l < k; l += DEPTH) {
            size_t width = n - j < DML_PANEL ? n - j : DML_PANEL;
            size_t depth = k - l < DEPTH ? k - l : DEPTH;
            dml_panels_pack_transposed(depth, width, b + j * ldb + l, ldb, panel);
            dml_panels_multiply(m, width, depth, a + l, lda, 1, panel, l > 0 ? c + j : NULL, ldc,
                                c + j, ldc);
        }
}
#else
void dml_gemm_tile(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                   size_t ldb, float *c, size_t ldc) {
    alone(0, 1, m, n, k, 1.0f, a, lda, b, ldb, 0.0f, c, ldc);
}
#endif

void dml_gemm64(int transpose_a, int transpose_b, size_t m, size_t n, size_t k, double alpha,
                const double *a, size_t lda, const double *b, size_t ldb, double beta, double *c,
                size_t ldc) {
    const struct tiling tiles = tile(m, n, k);
#pragma omp parallel for schedule(dynamic, 1) if (!tiles.whole)
    for (size_t t = 0; t < tiles.count; t++) {
        const struct piece p = piece_of(&tiles, t, m, n);
        cblas_dgemm(CblasRowMajor, form(transpose_a), form(transpose_b), (blasint)p.rows,
                    (blasint)p.columns, (blasint)k, alpha, a + p.top * (transpose_a ? 1 : lda),
                    (blasint)lda, b + p.left * (transpose_b ? ldb : 1), (blasint)ldb, beta,
                    c + p.top * ldc + p.left, (blasint)ldc);
    }
}

double dml_dot(const float *a, const float *b, size_t dim) {
    return dml_sum_products(a, b, dim);
}

double dml_distance2(const float *a, const float *b, size_t dim) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t k = 0; k < dim; k++) {
        double difference = (double)a[k] - b[k];
        sum += difference * difference;
    }
    return sum;
}

void dml_row_norms2(const float *x, size_t n, size_t dim, float *out) {
#pragma omp parallel for if (n * dim > 100000)
    for (size_t i = 0; i < n; i++)
        out[i] = (float)dml_dot(x + i * dim, x + i * dim, dim);
}

void dml_normalize_rows(const float *x, size_t n, size_t dim, float *out) {
#pragma omp parallel for if (n * dim > 100000)
    for (size_t i = 0; i < n; i++) {
        double norm = sqrt(dml_dot(x + i * dim, x + i * dim, dim));
        float scale = (float)(1.0 / fmax(norm, 1e-12));
        for (size_t k = 0; k < dim; k++)
            out[i * dim + k] = x[i * dim + k] * scale;
    }
}

void dml_distances2(const float *x, size_t n, const float *y, size_t m, size_t dim, float *d2) {
    dml_gemm(0, 1, n, m, dim, -2.0f, x, dim, y, dim, 0.0f, d2, m);
    float norms[256]; /* of a block of y, so that nothing is allocated */
    for (size_t start = 0; start < m; start += 256) {
        size_t width = m - start < 256 ? m - start : 256;
        for (size_t j = 0; j < width; j++)
            norms[j] = (float)dml_dot(y + (start + j) * dim, y + (start + j) * dim, dim);
        for (size_t i = 0; i < n; i++) {
            float own = (float)dml_dot(x + i * dim, x + i * dim, dim);
            float *row = d2 + i * m + start;
            for (size_t j = 0; j < width; j++)
                row[j] = fmaxf(row[j] + own + norms[j], 0.0f);
        }
    }
    if (x == y)
        for (size_t i = 0; i < n && i < m; i++)
            d2[i * m + i] = 0.0f;
}

void dml_self_distances2(const double *x, size_t n, size_t dim, double *d2) {
    cblas_dsyrk(CblasRowMajor, CblasLower, CblasNoTrans, (blasint)n, (blasint)dim, 1.0, x,
                (blasint)dim, 0.0, d2, (blasint)n);
    for (size_t i = 0; i < n; i++) {
        double own = d2[i * n + i];
        for (size_t j = 0; j < i; j++) {
            double norms = own + d2[j * n + j], value = norms - 2 * d2[i * n + j];
            d2[i * n + j] = value > 1e-14 * norms ? value : 0;
        }
    }
    /* The upper half in blocks that stay in cache, then the diagonal, which held the norms. */
    enum { BLOCK = 32 };
    for (size_t top = 0; top < n; top += BLOCK)
        for (size_t left = 0; left <= top; left += BLOCK)
            for (size_t i = top; i < n && i < top + BLOCK; i++)
                for (size_t j = left; j < i && j < left + BLOCK; j++)
                    d2[j * n + i] = d2[i * n + j];
    for (size_t i = 0; i < n; i++)
        d2[i * n + i] = 0;
}
