#include "data/resize.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PRECISION = 22 }; /* 32 bits less 8 of a pixel and 2 to spare */

/* Which input pixels make an output pixel: `count` from `first` on, with `weights`. */
struct taps {
    int first, count;
    size_t weights; /* index into the resizer's */
};

typedef int32_t lanes4 __attribute__((vector_size(16)));
typedef int32_t lanes8 __attribute__((vector_size(32)));
typedef uint8_t bytes4 __attribute__((vector_size(4)));
typedef uint8_t bytes8 __attribute__((vector_size(8)));

static double support_of(int from, int to) {
    double scale = (double)from / to;
    return scale > 1 ? scale : 1;
}

/* The input pixels under output pixel `at` when `from` pixels become `to`. */
static void range_of(int from, int to, int at, int *first, int *end) {
    double support = support_of(from, to);
    double center = (at + 0.5) * ((double)from / to);
    int low = (int)(center - support + 0.5), high = (int)(center + support + 0.5);
    *first = low > 0 ? low : 0;
    *end = high < from ? high : from;
}

struct dml_rect dml_scaling_needs(const struct dml_scaling *scaling) {
    const struct dml_rect *box = &scaling->box, *part = &scaling->part;
    int left, right, top, bottom, unused;
    range_of(box->width, scaling->width, part->left, &left, &unused);
    range_of(box->width, scaling->width, part->left + part->width - 1, &unused, &right);
    range_of(box->height, scaling->height, part->top, &top, &unused);
    range_of(box->height, scaling->height, part->top + part->height - 1, &unused, &bottom);
    return (struct dml_rect){box->left + left, box->top + top, right - left, bottom - top};
}

void dml_resizer_free(struct dml_resizer *resizer) {
    free(resizer->columns);
    free(resizer->rows);
    free(resizer->weights);
    dml_pixels_free(&resizer->between);
    memset(resizer, 0, sizeof *resizer);
}

/* Fills taps for the outputs part_first..part_first+part_count-1; their inputs are counted from
 * `origin`. `used` weights are there already. */
static enum dml_status make_taps(struct dml_resizer *resizer, void **taps, size_t *capacity,
                                 size_t *used, int from, int to, int part_first, int part_count,
                                 int origin) {
    double support = support_of(from, to), inverse = 1 / support, scale = (double)from / to;
    size_t most = (size_t)ceil(support) * 2 + 1;
    void *weights = resizer->weights;
    enum dml_status status = dml_grow(taps, capacity, (size_t)part_count, sizeof(struct taps));
    if (!status)
        status = dml_grow(&weights, &resizer->weight_capacity, *used + most * (size_t)part_count,
                          sizeof(int32_t));
    resizer->weights = weights;
    if (status)
        return status;
    struct taps *tap = *taps;
    for (int i = 0; i < part_count; i++, tap++) {
        int first, end, at = part_first + i;
        range_of(from, to, at, &first, &end);
        *tap = (struct taps){origin + first, end - first, *used};
        double center = (at + 0.5) * scale, sum = 0;
        for (int k = first; k < end; k++)
            sum += fmax(0, 1 - fabs((k - center + 0.5) * inverse));
        for (int k = first; k < end; k++) {
            double weight = fmax(0, 1 - fabs((k - center + 0.5) * inverse));
            if (sum != 0)
                weight /= sum;
            resizer->weights[(*used)++] = (int32_t)(0.5 + weight * (1 << PRECISION));
        }
    }
    return DML_OK;
}

