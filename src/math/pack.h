#ifndef DML_MATH_PACK_H
#define DML_MATH_PACK_H

#include <stddef.h>

#if defined(__AVX2__) && defined(__BMI2__)
#include <immintrin.h>
#endif

/* Writes the differences a[j] - b[j] that are at least `least` to `out`, in order, and returns how
 * many. `out` has room for m + 16. */
static inline size_t dml_pack_differences(const float *a, const float *b, size_t m, float least,
                                          float *out) {
    size_t count = 0, j = 0;
#if defined(__AVX512F__)
    for (; j + 16 <= m; j += 16) {
        __m512 value = _mm512_sub_ps(_mm512_loadu_ps(a + j), _mm512_loadu_ps(b + j));
        __mmask16 mask = _mm512_cmp_ps_mask(value, _mm512_set1_ps(least), _CMP_GE_OQ);
        _mm512_storeu_ps(out + count, _mm512_maskz_compress_ps(mask, value));
        count += (size_t)__builtin_popcount(mask);
    }
#elif defined(__AVX2__) && defined(__BMI2__)
    for (; j + 8 <= m; j += 8) {
        __m256 value = _mm256_sub_ps(_mm256_loadu_ps(a + j), _mm256_loadu_ps(b + j));
        unsigned mask =
            (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(value, _mm256_set1_ps(least), _CMP_GE_OQ));
        if (mask == 0)
            continue;
        /* the indices of the set bits, one byte each: an identity permutation without the others */
        unsigned long long bytes = _pdep_u64(mask, 0x0101010101010101u) * 0xffu;
        bytes = _pext_u64(0x0706050403020100u, bytes);
        __m256i order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)bytes));
        _mm256_storeu_ps(out + count, _mm256_permutevar8x32_ps(value, order));
        count += (size_t)__builtin_popcount(mask);
    }
#endif
    for (; j < m; j++) {
        float value = a[j] - b[j];
        out[count] = value;
        count += value >= least;
    }
    return count;
}

#endif
