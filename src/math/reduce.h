#ifndef DML_MATH_REDUCE_H
#define DML_MATH_REDUCE_H

#include "math/transcendental.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

/* Sums and largest values of short rows. A reduction of `#pragma omp simd` ends lane by lane, one
 * addition after another, which for a row of a hundred takes longer than the row itself. These end
 * by adding halves, in the same order at every level. */

/* The compiler's own vectors, as wide as a register of the level that this is compiled for: gcc
 * takes wider ones apart in memory. */
#if defined(__AVX512F__)
enum { DML_WIDE = 8 };
#elif defined(__AVX__)
enum { DML_WIDE = 4 };
#else
enum { DML_WIDE = 2 };
#endif
typedef double dml_wide __attribute__((vector_size(DML_WIDE * sizeof(double))));
typedef float dml_wide_floats
    __attribute__((vector_size(DML_WIDE * sizeof(float)), aligned(sizeof(float)), may_alias));

/* A sum has sixteen lanes; two at a time have eight each. */
enum { DML_SUM_LANES = 16, DML_SUM_VECTORS = DML_SUM_LANES / DML_WIDE };

/* gcc would split AVX-512's conversion. */
static inline dml_wide dml_widen(dml_wide_floats x) {
#if defined(__AVX512F__)
    return (dml_wide)_mm512_cvtps_pd((__m256)x);
#else
    return __builtin_convertvector(x, dml_wide);
#endif
}

static inline dml_wide dml_wide_load(const float *x) {
    return dml_widen(*(const dml_wide_floats *)x);
}

/* `vectors` is a power of two. */
static inline double dml_wide_total(dml_wide *sums, size_t vectors) {
    for (size_t half = vectors / 2; half > 0; half /= 2)
        for (size_t v = 0; v < half; v++)
            sums[v] += sums[v + half];
    dml_wide s = sums[0];
    for (size_t half = DML_WIDE / 2; half > 0; half /= 2)
        for (size_t i = 0; i < half; i++)
            s[i] += s[i + half];
    return s[0];
}

static inline double dml_sum(const float *x, size_t n) {
    dml_wide sums[DML_SUM_VECTORS] = {{0}};
    size_t j = 0;
    for (; j + DML_SUM_LANES <= n; j += DML_SUM_LANES)
        for (size_t v = 0; v < DML_SUM_VECTORS; v++)
            sums[v] += dml_wide_load(x + j + v * DML_WIDE);
    double sum = dml_wide_total(sums, DML_SUM_VECTORS);
    for (; j < n; j++)
        sum += x[j];
    return sum;
}

/* sum_j a_j b_j; the products are exact. */
static inline double dml_sum_products(const float *a, const float *b, size_t n) {
    dml_wide sums[DML_SUM_VECTORS] = {{0}};
    size_t j = 0;
    for (; j + DML_SUM_LANES <= n; j += DML_SUM_LANES)
        for (size_t v = 0; v < DML_SUM_VECTORS; v++)
            sums[v] += dml_wide_load(a + j + v * DML_WIDE) * dml_wide_load(b + j + v * DML_WIDE);
    double sum = dml_wide_total(sums, DML_SUM_VECTORS);
    for (; j < n; j++)
        sum += (double)a[j] * b[j];
    return sum;
}

/* The sums of x where its sign is 1, and where it is -1; x is 0 where it is 0. */
static inline void dml_sum_by_sign(const float *x, const float *signs, size_t n, double *positives,
                                   double *negatives) {
    enum { VECTORS = DML_SUM_VECTORS / 2, LANES = DML_SUM_LANES / 2 };
    dml_wide twice_positives[VECTORS] = {{0}}, twice_negatives[VECTORS] = {{0}};
    size_t j = 0;
    for (; j + LANES <= n; j += LANES)
        for (size_t v = 0; v < VECTORS; v++) {
            dml_wide_floats value = *(const dml_wide_floats *)(x + j + v * DML_WIDE);
            dml_wide_floats sign = *(const dml_wide_floats *)(signs + j + v * DML_WIDE);
            twice_positives[v] += dml_widen(value + value * sign);
            twice_negatives[v] += dml_widen(value - value * sign);
        }
    *positives = dml_wide_total(twice_positives, VECTORS) / 2;
    *negatives = dml_wide_total(twice_negatives, VECTORS) / 2;
    for (; j < n; j++) {
        *positives += signs[j] > 0 ? x[j] : 0;
        *negatives += signs[j] < 0 ? x[j] : 0;
    }
}

/* Lanes of float32, and of integers beside them, as many as a register has. */
enum { DML_LANES = 2 * DML_WIDE };
typedef float dml_lanes __attribute__((vector_size(DML_LANES * sizeof(float))));
typedef int32_t dml_lane_bits __attribute__((vector_size(DML_LANES * sizeof(int32_t))));

static inline dml_lanes dml_lanes_load(const float *x) {
    typedef float unaligned
        __attribute__((vector_size(sizeof(dml_lanes)), aligned(sizeof(float)), may_alias));
    return *(const unaligned *)x;
}

static inline dml_lane_bits dml_lane_bits_load(const int32_t *x) {
    typedef int32_t unaligned
        __attribute__((vector_size(sizeof(dml_lane_bits)), aligned(sizeof(int32_t)), may_alias));
    return *(const unaligned *)x;
}

static inline double dml_lanes_total(dml_lanes sums) {
    float lanes[DML_LANES];
    memcpy(lanes, &sums, sizeof lanes);
    dml_wide halves[2] = {dml_wide_load(lanes), dml_wide_load(lanes + DML_WIDE)};
    return dml_wide_total(halves, 2);
}

/* Maps a number's bits to an integer with the same order; it is its own inverse. */
static inline int32_t dml_order_bits(int32_t bits) {
    return bits ^ ((bits >> 31) & 0x7fffffff);
}

static inline int32_t dml_order(float x) {
    return dml_order_bits(dml_float_to_bits(x));
}

static inline float dml_from_order(int32_t order) {
    return dml_bits_to_float(dml_order_bits(order));
}

#endif
