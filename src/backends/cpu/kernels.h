#ifndef DML_CPU_KERNELS_H
#define DML_CPU_KERNELS_H

#include "backends/backend.h"
#include "plan/layout.h"

#include <stdbool.h>

/* What happens to activations between convolutions: functions on plain arrays in the blocked
 * layout of layout.h, parallel over images and channel groups. Results do not depend on the
 * number of threads. */

/* One of the gradients that add up to the gradient of a tensor. */
struct cpu_term {
    const void *data; /* at its first channel group */
    size_t image;     /* elements from one image to the next */
    bool broadcast;   /* data is float32 (n, channels), the same for each pixel */
    float scale;      /* of a broadcast */
};

struct cpu_window {
    int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
    bool count_padding;
};

/* The kernels for tensors of one element type. They compute in float32 (sums over many pixels in
 * float64) and round what they store once. Tensors are `const void *` and `void *`, all of this
 * element type; coefficients and statistics of channels are float32. */
struct cpu_kernels {
    /* 8-bit RGB (n, h, w, 3), or floats (n, 3, h, w), from image `first` on, to the network's input
     * (n, 3, h, w). scale and shift (3) are an affine right after the input, or NULL. What is
     * erased is 0 before it. */
    void (*input)(const struct dml_images *images, size_t first, size_t n,
                  const struct dml_input_transform *transform, const float *scale,
                  const float *shift, void *out);

    /* out = sum of terms, where mask > 0 (everywhere when mask is NULL). `out` may be the data of a
     * term that has its layout. mask_image: elements from one image of the mask to the next. */
    void (*combine)(const struct plan_layout *layout, size_t n, const struct cpu_term *terms,
                    int count, const void *mask, size_t mask_image, void *out);

    /* out = relu?(scale[c] * x + shift[c] + residual); scale and shift (whole groups) or both NULL;
     * residual or NULL. `out` may be `x` or `residual`. */
    void (*pointwise)(const struct plan_layout *layout, size_t n, const void *x, const float *scale,
                      const float *shift, const void *residual, bool relu, void *out);

    /* A value of each channel: near enough to its mean for a variance that is not the difference of
     * large sums. */
    void (*first_values)(const struct plan_layout *layout, const void *x, float *values);

    /* Per channel sums over images and pixels of x - shift and of its square. */
    void (*moments)(const struct plan_layout *layout, size_t n, const void *x, const float *shift,
                    double *sum, double *squares);

    /* Per channel sums of grad and of grad * (x - mean). */
    void (*channel_sums)(const struct plan_layout *layout, size_t n, const void *grad,
                         const void *x, const float *mean, double *sum, double *sum_x);

    /* out = a[c] * grad + b[c] * (x - mean[c]) + d[c]: the gradient of batch normalisation.
     * `out` may be `grad`. */
    void (*norm_gradient)(const struct plan_layout *layout, size_t n, const void *grad,
                          const void *x, const float *mean, const float *a, const float *b,
                          const float *d, void *out);

    /* `winner` (n, output image): the position in its window of each maximum, for the backward
     * pass; NULL without one. Windows have at most 255 positions. */
    void (*max_pool)(const struct cpu_window *window, const struct plan_layout *in,
                     const struct plan_layout *out, size_t n, const void *x, void *y,
                     uint8_t *winner);
    /* grad_x is overwritten. Where `positive` (the pool's output) is given, only its positive
     * values pass a gradient: the relu before the pool. */
    void (*max_pool_gradient)(const struct cpu_window *window, const struct plan_layout *in,
                              const struct plan_layout *out, size_t n, const struct cpu_term *grad,
                              const void *positive, const uint8_t *winner, void *grad_x);
    void (*avg_pool)(const struct cpu_window *window, const struct plan_layout *in,
                     const struct plan_layout *out, size_t n, const void *x, void *y);
    void (*avg_pool_gradient)(const struct cpu_window *window, const struct plan_layout *in,
                              const struct plan_layout *out, size_t n, const struct cpu_term *grad,
                              void *grad_x);

    /* Over all pixels, to float32 (n, channels in whole groups). `winner` (the same shape): the
     * pixel. The incoming gradient is float32 too. */
    void (*global_avg_pool)(const struct plan_layout *in, size_t n, const void *x, float *y);
    void (*global_max_pool)(const struct plan_layout *in, size_t n, const void *x, float *y,
                            int32_t *winner);
    void (*global_max_pool_gradient)(const struct plan_layout *in, size_t n, const float *grad,
                                     const int32_t *winner, void *grad_x);
    /* y = m^(1/p), m the mean of max(x, 1e-6)^p. `state` (2, n, channels in whole groups): log m,
     * and the mean of x^p log x over m; NULL: not kept. */
    void (*global_gem_pool)(const struct plan_layout *in, size_t n, const void *x, float p,
                            float *y, float *state);
    /* `logs`: log m. No gradient goes to pixels below 1e-6. */
    void (*global_gem_pool_gradient)(const struct plan_layout *in, size_t n, const float *grad,
                                     const void *x, float p, const float *logs, void *grad_x);

    /* Copies `channels` channels of all images from one tensor into another of the same height and
     * width, from channel `from` to channel `to`. */
    void (*copy_channels)(const struct plan_layout *source, const void *x, int from,
                          const struct plan_layout *target, void *y, int to, int channels,
                          size_t n);
};

const struct cpu_kernels *cpu_kernels_float32(void), *cpu_kernels_bfloat16(void);

/* Those for a tensor of this layout; for pools, the input's. */
static inline const struct cpu_kernels *cpu_kernels_of(const struct plan_layout *layout) {
    return layout->element == PLAN_BFLOAT16 ? cpu_kernels_bfloat16() : cpu_kernels_float32();
}

/* Rows y = x / max(||x||, 1e-12), the norms (n) kept; and its gradient. Rows are `stride` floats
 * apart. */
void cpu_l2_normalize(size_t n, size_t dim, size_t stride, const float *x, float *y, float *norms);
void cpu_l2_normalize_gradient(size_t n, size_t dim, size_t stride, const float *grad,
                               const float *y, const float *norms, float *grad_x);

#endif
