#ifndef DML_BASE_HALF_H
#define DML_BASE_HALF_H

#include <stdint.h>
#include <string.h>

/* IEEE 754 binary16 (1 sign, 5 exponent, 10 mantissa bits), exactly. */
static inline double dml_half_value(uint16_t bits) {
    int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    double value = exponent == 0    ? mantissa * 0x1p-24
                   : exponent == 31 ? (mantissa ? __builtin_nan("") : __builtin_inf())
                                    : (1024 + mantissa) * __builtin_ldexp(1.0, exponent - 25);
    return bits >> 15 ? -value : value;
}

/* bfloat16: the upper half of a float32, exactly. */
static inline float dml_bfloat16_value(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* The nearest bfloat16; of two equally near ones, the even one. Infinity and NaN stay what they
 * are. */
static inline uint16_t dml_bfloat16_bits(float value) {
    uint32_t wide;
    memcpy(&wide, &value, sizeof wide);
    uint32_t nearest = (wide + 0x7fff + (wide >> 16 & 1)) >> 16;
    uint32_t quiet = wide >> 16 | 0x40; /* a NaN's payload may lie in its lower half alone */
    return (uint16_t)((wide & 0x7fffffff) > 0x7f800000 ? quiet : nearest);
}

#endif
