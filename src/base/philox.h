#ifndef DML_BASE_PHILOX_H
#define DML_BASE_PHILOX_H

#include <stdint.h>

/* What the streams of dml/rng.h are made of. Without branches or calls, so that a loop over blocks
 * becomes vector code. */

/* Philox4x32-10: the block of 128 bits at `counter`. */
static inline void dml_philox(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/* [0, 1) with the upper 53 of 64 bits. */
static inline double dml_uniform_of(uint32_t high, uint32_t low) {
    /* Signed, which processors convert many at a time; the sum is exact. */
    double upper = (double)(int32_t)(high ^ 0x80000000u) + 2147483648.0;
    return upper * 0x1p-32 + (double)(int32_t)(low >> 11) * 0x1p-53;
}

#endif
