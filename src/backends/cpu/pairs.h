#ifndef DML_CPU_PAIRS_H
#define DML_CPU_PAIRS_H

#include "plan/layout.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Products of bfloat16 operands with float32 sums on packed panels, as math/panels.h has them for
 * float32. What AVX-512 BF16 multiplies is pairs: two values that follow each other along k, whose
 * two products are added to one sum. Operands may be stored as float32, too: packing rounds them to
 * the nearest bfloat16. A sum takes its products in an order that depends on k alone, the second
 * of each pair first, so that bits depend neither on the rows that are computed together nor on the
 * number of threads. */

/* The first of two values in the lower half, the second (0 beyond the end of k) in the upper one.
 */
typedef uint32_t cpu_pair __attribute__((may_alias, aligned(2)));

/* A row-major matrix whose rows are `ld` elements apart. */
struct cpu_matrix {
    const void *values;
    enum plan_element element;
    size_t ld;
};

/* The left operand: its pair l of row i is at[i * row + l * step]. */
struct cpu_pair_rows {
    const cpu_pair *at;
    size_t row, step;
};

/* What becomes of the sums (m, n): row[j] and matrix[i * ld + j] (float32, either may be NULL) are
 * added to them, in this order, and c, its rows `ldc` elements apart, gets the result. `matrix` may
 * be c itself, with its ld, and must not overlap it otherwise. */
struct cpu_pair_result {
    const float *row, *matrix;
    size_t ld;
    void *c;
    enum plan_element element;
    size_t ldc;
};

/* c (m, n) = op(a) op(b) and what is added to it; op(a) is (m, k), op(b) is (k, n); `transpose`
 * says that the matrix holds its transpose. */
struct cpu_pair_product {
    bool transpose_a, transpose_b;
    size_t m, n, k;
    struct cpu_matrix a, b;
    struct cpu_pair_result result;
};

struct cpu_pairs {
    /* Pairs in the panels of op(b) (k, n), and what packs it. On the calling thread, like the next
     * two. */
    size_t (*panels_size)(size_t k, size_t n);
    void (*pack)(bool transpose, size_t k, size_t n, struct cpu_matrix b, cpu_pair *panels);

    /* op(a) (m, k) as pairs: where they lie already or, if it is float32, transposed or of an odd
     * length, packed into `room` of m (k + 1) / 2 pairs. */
    struct cpu_pair_rows (*rows)(bool transpose, size_t m, size_t k, struct cpu_matrix a,
                                 cpu_pair *room);

    /* a times the panels of b (k, n). */
    void (*multiply)(size_t m, size_t n, size_t k, struct cpu_pair_rows a, const cpu_pair *panels,
                     struct cpu_pair_result result);

    /* A large product, on all cores, and the pairs of workspace that it needs. */
    size_t (*workspace)(size_t n, size_t k);
    void (*product)(const struct cpu_pair_product *product, cpu_pair *work);
};

/* By the instruction of AVX-512 BF16; NULL where the compiler has none. Only for processors that
 * have it. */
const struct cpu_pairs *cpu_pairs_native(void);
/* The same in float32 arithmetic, for tests on other processors. The last bits may differ, and the
 * instruction takes and makes 0 for numbers that are not normal. */
const struct cpu_pairs *cpu_pairs_emulated(void);

#endif
