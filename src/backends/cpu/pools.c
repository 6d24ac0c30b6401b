#include "backends/cpu/kernels.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

/* Pools walk one channel group of one image at a time, all channels of a group side by side. */
#define INLINE static inline __attribute__((always_inline))
enum { LANES = 16 };

/* The part of the window of output row (or column) `o` that lies in the input. */
struct span {
    int start, first, end; /* window start (may be negative), first and end inside */
};
static struct span span_of(int o, int stride, int pad, int kernel, int size) {
    int start = o * stride - pad;
    int end = start + kernel < size ? start + kernel : size;
    return (struct span){start, start > 0 ? start : 0, end};
}

INLINE void max_of_window(size_t block, const struct cpu_layout *in, struct span rows,
                          struct span columns, int kernel_w, const float *x, float *y,
                          uint8_t *winner) {
    float best[LANES];
    int32_t where[LANES];
    for (size_t b = 0; b < block; b++) {
        best[b] = -INFINITY;
        where[b] = 0;
    }
    for (int iy = rows.first; iy < rows.end; iy++)
        for (int ix = columns.first; ix < columns.end; ix++) {
            const float *pixel = x + ((size_t)iy * (size_t)in->width + (size_t)ix) * block;
            int32_t position = (iy - rows.start) * kernel_w + ix - columns.start;
#pragma omp simd
            for (size_t b = 0; b < block; b++) {
                /* NaN stays; no short cut, so that the compiler can compare all lanes at once. */
                bool better = (pixel[b] > best[b]) | (pixel[b] != pixel[b]);
                best[b] = better ? pixel[b] : best[b];
                where[b] = better ? position : where[b];
            }
        }
    for (size_t b = 0; b < block; b++)
        y[b] = best[b];
    if (winner)
        for (size_t b = 0; b < block; b++)
            winner[b] = (uint8_t)where[b];
}

INLINE void max_group(size_t block, const struct cpu_window *w, const struct cpu_layout *in,
                      const struct cpu_layout *out, const float *x, float *y, uint8_t *winner) {
    for (int oy = 0; oy < out->height; oy++)
        for (int ox = 0; ox < out->width; ox++) {
            size_t at = ((size_t)oy * (size_t)out->width + (size_t)ox) * block;
            max_of_window(block, in, span_of(oy, w->stride_h, w->pad_h, w->kernel_h, in->height),
                          span_of(ox, w->stride_w, w->pad_w, w->kernel_w, in->width), w->kernel_w,
                          x, y + at, winner ? winner + at : NULL);
        }
}

void cpu_max_pool(const struct cpu_window *window, const struct cpu_layout *in,
                  const struct cpu_layout *out, size_t n, const float *x, float *y,
                  uint8_t *winner) {
    size_t block = (size_t)in->block;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < n; i++)
        for (size_t g = 0; g < (size_t)in->groups; g++) {
            const float *from = x + i * in->image + g * in->pixels * block;
            size_t at = i * out->image + g * out->pixels * block;
            uint8_t *won = winner ? winner + at : NULL;
            if (block == 8)
                max_group(8, window, in, out, from, y + at, won);
            else if (block == 16)
                max_group(16, window, in, out, from, y + at, won);
            else
                max_group(block, window, in, out, from, y + at, won);
        }
}

/* Adds the gradient of each maximum to the pixel that won. delta[k]: floats from the first pixel of
 * a window to its position k. */
INLINE void max_group_gradient(size_t block, const struct cpu_window *w,
                               const struct cpu_layout *in, const struct cpu_layout *out,
                               const int32_t *delta, const float *grad, const float *positive,
                               const uint8_t *winner, float *grad_x) {
    memset(grad_x, 0, in->pixels * block * sizeof *grad_x);
    for (int oy = 0; oy < out->height; oy++)
        for (int ox = 0; ox < out->width; ox++) {
            ptrdiff_t start = ((ptrdiff_t)(oy * w->stride_h - w->pad_h) * in->width +
                               ox * w->stride_w - w->pad_w) *
                              (ptrdiff_t)block;
            size_t at = ((size_t)oy * (size_t)out->width + (size_t)ox) * block;
            for (size_t b = 0; b < block; b++) {
                float part = grad[at + b];
                if (positive)
                    part = positive[at + b] > 0.0f ? part : 0.0f;
                grad_x[start + delta[winner[at + b]] + (ptrdiff_t)b] += part;
            }
        }
}

