#include "support/pairs_wide.h"

#include "base/half.h"

enum { LANES = 16, ROWS = 12 };
typedef float lanes __attribute__((vector_size(64)));
typedef uint32_t pair_lanes __attribute__((vector_size(64)));

static inline __attribute__((always_inline)) lanes dot(lanes sum, pair_lanes a, pair_lanes b) {
    sum += (lanes)(a & 0xffff0000) * (lanes)(b & 0xffff0000);
    sum += (lanes)(a << 16) * (lanes)(b << 16);
    return sum;
}

static inline __attribute__((always_inline)) void narrow_lanes(lanes values, void *to) {
    uint16_t *bits = to;
    for (int i = 0; i < LANES; i++)
        bits[i] = dml_bfloat16_bits(values[i]);
}

#define PAIRS cpu_pairs_wide
#include "backends/cpu/pairs_body.h"