static inline uint8_t rounded(int32_t sum) {
    sum >>= PRECISION;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* Reads four bytes, the last of which belongs to the next pixel and is not used. */
static inline lanes4 load_pixel(const uint8_t *at) {
    bytes4 bytes;
    memcpy(&bytes, at, sizeof bytes);
    return __builtin_convertvector(bytes, lanes4);
}

/* Writes three bytes and one too many. */
static inline void store_pixel(uint8_t *at, lanes4 sum) {
    uint8_t bytes[4] = {rounded(sum[0]), rounded(sum[1]), rounded(sum[2]), 0};
    memcpy(at, bytes, sizeof bytes);
}

/* Four rows at a time share the weights. */
static void scale_columns_4(const uint8_t *in, size_t in_stride, uint8_t *out, size_t out_stride,
                            const struct taps *taps, const int32_t *weights, int width, bool flip) {
    const lanes4 half = {1 << (PRECISION - 1), 1 << (PRECISION - 1), 1 << (PRECISION - 1), 0};
    for (int x = 0; x < width; x++, out += 3) {
        const struct taps *tap = &taps[flip ? width - 1 - x : x];
        const uint8_t *at = in + (size_t)tap->first * 3;
        const int32_t *weight = weights + tap->weights;
        lanes4 a = half, b = half, c = half, d = half;
        for (int k = 0; k < tap->count; k++, at += 3) {
            lanes4 w = {weight[k], weight[k], weight[k], weight[k]};
            a += load_pixel(at) * w;
            b += load_pixel(at + in_stride) * w;
            c += load_pixel(at + 2 * in_stride) * w;
            d += load_pixel(at + 3 * in_stride) * w;
        }
        store_pixel(out, a);
        store_pixel(out + out_stride, b);
        store_pixel(out + 2 * out_stride, c);
        store_pixel(out + 3 * out_stride, d);
    }
}

static void scale_columns_1(const uint8_t *in, uint8_t *out, const struct taps *taps,
                            const int32_t *weights, int width, bool flip) {
    for (int x = 0; x < width; x++, out += 3) {
        const struct taps *tap = &taps[flip ? width - 1 - x : x];
        const uint8_t *at = in + (size_t)tap->first * 3;
        int32_t sums[3] = {1 << (PRECISION - 1), 1 << (PRECISION - 1), 1 << (PRECISION - 1)};
        for (int k = 0; k < tap->count; k++)
            for (int c = 0; c < 3; c++)
                sums[c] += at[3 * k + c] * weights[tap->weights + (size_t)k];
        for (int c = 0; c < 3; c++)
            out[c] = rounded(sums[c]);
    }
}

static inline lanes8 at_most_255(lanes8 values) {
    lanes8 above = values > 255;
    return (values & ~above) | (above & 255);
}

/* One output row as the weighted sum of input rows. */
static void scale_row(const uint8_t *in, size_t stride, const struct taps *tap,
                      const int32_t *weights, size_t bytes, uint8_t *out) {
    in += (size_t)tap->first * stride;
    weights += tap->weights;
    size_t i = 0;
    for (; i + 16 <= bytes; i += 16) {
        lanes8 a = {0}, b = {0};
        a += 1 << (PRECISION - 1);
        b += 1 << (PRECISION - 1);
        const uint8_t *at = in + i;
        for (int k = 0; k < tap->count; k++, at += stride) {
            bytes8 low, high;
            memcpy(&low, at, sizeof low);
            memcpy(&high, at + 8, sizeof high);
            a += __builtin_convertvector(low, lanes8) * weights[k];
            b += __builtin_convertvector(high, lanes8) * weights[k];
        }
        a = at_most_255(a >> PRECISION); /* not below 0: no weight is */
        b = at_most_255(b >> PRECISION);
        bytes8 low = __builtin_convertvector(a, bytes8), high = __builtin_convertvector(b, bytes8);
        memcpy(out + i, &low, sizeof low);
        memcpy(out + i + 8, &high, sizeof high);
    }
    for (; i < bytes; i++) {
        int32_t sum = 1 << (PRECISION - 1);
        for (int k = 0; k < tap->count; k++)
            sum += in[(size_t)k * stride + i] * weights[k];
        out[i] = rounded(sum);
    }
}

enum dml_status dml_resize(struct dml_resizer *resizer, const struct dml_scaling *scaling,
                           const struct dml_pixels *pixels, uint8_t *out) {
    const struct dml_rect *box = &scaling->box, *part = &scaling->part;
    struct dml_rect needs = dml_scaling_needs(scaling);
    size_t used = 0;
    enum dml_status status =
        make_taps(resizer, &resizer->columns, &resizer->column_capacity, &used, box->width,
                  scaling->width, part->left, part->width, box->left - pixels->rect.left);
    if (!status)
        status = make_taps(resizer, &resizer->rows, &resizer->row_capacity, &used, box->height,
                           scaling->height, part->top, part->height, box->top - needs.top);
    if (!status) /* a pixel more, for the byte too many that the last one writes */
        status = dml_pixels_reserve(&resizer->between,
                                    (struct dml_rect){0, 0, part->width + 1, needs.height});
    if (status)
        return status;

    const uint8_t *in = pixels->data + (size_t)(needs.top - pixels->rect.top) * pixels->stride;
    uint8_t *between = resizer->between.data;
    size_t stride = resizer->between.stride;
    const struct taps *columns = resizer->columns, *rows = resizer->rows;
    int y = 0;
    for (; y + 4 <= needs.height; y += 4)
        scale_columns_4(in + (size_t)y * pixels->stride, pixels->stride,
                        between + (size_t)y * stride, stride, columns, resizer->weights,
                        part->width, scaling->flip);
    for (; y < needs.height; y++)
        scale_columns_1(in + (size_t)y * pixels->stride, between + (size_t)y * stride, columns,
                        resizer->weights, part->width, scaling->flip);
    size_t bytes = (size_t)part->width * 3;
    for (int i = 0; i < part->height; i++)
        scale_row(between, stride, &rows[i], resizer->weights, bytes, out + (size_t)i * bytes);
    return DML_OK;
}