void cpu_max_pool_gradient(const struct cpu_window *window, const struct cpu_layout *in,
                           const struct cpu_layout *out, size_t n, const struct cpu_term *grad,
                           const float *positive, const uint8_t *winner, float *grad_x) {
    size_t block = (size_t)in->block;
    int32_t delta[256] = {0};
    for (int k = 0; k < window->kernel_h * window->kernel_w; k++)
        delta[k] = (k / window->kernel_w * in->width + k % window->kernel_w) * (int32_t)block;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < n; i++)
        for (size_t g = 0; g < (size_t)in->groups; g++) {
            float *to = grad_x + i * in->image + g * in->pixels * block;
            const float *from = grad->data + i * grad->image + g * out->pixels * block;
            size_t at = i * out->image + g * out->pixels * block;
            const float *gate = positive ? positive + at : NULL;
            if (block == 8)
                max_group_gradient(8, window, in, out, delta, from, gate, winner + at, to);
            else if (block == 16)
                max_group_gradient(16, window, in, out, delta, from, gate, winner + at, to);
            else
                max_group_gradient(block, window, in, out, delta, from, gate, winner + at, to);
        }
}

/* One over what the sum of a window is divided by: with count_padding, its pixels inside the
 * padded image, as PyTorch counts them. */
static float window_share(const struct cpu_window *w, const struct cpu_layout *in, struct span y,
                          struct span x) {
    int rows = y.end - y.first, columns = x.end - x.first;
    if (w->count_padding) {
        int bottom = in->height + w->pad_h, right = in->width + w->pad_w;
        rows = (y.start + w->kernel_h < bottom ? y.start + w->kernel_h : bottom) - y.start;
        columns = (x.start + w->kernel_w < right ? x.start + w->kernel_w : right) - x.start;
    }
    return 1.0f / (float)(rows * columns);
}

INLINE void avg_group(size_t block, const struct cpu_window *w, const struct cpu_layout *in,
                      const struct cpu_layout *out, const float *x, float *y) {
    for (int oy = 0; oy < out->height; oy++)
        for (int ox = 0; ox < out->width; ox++) {
            struct span rows = span_of(oy, w->stride_h, w->pad_h, w->kernel_h, in->height);
            struct span columns = span_of(ox, w->stride_w, w->pad_w, w->kernel_w, in->width);
            float sum[LANES] = {0}, share = window_share(w, in, rows, columns);
            for (int iy = rows.first; iy < rows.end; iy++)
                for (int ix = columns.first; ix < columns.end; ix++)
                    for (size_t b = 0; b < block; b++)
                        sum[b] += x[((size_t)iy * (size_t)in->width + (size_t)ix) * block + b];
            for (size_t b = 0; b < block; b++)
                y[((size_t)oy * (size_t)out->width + (size_t)ox) * block + b] = sum[b] * share;
        }
}

void cpu_avg_pool(const struct cpu_window *window, const struct cpu_layout *in,
                  const struct cpu_layout *out, size_t n, const float *x, float *y) {
    size_t block = (size_t)in->block;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < n; i++)
        for (size_t g = 0; g < (size_t)in->groups; g++) {
            const float *from = x + i * in->image + g * in->pixels * block;
            float *to = y + i * out->image + g * out->pixels * block;
            if (block == 8)
                avg_group(8, window, in, out, from, to);
            else if (block == 16)
                avg_group(16, window, in, out, from, to);
            else
                avg_group(block, window, in, out, from, to);
        }
}

