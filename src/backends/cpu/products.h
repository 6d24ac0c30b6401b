#ifndef DML_CPU_PRODUCTS_H
#define DML_CPU_PRODUCTS_H

#include "backends/cpu/pairs.h"

#include "dml/error.h"
#include "math/products.h"

struct cpu_engine;

/* The products of linear layers: in float32, or with --precision bf16 of operands rounded to
 * bfloat16, with sums in float32, as PyTorch's autocast computes them. */

/* How operands are rounded and multiplied: as pairs, or by oneDNN on processors with AMX, whose
 * tiles are several times faster; both NULL: not at all, in float32. */
struct cpu_rounding {
    const struct cpu_pairs *pairs;
    struct cpu_engine *engine;
};

/* What this processor rounds with. */
struct cpu_rounding cpu_rounding_of(struct cpu_engine *engine);

/* Row-major c (m, n) = op(a) op(b), plus `start`. op(a) is (m, k), op(b) is (k, n); `transpose`
 * says that the matrix holds its transpose. Only pairs take and make bfloat16. */
struct cpu_product {
    bool transpose_a, transpose_b;
    size_t m, n, k;
    struct cpu_matrix a, b;
    struct dml_product_start start;
    void *c;
    enum plan_element element;
    size_t ldc;
};

/* Bytes of scratch memory. */
size_t cpu_product_scratch(struct cpu_rounding rounding, size_t m, size_t n, size_t k);

/* Bits do not depend on the number of threads. */
enum dml_status cpu_product_run(const struct cpu_product *product, struct cpu_rounding rounding,
                                void *scratch);

#endif
