#include "backends/cpu/narrow.h"

#include "base/half.h"

void cpu_narrow(const float *source, size_t count, uint16_t *target) {
#pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < count; i++)
        target[i] = dml_bfloat16_bits(source[i]);
}

/* In squares, so that neither side is accessed one value at a time. */
static void narrow_transposed(const float *source, size_t rows, size_t columns, size_t ld,
                              uint16_t *target) {
    enum { SIDE = 64 };
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t left = 0; left < columns; left += SIDE)
        for (size_t top = 0; top < rows; top += SIDE) {
            size_t right = columns - left < SIDE ? columns : left + SIDE;
            size_t bottom = rows - top < SIDE ? rows : top + SIDE;
            for (size_t c = left; c < right; c++)
#pragma omp simd
                for (size_t r = top; r < bottom; r++)
                    target[c * rows + r] = dml_bfloat16_bits(source[r * ld + c]);
        }
}

void cpu_narrow_matrix(const float *source, size_t rows, size_t columns, size_t ld, bool transpose,
                       uint16_t *target) {
    if (transpose) {
        narrow_transposed(source, rows, columns, ld, target);
        return;
    }
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < rows; r++)
#pragma omp simd
        for (size_t c = 0; c < columns; c++)
            target[r * columns + c] = dml_bfloat16_bits(source[r * ld + c]);
}

void cpu_widen(const uint16_t *source, size_t count, float *target) {
#pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < count; i++)
        target[i] = dml_bfloat16_value(source[i]);
}
