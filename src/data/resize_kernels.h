#ifndef DML_DATA_RESIZE_KERNELS_H
#define DML_DATA_RESIZE_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The two passes of resize.c, with AVX2 where the build has it and in plain C elsewhere, with the
 * same results. */

enum { DML_RESIZE_PRECISION = 22 }; /* 32 bits less 8 of a pixel and 2 to spare */

/* Which input pixels make an output pixel: `count` from `first` on. */
struct dml_taps {
    int first, count;
    size_t weights; /* index of their first one */
};

/* A weight w of 23 bits is kept as w >> 8 and w & 255, so that 16-bit multiplications suffice.
 * Weights come in groups of four: their upper parts, then their lower ones. The last group is
 * padded with 0. */
enum { DML_WEIGHT_GROUP = 8 };
#define DML_WEIGHT_GROUPS(count) (((count) + 3) / 4)

static inline void dml_weight_set(int16_t *weights, size_t k, int32_t weight) {
    int16_t *group = weights + k / 4 * DML_WEIGHT_GROUP;
    group[k % 4] = (int16_t)(weight >> 8);
    group[4 + k % 4] = (int16_t)(weight & 255);
}

static inline int32_t dml_weight_get(const int16_t *weights, size_t k) {
    const int16_t *group = weights + k / 4 * DML_WEIGHT_GROUP;
    return group[k % 4] * 256 + group[4 + k % 4];
}

/* in: (rows, any, 3), out: (rows, width, 3). Reads up to 16 bytes from an input pixel on, and
 * writes one extra byte after each row. */
void dml_scale_columns(const uint8_t *in, size_t in_stride, uint8_t *out, size_t out_stride,
                       int rows, const struct dml_taps *taps, const int16_t *weights, int width,
                       bool flip);

/* out: (bytes), the weighted sum of input rows of as many bytes. */
void dml_scale_row(const uint8_t *in, size_t stride, const struct dml_taps *tap,
                   const int16_t *weights, size_t bytes, uint8_t *out);

#endif
