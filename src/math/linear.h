#ifndef DML_MATH_LINEAR_H
#define DML_MATH_LINEAR_H

#include <stddef.h>

/* Row-major c (m, n) = alpha * op(a) op(b) + beta * c in float32, on all cores. op(a) is (m, k),
 * op(b) is (k, n); `transpose` says that the array holds its transpose. The same bits whatever the
 * number of threads. */
void dml_gemm(int transpose_a, int transpose_b, size_t m, size_t n, size_t k, float alpha,
              const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c,
              size_t ldc);

/* The same in float64. */
void dml_gemm64(int transpose_a, int transpose_b, size_t m, size_t n, size_t k, double alpha,
                const double *a, size_t lda, const double *b, size_t ldb, double beta, double *c,
                size_t ldc);

/* One tile c (m, n) = a (m, k) b^T, b (n, k), on the calling thread alone: for callers that split a
 * larger product themselves, inside a parallel region. */
void dml_gemm_tile(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                   size_t ldb, float *c, size_t ldc);

/* Squared norms of the rows of x (n, dim), summed in float64. */
void dml_row_norms2(const float *x, size_t n, size_t dim, float *out);

/* Rows divided by max(norm, 1e-12); `out` may be `x`. */
void dml_normalize_rows(const float *x, size_t n, size_t dim, float *out);

/* Squared Euclidean distances d2 (n, m) between rows of x (n, dim) and y (m, dim), by gemm; not
 * below 0. Exactly 0 on the diagonal when x == y. */
void dml_distances2(const float *x, size_t n, const float *y, size_t m, size_t dim, float *d2);

/* Squared distances d2 (n, n) between all rows of x (n, dim) in float64, for sets of a few hundred;
 * symmetric, and exactly 0 between rows that differ by no more than rounding. */
void dml_self_distances2(const double *x, size_t n, size_t dim, double *d2);

/* Inner product and squared distance of two vectors, summed in float64. */
double dml_dot(const float *a, const float *b, size_t dim);
double dml_distance2(const float *a, const float *b, size_t dim);

#endif
