#ifndef DML_MATH_TURN_H
#define DML_MATH_TURN_H

#include <stddef.h>
#include <stdint.h>

/* Rows and columns that are transposed together. */
enum { DML_TURN = 8 };

/* Eight lanes of the compiler's own vectors. */
typedef float dml_turn_lanes __attribute__((vector_size(32), may_alias));
typedef float dml_turn_row __attribute__((vector_size(32), aligned(sizeof(float)), may_alias));

/* Lanes of a (0 to 7) and b (8 to 15), as clang spells it, and gcc before 12. */
#ifdef __clang__
#define DML_TURN_PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int32_t dml_turn_picks __attribute__((vector_size(32)));
#define DML_TURN_PICK(a, b, ...) __builtin_shuffle(a, b, (dml_turn_picks){__VA_ARGS__})
#endif

/* Eight rows of eight from `from`, their starts `from_ld` apart, transposed to `to` in registers.
 * They may be the same array. */
static inline void dml_turn(const float *from, size_t from_ld, float *to, size_t to_ld) {
    dml_turn_lanes r[DML_TURN], t[DML_TURN], u[DML_TURN];
    for (size_t i = 0; i < DML_TURN; i++)
        r[i] = *(const dml_turn_row *)(from + i * from_ld);
    for (size_t i = 0; i < DML_TURN; i += 2) {
        t[i] = DML_TURN_PICK(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        t[i + 1] = DML_TURN_PICK(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (size_t i = 0; i < DML_TURN; i += 4)
        for (size_t k = 0; k < 2; k++) {
            u[i + 2 * k] = DML_TURN_PICK(t[i + k], t[i + 2 + k], 0, 1, 8, 9, 4, 5, 12, 13);
            u[i + 2 * k + 1] = DML_TURN_PICK(t[i + k], t[i + 2 + k], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (size_t i = 0; i < 4; i++) {
        r[i] = DML_TURN_PICK(u[i], u[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        r[i + 4] = DML_TURN_PICK(u[i], u[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
    for (size_t i = 0; i < DML_TURN; i++)
        *(dml_turn_row *)(to + i * to_ld) = r[i];
}

#endif