INLINE void avg_group_gradient(size_t block, const struct cpu_window *w,
                               const struct cpu_layout *in, const struct cpu_layout *out,
                               const float *grad, float *grad_x) {
    memset(grad_x, 0, in->pixels * block * sizeof *grad_x);
    for (int oy = 0; oy < out->height; oy++)
        for (int ox = 0; ox < out->width; ox++) {
            struct span rows = span_of(oy, w->stride_h, w->pad_h, w->kernel_h, in->height);
            struct span columns = span_of(ox, w->stride_w, w->pad_w, w->kernel_w, in->width);
            const float *from = grad + ((size_t)oy * (size_t)out->width + (size_t)ox) * block;
            float part[LANES], share = window_share(w, in, rows, columns);
            for (size_t b = 0; b < block; b++)
                part[b] = from[b] * share;
            for (int iy = rows.first; iy < rows.end; iy++)
                for (int ix = columns.first; ix < columns.end; ix++)
                    for (size_t b = 0; b < block; b++)
                        grad_x[((size_t)iy * (size_t)in->width + (size_t)ix) * block + b] +=
                            part[b];
        }
}

void cpu_avg_pool_gradient(const struct cpu_window *window, const struct cpu_layout *in,
                           const struct cpu_layout *out, size_t n, const struct cpu_term *grad,
                           float *grad_x) {
    size_t block = (size_t)in->block;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < n; i++)
        for (size_t g = 0; g < (size_t)in->groups; g++) {
            const float *from = grad->data + i * grad->image + g * out->pixels * block;
            float *to = grad_x + i * in->image + g * in->pixels * block;
            if (block == 8)
                avg_group_gradient(8, window, in, out, from, to);
            else if (block == 16)
                avg_group_gradient(16, window, in, out, from, to);
            else
                avg_group_gradient(block, window, in, out, from, to);
        }
}

void cpu_global_avg_pool(const struct cpu_layout *in, size_t n, const float *x, float *y) {
    size_t block = (size_t)in->block, groups = (size_t)in->groups;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < n; i++)
        for (size_t g = 0; g < groups; g++) {
            const float *from = x + i * in->image + g * in->pixels * block;
            double sum[LANES] = {0};
            for (size_t s = 0; s < in->pixels; s++)
                for (size_t b = 0; b < block; b++)
                    sum[b] += from[s * block + b];
            for (size_t b = 0; b < block; b++)
                y[(i * groups + g) * block + b] = (float)(sum[b] / (double)in->pixels);
        }
}

void cpu_global_max_pool(const struct cpu_layout *in, size_t n, const float *x, float *y,
                         int32_t *winner) {
    size_t block = (size_t)in->block, groups = (size_t)in->groups;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < n; i++)
        for (size_t g = 0; g < groups; g++) {
            const float *from = x + i * in->image + g * in->pixels * block;
            for (size_t b = 0; b < block; b++) {
                size_t best = 0;
                for (size_t s = 1; s < in->pixels; s++)
                    if (from[s * block + b] > from[best * block + b] ||
                        from[s * block + b] != from[s * block + b])
                        best = s;
                y[(i * groups + g) * block + b] = from[best * block + b];
                if (winner)
                    winner[(i * groups + g) * block + b] = (int32_t)best;
            }
        }
}

void cpu_global_max_pool_gradient(const struct cpu_layout *in, size_t n, const float *grad,
                                  const int32_t *winner, float *grad_x) {
    size_t block = (size_t)in->block, groups = (size_t)in->groups;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < n; i++)
        for (size_t g = 0; g < groups; g++) {
            float *to = grad_x + i * in->image + g * in->pixels * block;
            memset(to, 0, in->pixels * block * sizeof *to);
            for (size_t b = 0; b < block; b++) {
                size_t at = (i * groups + g) * block + b;
                to[(size_t)winner[at] * block + b] = grad[at];
            }
        }
}
