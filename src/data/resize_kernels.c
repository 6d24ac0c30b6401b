#include "data/resize_kernels.h"

#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

enum { PRECISION = DML_RESIZE_PRECISION, HALF = 1 << (PRECISION - 1) };

static inline uint8_t rounded(int32_t sum) {
    sum >>= PRECISION;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

static void scale_columns_plain(const uint8_t *in, uint8_t *out, const struct dml_taps *taps,
                                const int16_t *weights, int width, bool flip) {
    for (int x = 0; x < width; x++, out += 3) {
        const struct dml_taps *tap = &taps[flip ? width - 1 - x : x];
        const uint8_t *at = in + (size_t)tap->first * 3;
        int32_t sums[3] = {HALF, HALF, HALF};
        for (int k = 0; k < tap->count; k++) {
            int32_t weight = dml_weight_get(weights + tap->weights, (size_t)k);
            for (int c = 0; c < 3; c++)
                sums[c] += at[3 * k + c] * weight;
        }
        for (int c = 0; c < 3; c++)
            out[c] = rounded(sums[c]);
    }
}

static void scale_row_plain(const uint8_t *in, size_t stride, int count, const int16_t *weights,
                            size_t from, size_t bytes, uint8_t *out) {
    for (size_t i = from; i < bytes; i++) {
        int32_t sum = HALF;
        for (int k = 0; k < count; k++)
            sum += in[(size_t)k * stride + i] * dml_weight_get(weights, (size_t)k);
        out[i] = rounded(sum);
    }
}

#ifdef __AVX2__

/* Two weights of a group, upper or lower parts, in every 32 bits. */
static inline __m256i weight_pair(const int16_t *at) {
    int32_t pair;
    memcpy(&pair, at, sizeof pair);
    return _mm256_set1_epi32(pair);
}

/* From the sums of both parts of the weights to values in 32 bits, which packing clips to 0..255.
 */
static inline __m256i joined(__m256i upper, __m256i lower) {
    __m256i sum = _mm256_add_epi32(_mm256_slli_epi32(upper, 8), lower);
    return _mm256_srai_epi32(_mm256_add_epi32(sum, _mm256_set1_epi32(HALF)), PRECISION);
}

struct sums {
    __m256i upper, lower;
};

static inline void add_pair(struct sums *sums, __m256i pixels, __m256i upper, __m256i lower) {
    sums->upper = _mm256_add_epi32(sums->upper, _mm256_madd_epi16(pixels, upper));
    sums->lower = _mm256_add_epi32(sums->lower, _mm256_madd_epi16(pixels, lower));
}

/* Five pixels and a byte of two rows. */
static inline __m256i load_two_rows(const uint8_t *first, const uint8_t *second) {
    __m128i low = _mm_loadu_si128((const __m128i *)first);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low),
                                   _mm_loadu_si128((const __m128i *)second), 1);
}

static inline void store_pixel(uint8_t *out, int32_t pixel) {
    memcpy(out, &pixel, sizeof pixel);
}

