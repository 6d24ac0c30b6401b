#include "backends/cpu/pairs.h"

/* Compiled for AVX-512 with BF16, whatever the rest is compiled for: cmake/levels.cmake. */
#ifdef __AVX512BF16__
#include <immintrin.h>

enum { LANES = 16, ROWS = 12 };
typedef __m512 lanes;
typedef uint32_t pair_lanes __attribute__((vector_size(64)));

static inline __attribute__((always_inline)) lanes dot(lanes sum, pair_lanes a, pair_lanes b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
}

static inline __attribute__((always_inline)) void narrow_lanes(lanes values, void *to) {
    _mm256_storeu_si256(to, (__m256i)_mm512_cvtneps_pbh(values));
}

#define PAIRS cpu_pairs_native
#include "backends/cpu/pairs_body.h"

#else

const struct cpu_pairs *cpu_pairs_native(void) {
    return NULL;
}

#endif
