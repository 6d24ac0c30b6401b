#include "backends/cpu/narrow.h"

#include "base/half.h"

void cpu_narrow(const float *source, size_t count, uint16_t *target) {
#pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < count; i++)
        target[i] = dml_bfloat16_bits(source[i]);
}

void cpu_widen(const uint16_t *source, size_t count, float *target) {
#pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < count; i++)
        target[i] = dml_bfloat16_value(source[i]);
}
