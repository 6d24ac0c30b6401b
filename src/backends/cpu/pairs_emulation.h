/* The instruction of AVX-512 BF16 in float32 arithmetic, on vectors of LANES: for pairs_body.h. */
#include "base/half.h"

typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));
typedef uint32_t pair_lanes __attribute__((vector_size(LANES * sizeof(uint32_t))));

/* A product of two bfloat16 numbers is a float32 number: fused or not, the sum is rounded once. */
static inline __attribute__((always_inline)) lanes dot(lanes sum, pair_lanes a, pair_lanes b) {
    const uint32_t upper = 0xffff0000;
    sum += (lanes)(a & upper) * (lanes)(b & upper);
    sum += (lanes)(a << 16) * (lanes)(b << 16);
    return sum;
}

static inline __attribute__((always_inline)) void narrow_lanes(lanes values, void *to) {
    uint16_t *bits = to;
    for (int i = 0; i < LANES; i++)
        bits[i] = dml_bfloat16_bits(values[i]);
}
