#ifndef DML_MATH_REDUCE_H
#define DML_MATH_REDUCE_H

#include "math/transcendental.h"

#include <stddef.h>
#include <stdint.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

/* Sums and largest values of short rows. A reduction of `#pragma omp simd` ends lane by lane, one
 * addition after another, which for a row of a hundred takes longer than the row itself. These end
 * by adding halves. */

/* Eight lanes of the compiler's own vectors. */
typedef double dml_wide __attribute__((vector_size(64)));
typedef float dml_wide_floats __attribute__((vector_size(32), aligned(sizeof(float)), may_alias));

enum { DML_WIDE = 8 };

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

static inline double dml_wide_total(dml_wide s) {
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

static inline double dml_sum(const float *x, size_t n) {
    dml_wide sums[2] = {{0}, {0}};
    size_t j = 0;
    for (; j + 2 * DML_WIDE <= n; j += 2 * DML_WIDE) {
        sums[0] += dml_wide_load(x + j);
        sums[1] += dml_wide_load(x + j + DML_WIDE);
    }
    double sum = dml_wide_total(sums[0] + sums[1]);
    for (; j < n; j++)
        sum += x[j];
    return sum;
}

/* sum_j a_j b_j; the products are exact. */
static inline double dml_sum_products(const float *a, const float *b, size_t n) {
    dml_wide sums[2] = {{0}, {0}};
    size_t j = 0;
    for (; j + 2 * DML_WIDE <= n; j += 2 * DML_WIDE) {
        sums[0] += dml_wide_load(a + j) * dml_wide_load(b + j);
        sums[1] += dml_wide_load(a + j + DML_WIDE) * dml_wide_load(b + j + DML_WIDE);
    }
    double sum = dml_wide_total(sums[0] + sums[1]);
    for (; j < n; j++)
        sum += (double)a[j] * b[j];
    return sum;
}

/* The sums of x where its sign is 1, and where it is -1; x is 0 where it is 0. */
static inline void dml_sum_by_sign(const float *x, const float *signs, size_t n, double *positives,
                                   double *negatives) {
    dml_wide twice_positives = {0}, twice_negatives = {0};
    size_t j = 0;
    for (; j + DML_WIDE <= n; j += DML_WIDE) {
        dml_wide_floats value = *(const dml_wide_floats *)(x + j);
        dml_wide_floats sign = *(const dml_wide_floats *)(signs + j);
        twice_positives += dml_widen(value + value * sign);
        twice_negatives += dml_widen(value - value * sign);
    }
    *positives = dml_wide_total(twice_positives) / 2;
    *negatives = dml_wide_total(twice_negatives) / 2;
    for (; j < n; j++) {
        *positives += signs[j] > 0 ? x[j] : 0;
        *negatives += signs[j] < 0 ? x[j] : 0;
    }
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
