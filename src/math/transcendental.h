#ifndef DML_MATH_TRANSCENDENTAL_H
#define DML_MATH_TRANSCENDENTAL_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* expf, logf, exp, log and cos without branches or calls, so that a loop over them (`#pragma omp
 * simd`) becomes vector code: about 1 ns an element instead of 5 to 10. Ranges are reduced as in
 * Cephes and what is left is a polynomial; the float32 ones are within 1.5e-7 of the true value
 * (see tests/test_transcendental.c). */

static inline float dml_bits_to_float(int32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline int32_t dml_float_to_bits(float value) {
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline double dml_bits_to_double(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint64_t dml_double_to_bits(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* e^x for x in [-86.9, 88.7228], where the result is a normal number; anything else gives a
 * meaningless number. Relative error below 1.5e-7. */
static inline float dml_expf_normal(float x) {
    /* Adding 1.5 * 2^23 rounds to an integer and leaves it in the lowest bits. */
    float shifted = x * 1.44269504f + 12582912.0f;
    float n = shifted - 12582912.0f;
    float r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    /* p is in [0.7, 1.42]: n is added to its exponent. */
    uint32_t power = (uint32_t)dml_float_to_bits(shifted) << 23;
    return dml_bits_to_float((int32_t)((uint32_t)dml_float_to_bits(p) + power));
}

/* e^x for every x: 0 below -86.9 (nearly denormal), infinity above 88.7228, NaN for NaN. Relative
 * error below 1.5e-7. */
static inline float dml_expf(float x) {
    const float most = 88.7228f, least = -86.9f;
    float inside = x > most ? most : x;
    inside = inside < least ? least : inside;
    float result = dml_expf_normal(inside);
    result = x < least ? 0.0f : result;
    return x > most ? INFINITY : result;
}

/* The natural logarithm of a positive, normal, finite x; anything else gives a meaningless finite
 * number. Absolute error below 1.5e-7, or relative where the result is larger than 1. */
static inline float dml_logf(float x) {
    /* x = m 2^e with m in [sqrt(1/2), sqrt(2)). */
    uint32_t bits = (uint32_t)dml_float_to_bits(x);
    int32_t e = (int32_t)(bits - 0x3F3504F3u) >> 23;
    float m = dml_bits_to_float((int32_t)(bits - ((uint32_t)e << 23)));
    float exponent = (float)e;
    float r = m - 1.0f, r2 = r * r;
    float p = 7.0376836292e-2f;
    p = p * r - 1.1514610310e-1f;
    p = p * r + 1.1676998740e-1f;
    p = p * r - 1.2420140846e-1f;
    p = p * r + 1.4249322787e-1f;
    p = p * r - 1.6668057665e-1f;
    p = p * r + 2.0000714765e-1f;
    p = p * r - 2.4999993993e-1f;
    p = p * r + 3.3333331174e-1f;
    p = p * r * r2 + exponent * -2.12194440e-4f - 0.5f * r2;
    return r + p + exponent * 0.693359375f;
}

/* e^x in float64: 0 below -708, infinity above 709.78, NaN for NaN. Relative error below 4e-16. */
static inline double dml_exp64(double x) {
    const double most = 709.78, least = -708;
    double inside = x > most ? most : x;
    inside = inside < least ? least : inside;
    double shifted = inside * 1.4426950408889634 + 6755399441055744.0; /* 1.5 * 2^52 */
    double n = shifted - 6755399441055744.0;
    double r = inside - n * 6.93147180369123816490e-01;
    r = r - n * 1.90821492927058770002e-10;
    double p = 1.0 / 6227020800;
    p = p * r + 1.0 / 479001600;
    p = p * r + 1.0 / 39916800;
    p = p * r + 1.0 / 3628800;
    p = p * r + 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    p = p * r * r + r + 1.0;
    double result = dml_bits_to_double(dml_double_to_bits(p) + (dml_double_to_bits(shifted) << 52));
    result = x < least ? 0.0 : result;
    return x > most ? (double)INFINITY : result;
}

/* The natural logarithm in float64 of a positive, normal, finite x; anything else gives a
 * meaningless number. Relative error below 5e-16. */
static inline double dml_log64(double x) {
    /* x = m 2^e with m in [sqrt(1/2), sqrt(2)); log m = 2 artanh s with s = (m - 1) / (m + 1). */
    uint64_t bits = dml_double_to_bits(x);
    uint64_t power = (bits - 0x3FE6A09E667F3BCDu) & 0xFFF0000000000000u;
    double m = dml_bits_to_double(bits - power);
    /* The bits of 2^52 + 2048 + e. */
    double e = dml_bits_to_double(((power >> 52) ^ 0x800) | 0x4330000000000000u);
    e -= 4503599627370496.0 + 2048;
    double s = (m - 1) / (m + 1), s2 = s * s;
    double p = 1.0 / 21;
    p = p * s2 + 1.0 / 19;
    p = p * s2 + 1.0 / 17;
    p = p * s2 + 1.0 / 15;
    p = p * s2 + 1.0 / 13;
    p = p * s2 + 1.0 / 11;
    p = p * s2 + 1.0 / 9;
    p = p * s2 + 1.0 / 7;
    p = p * s2 + 1.0 / 5;
    p = p * s2 + 1.0 / 3;
    p = p * s2 * s + s;
    return 2 * p + e * 1.90821492927058770002e-10 + e * 6.93147180369123816490e-01;
}

/* The cosine in float64 of v turns, 2 pi v, for v in [-2^50, 2^50]. Absolute error below 3e-16. */
static inline double dml_cos_turns(double v) {
    /* Quarters of a turn, rounded to an integer, and the rest of at most an eighth of a turn. */
    double shifted = 4 * v + 6755399441055744.0; /* 1.5 * 2^52 */
    double t = (4 * v - (shifted - 6755399441055744.0)) * 1.5707963267948966, t2 = t * t;
    double c = 1.0 / 20922789888000, s = 1.0 / 355687428096000;
    c = c * t2 - 1.0 / 87178291200;
    c = c * t2 + 1.0 / 479001600;
    c = c * t2 - 1.0 / 3628800;
    c = c * t2 + 1.0 / 40320;
    c = c * t2 - 1.0 / 720;
    c = c * t2 + 1.0 / 24;
    c = c * t2 - 0.5;
    c = c * t2 + 1.0;
    s = s * t2 - 1.0 / 1307674368000;
    s = s * t2 + 1.0 / 6227020800;
    s = s * t2 - 1.0 / 39916800;
    s = s * t2 + 1.0 / 362880;
    s = s * t2 - 1.0 / 5040;
    s = s * t2 + 1.0 / 120;
    s = s * t2 - 1.0 / 6;
    s = s * t2 * t + t;
    uint64_t quarter = dml_double_to_bits(shifted);
    uint64_t bits = dml_double_to_bits(quarter & 1 ? s : c);
    /* Negative in the second and third quarter. */
    return dml_bits_to_double(bits ^ ((quarter + 1) & 2) << 62);
}

#endif