/* Four rows share the weights. */
static void scale_columns_4(const uint8_t *in, size_t in_stride, uint8_t *out, size_t out_stride,
                            const struct dml_taps *taps, const int16_t *weights, int width,
                            bool flip) {
    /* Pixels 0 and 1, and 2 and 3, side by side per channel, widened to 16 bits. */
    const __m256i first = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
    const __m256i second = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1));
    for (int x = 0; x < width; x++, out += 3) {
        const struct dml_taps *tap = &taps[flip ? width - 1 - x : x];
        const uint8_t *at = in + (size_t)tap->first * 3;
        const int16_t *weight = weights + tap->weights;
        struct sums a = {_mm256_setzero_si256(), _mm256_setzero_si256()}, b = a;
        for (int k = 0; k < tap->count; k += 4, at += 12, weight += DML_WEIGHT_GROUP) {
            __m256i rows_a = load_two_rows(at, at + in_stride);
            __m256i rows_b = load_two_rows(at + 2 * in_stride, at + 3 * in_stride);
            __m256i upper = weight_pair(weight), lower = weight_pair(weight + 4);
            add_pair(&a, _mm256_shuffle_epi8(rows_a, first), upper, lower);
            add_pair(&b, _mm256_shuffle_epi8(rows_b, first), upper, lower);
            upper = weight_pair(weight + 2), lower = weight_pair(weight + 6);
            add_pair(&a, _mm256_shuffle_epi8(rows_a, second), upper, lower);
            add_pair(&b, _mm256_shuffle_epi8(rows_b, second), upper, lower);
        }
        __m256i words = _mm256_packs_epi32(joined(a.upper, a.lower), joined(b.upper, b.lower));
        __m256i bytes = _mm256_packus_epi16(words, words); /* rows 0, 2, .. and 1, 3, .. */
        __m128i even = _mm256_castsi256_si128(bytes), odd = _mm256_extracti128_si256(bytes, 1);
        store_pixel(out, _mm_cvtsi128_si32(even));
        store_pixel(out + out_stride, _mm_cvtsi128_si32(odd));
        store_pixel(out + 2 * out_stride, _mm_extract_epi32(even, 1));
        store_pixel(out + 3 * out_stride, _mm_extract_epi32(odd, 1));
    }
}

/* 16 bytes of a row at a time. */
static size_t scale_row_16(const uint8_t *in, size_t stride, int count, const int16_t *weights,
                           size_t bytes, uint8_t *out) {
    size_t i = 0;
    for (; i + 16 <= bytes; i += 16) {
        struct sums a = {_mm256_setzero_si256(), _mm256_setzero_si256()}, b = a;
        const uint8_t *at = in + i;
        const int16_t *weight = weights;
        for (int k = 0; k < count; k += 2, at += 2 * stride) {
            /* A row that is not there has weight 0. */
            const uint8_t *next = k + 1 < count ? at + stride : at;
            __m128i x = _mm_loadu_si128((const __m128i *)at);
            __m128i y = _mm_loadu_si128((const __m128i *)next);
            __m256i upper = weight_pair(weight), lower = weight_pair(weight + 4);
            add_pair(&a, _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(x, y)), upper, lower);
            add_pair(&b, _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(x, y)), upper, lower);
            weight += k % 4 ? DML_WEIGHT_GROUP - 2 : 2;
        }
        /* Values 0-3, 8-11, 4-7, 12-15 after the first packing. */
        __m256i words = _mm256_packs_epi32(joined(a.upper, a.lower), joined(b.upper, b.lower));
        words = _mm256_permute4x64_epi64(words, _MM_SHUFFLE(3, 1, 2, 0));
        __m128i packed =
            _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
        _mm_storeu_si128((__m128i *)(out + i), packed);
    }
    return i;
}

#endif

void dml_scale_columns(const uint8_t *in, size_t in_stride, uint8_t *out, size_t out_stride,
                       int rows, const struct dml_taps *taps, const int16_t *weights, int width,
                       bool flip) {
    int y = 0;
#ifdef __AVX2__
    for (; rows >= 4 && y < rows; y += 4) {
        y = y > rows - 4 ? rows - 4 : y; /* the last ones overlap */
        scale_columns_4(in + (size_t)y * in_stride, in_stride, out + (size_t)y * out_stride,
                        out_stride, taps, weights, width, flip);
    }
#endif
    for (; y < rows; y++)
        scale_columns_plain(in + (size_t)y * in_stride, out + (size_t)y * out_stride, taps, weights,
                            width, flip);
}

void dml_scale_row(const uint8_t *in, size_t stride, const struct dml_taps *tap,
                   const int16_t *weights, size_t bytes, uint8_t *out) {
    size_t done = 0;
    in += (size_t)tap->first * stride;
    weights += tap->weights;
#ifdef __AVX2__
    done = scale_row_16(in, stride, tap->count, weights, bytes, out);
#endif
    scale_row_plain(in, stride, tap->count, weights, done, bytes, out);
}
