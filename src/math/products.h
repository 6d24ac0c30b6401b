#ifndef DML_MATH_PRODUCTS_H
#define DML_MATH_PRODUCTS_H

#include <stddef.h>

/* Products of large matrices on panels (math/panels.h), on all cores: b is packed once, by parts
 * that stay in cache, where BLAS packs both operands for each of its tiles. The same bits whatever
 * the number of threads. */

/* Floats of room that a product with b (k, n) needs. */
size_t dml_product_room(size_t n, size_t k);

/* Row-major c (m, n) = op(a) op(b), or gains it (`add`). op(a) is (m, k), op(b) is (k, n);
 * `transpose` says that the array holds its transpose. m, n and k are at least 1. */
void dml_product(int transpose_a, int transpose_b, size_t m, size_t n, size_t k, const float *a,
                 size_t lda, const float *b, size_t ldb, int add, float *c, size_t ldc,
                 float *room);

#endif
