#ifndef DML_MATH_PRODUCTS_H
#define DML_MATH_PRODUCTS_H

#include <stddef.h>

/* Products of large matrices on panels (math/panels.h), on all cores: b is packed once, in parts
 * that stay in cache, whereas BLAS packs both operands for each of its tiles. The same bits
 * whatever the number of threads. */

/* Floats of workspace that a product with b (k, n) needs. */
size_t dml_product_workspace(size_t n, size_t k);

/* What a product is added to: row i, column j starts from row[j] + matrix[i * ld + j]; either may
 * be NULL. `matrix` may be the result itself, with its ld, and must not overlap it otherwise. */
struct dml_product_start {
    const float *row, *matrix;
    size_t ld;
};

/* Sets the part (rows, columns) of a result, whose upper left element is (top, left) and lies at
 * `c`, to what it starts from; does nothing if that is not given. On the calling thread. */
void dml_product_begin(const struct dml_product_start *start, size_t top, size_t left, size_t rows,
                       size_t columns, float *c, size_t ldc);

/* Row-major c (m, n) = op(a) op(b), plus `start` where that is not NULL. op(a) is (m, k), op(b) is
 * (k, n); `transpose` says that the array holds its transpose. m, n and k are at least 1. */
void dml_product(int transpose_a, int transpose_b, size_t m, size_t n, size_t k, const float *a,
                 size_t lda, const float *b, size_t ldb, const struct dml_product_start *start,
                 float *c, size_t ldc, float *work);

/* The gradients of a linear layer's weights and biases from those of its results, grad (k, m), and
 * its inputs, x (k, n): c (m, n) = grad^T x, and sums (m), the sums of grad's columns. */
void dml_product_gradients(size_t m, size_t n, size_t k, const float *grad, size_t ldg,
                           const float *x, size_t ldx, float *c, size_t ldc, float *sums,
                           float *work);

#endif
