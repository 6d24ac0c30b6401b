#ifndef DML_CPU_PRODUCTS_H
#define DML_CPU_PRODUCTS_H

#include "backends/cpu/onednn.h"

#include "math/products.h"

#include <stdbool.h>

/* The products of linear layers: in float32, or with --precision bf16 of operands rounded to
 * bfloat16, with sums in float32, as PyTorch's autocast computes them. */

/* Row-major c (m, n) = op(a) op(b), plus `start`. op(a) is (m, k), op(b) is (k, n); `transpose`
 * says that the array holds its transpose. Everything float32, rows `ld` floats apart. */
struct cpu_product {
    bool transpose_a, transpose_b;
    size_t m, n, k;
    const float *a;
    size_t lda;
    const float *b;
    size_t ldb;
    struct dml_product_start start;
    float *c;
    size_t ldc;
};

/* Bytes of scratch memory; `rounds`: for rounded operands. */
size_t cpu_product_scratch(bool rounds, size_t m, size_t n, size_t k);

/* `narrow`: rounds, with this engine where the processor has bfloat16 products, and otherwise by
 * way of float32; NULL: products of float32. Bits do not depend on the number of threads. */
enum dml_status cpu_product_run(const struct cpu_product *product, struct cpu_engine *narrow,
                                void *scratch);

#endif
