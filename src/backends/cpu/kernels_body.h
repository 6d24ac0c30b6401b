/* The kernels for one type of element: included by kernels_float32.c and kernels_bfloat16.c, which
 * define the type `element`, load() and narrow() between it and float, and the name KERNELS. */
#include "backends/cpu/kernels.h"
#include "math/transcendental.h"

#include <math.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
/* The most channels in a group. */
enum { LANES = 16 };

/* Pieces of a row of pixels that stay in the first-level cache while several passes go over
 * them. */
enum { PIECE = 1024 };

/* value = (pixel / 255 - mean) / std in float32 as torchvision computes it, for each channel of
 * the network and each of the 256 pixel values. */
static void pixel_table(const struct dml_input_transform *transform, const float *scale,
                        const float *shift, float table[3][256], int source[3]) {
    for (int c = 0; c < 3; c++) {
        source[c] = transform->bgr ? 2 - c : c;
        for (int v = 0; v < 256; v++) {
            float value = (float)v / 255.0f;
            value = (value - transform->mean[source[c]]) / transform->std[source[c]];
            table[c][v] = scale ? value * scale[c] + shift[c] : value;
        }
    }
}

static void convert_pixels(const struct dml_images *images, size_t first, size_t n,
                           const struct dml_input_transform *transform, const float *scale,
                           const float *shift, element *out) {
    float values[3][256];
    element table[3][256];
    int source[3];
    pixel_table(transform, scale, shift, values, source);
    for (int c = 0; c < 3; c++)
        for (int v = 0; v < 256; v++)
            table[c][v] = narrow(values[c][v]);
    size_t height = (size_t)images->height, width = (size_t)images->width;
    size_t plane = height * width;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < n; i++)
        for (size_t row = 0; row < height; row++) {
            const uint8_t *pixels = images->pixels + ((first + i) * plane + row * width) * 3;
            element *target = out + i * 3 * plane + row * width;
            for (int c = 0; c < 3; c++)
                for (size_t x = 0; x < width; x++)
                    target[(size_t)c * plane + x] = table[c][pixels[3 * x + (size_t)source[c]]];
        }
}

static void erase(const struct dml_images *images, size_t first, size_t n, const float *shift,
                  element *out) {
    size_t width = (size_t)images->width, plane = (size_t)images->height * width;
    for (size_t i = 0; images->erased && i < n; i++) {
        const struct dml_rect *rect = &images->erased[first + i];
        for (size_t c = 0; rect->width > 0 && c < 3; c++)
            for (int y = rect->top; y < rect->top + rect->height; y++)
                for (int x = rect->left; x < rect->left + rect->width; x++)
                    out[(i * 3 + c) * plane + (size_t)y * width + (size_t)x] =
                        narrow(shift ? shift[c] : 0.0f);
    }
}

static void input(const struct dml_images *images, size_t first, size_t n,
                  const struct dml_input_transform *transform, const float *scale,
                  const float *shift, void *out) {
    if (images->pixels) {
        convert_pixels(images, first, n, transform, scale, shift, out);
        erase(images, first, n, shift, out);
        return;
    }
    size_t plane = (size_t)images->height * (size_t)images->width;
    const float *values = images->input + first * 3 * plane;
    element *target = out;
    for (size_t i = 0; i < n * 3; i++)
        for (size_t p = i * plane; p < (i + 1) * plane; p++)
            target[p] = narrow(scale ? values[p] * scale[i % 3] + shift[i % 3] : values[p]);
    erase(images, first, n, shift, out);
}

/* A piece of a term, `size` elements at offset `start` of channel group g, becomes or is added to
 * `sum`. */
INLINE void take_piece(bool add, const struct cpu_term *term, size_t i, size_t g, size_t block,
                       size_t row, size_t start, size_t size, float *sum) {
    if (!term->broadcast) {
        const element *data = (const element *)term->data + i * term->image + g * row + start;
#pragma omp simd
        for (size_t k = 0; k < size; k++)
            sum[k] = add ? sum[k] + load(data[k]) : load(data[k]);
        return;
    }
    const float *values = (const float *)term->data + i * term->image + g * block;
    for (size_t k = 0; k < size; k += block)
        for (size_t b = 0; b < block; b++)
            sum[k + b] = (add ? sum[k + b] : 0.0f) + values[b] * term->scale;
}

static void combine(const struct plan_layout *layout, size_t n, const struct cpu_term *terms,
                    int count, const void *mask, size_t mask_image, void *out) {
    size_t block = (size_t)layout->block, row = layout->pixels * block;
    size_t most = PIECE / block * block;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < n; i++)
        for (size_t g = 0; g < (size_t)layout->groups; g++)
            for (size_t start = 0; start < row; start += most) {
                float sum[PIECE];
                size_t size = row - start < most ? row - start : most;
                take_piece(false, &terms[0], i, g, block, row, start, size, sum);
                for (int t = 1; t < count; t++)
                    take_piece(true, &terms[t], i, g, block, row, start, size, sum);
                element *target = (element *)out + i * layout->image + g * row + start;
                if (!mask) {
                    for (size_t k = 0; k < size; k++)
                        target[k] = narrow(sum[k]);
                    continue;
                }
                const element *gate = (const element *)mask + i * mask_image + g * row + start;
#pragma omp simd
                for (size_t k = 0; k < size; k++)
                    target[k] = narrow(load(gate[k]) > 0.0f ? sum[k] : 0.0f);
            }
}

/* Calls `function` with the block size as a constant, so that loops over a block unroll. */
#define WITH_BLOCK(function, block, ...)                                                           \
    do {                                                                                           \
        if ((block) == 8)                                                                          \
            function(8, __VA_ARGS__);                                                              \
        else if ((block) == 16)                                                                    \
            function(16, __VA_ARGS__);                                                             \
        else                                                                                       \
            function((size_t)(block), __VA_ARGS__);                                                \
    } while (0)
INLINE void affine_row(size_t block, size_t row, const element *x, const float *scale,
                       const float *shift, const element *residual, bool relu, element *out) {
    for (size_t k = 0; k < row; k += block)
#pragma omp simd
        for (size_t b = 0; b < block; b++) {
            float value = scale ? load(x[k + b]) * scale[b] + shift[b] : load(x[k + b]);
            if (residual)
                value += load(residual[k + b]);
            out[k + b] = narrow(relu && value < 0.0f ? 0.0f : value);
        }
}

static void pointwise(const struct plan_layout *layout, size_t n, const void *x, const float *scale,
                      const float *shift, const void *residual, bool relu, void *out) {
    size_t block = (size_t)layout->block, row = layout->pixels * block;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < n; i++)
        for (size_t g = 0; g < (size_t)layout->groups; g++) {
            size_t at = i * layout->image + g * row;
            const element *from = (const element *)x + at;
            const element *r = residual ? (const element *)residual + at : NULL;
            const float *a = scale ? scale + g * block : NULL;
            const float *b = scale ? shift + g * block : NULL;
            element *to = (element *)out + at;
            if (scale && r && relu)
                WITH_BLOCK(affine_row, block, row, from, a, b, r, true, to);
            else if (scale && !r)
                WITH_BLOCK(affine_row, block, row, from, a, b, NULL, relu, to);
            else
                WITH_BLOCK(affine_row, block, row, from, a, b, r, relu, to);
        }
}

/* Adds up v and v * w over a row, per channel, w being x minus the channel's `shift` and v a
 * gradient or w itself: in float32 over a few pixels, which keeps the loop in registers, then in
 * float64. */
enum { FEW = 64 };
INLINE void sum_row(size_t block, size_t pixels, const element *grad, const element *x,
                    const float *shift, double *sum, double *product) {
    for (size_t start = 0; start < pixels; start += FEW) {
        size_t end = start + FEW < pixels ? start + FEW : pixels;
        float s[LANES] = {0}, p[LANES] = {0};
        for (size_t k = start; k < end; k++)
#pragma omp simd
            for (size_t b = 0; b < block; b++) {
                float w = load(x[k * block + b]) - shift[b];
                float v = grad ? load(grad[k * block + b]) : w;
                s[b] += v;
                p[b] += v * w;
            }
        for (size_t b = 0; b < block; b++) {
            sum[b] += s[b];
            product[b] += p[b];
        }
    }
}

static void channel_sums(const struct plan_layout *layout, size_t n, const void *grad,
                         const void *x, const float *mean, double *sum, double *sum_x) {
    size_t block = (size_t)layout->block, row = layout->pixels * block;
#pragma omp parallel for schedule(static)
    for (size_t g = 0; g < (size_t)layout->groups; g++) {
        double *s = sum + g * block, *p = sum_x + g * block;
        memset(s, 0, block * sizeof *s);
        memset(p, 0, block * sizeof *p);
        for (size_t i = 0; i < n; i++) {
            size_t at = i * layout->image + g * row;
            WITH_BLOCK(sum_row, block, layout->pixels, (const element *)grad + at,
                       (const element *)x + at, mean + g * block, s, p);
        }
    }
}

static void first_values(const struct plan_layout *layout, const void *x, float *values) {
    size_t block = (size_t)layout->block, row = layout->pixels * block;
    for (size_t g = 0; g < (size_t)layout->groups; g++)
        for (size_t b = 0; b < block; b++)
            values[g * block + b] = load(((const element *)x)[g * row + b]);
}

static void moments(const struct plan_layout *layout, size_t n, const void *x, const float *shift,
                    double *sum, double *squares) {
    size_t block = (size_t)layout->block, row = layout->pixels * block;
#pragma omp parallel for schedule(static)
    for (size_t g = 0; g < (size_t)layout->groups; g++) {
        const element *first = (const element *)x + g * row;
        double *s = sum + g * block, *p = squares + g * block;
        memset(s, 0, block * sizeof *s);
        memset(p, 0, block * sizeof *p);
        for (size_t i = 0; i < n; i++)
            WITH_BLOCK(sum_row, block, layout->pixels, NULL, first + i * layout->image,
                       shift + g * block, s, p);
    }
}

INLINE void gradient_row(size_t block, size_t row, const element *grad, const element *x,
                         const float *mean, const float *a, const float *b, const float *d,
                         element *out) {
    for (size_t k = 0; k < row; k += block)
#pragma omp simd
        for (size_t l = 0; l < block; l++)
            out[k + l] =
                narrow(a[l] * load(grad[k + l]) + b[l] * (load(x[k + l]) - mean[l]) + d[l]);
}

static void norm_gradient(const struct plan_layout *layout, size_t n, const void *grad,
                          const void *x, const float *mean, const float *a, const float *b,
                          const float *d, void *out) {
    size_t block = (size_t)layout->block, row = layout->pixels * block;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < n; i++)
        for (size_t g = 0; g < (size_t)layout->groups; g++) {
            size_t at = i * layout->image + g * row, c = g * block;
            WITH_BLOCK(gradient_row, block, row, (const element *)grad + at,
                       (const element *)x + at, mean + c, a + c, b + c, d + c, (element *)out + at);
        }
}

static void copy_channels(const struct plan_layout *source, const void *x, int from,
                          const struct plan_layout *target, void *y, int to, int channels,
                          size_t n) {
    size_t block = (size_t)source->block, pixels = source->pixels;
    bool whole = source->block == target->block && from % source->block == 0 &&
                 to % source->block == 0 && channels % source->block == 0;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++) {
        const element *image = (const element *)x + i * source->image;
        element *out = (element *)y + i * target->image;
        if (whole) {
            memcpy(out + (size_t)to * pixels, image + (size_t)from * pixels,
                   (size_t)channels * pixels * sizeof *out);
            continue;
        }
        size_t other = (size_t)target->block;
        for (size_t c = 0; c < (size_t)channels; c++) {
            size_t a = (size_t)from + c, b = (size_t)to + c;
            for (size_t s = 0; s < pixels; s++)
                out[(b / other * pixels + s) * other + b % other] =
                    image[(a / block * pixels + s) * block + a % block];
        }
    }
}

#include "backends/cpu/gem_body.h"
#include "backends/cpu/pools_body.h"

const struct cpu_kernels *KERNELS(void) {
    static const struct cpu_kernels kernels = {
        .input = input,
        .combine = combine,
        .pointwise = pointwise,
        .first_values = first_values,
        .moments = moments,
        .channel_sums = channel_sums,
        .norm_gradient = norm_gradient,
        .max_pool = max_pool,
        .max_pool_gradient = max_pool_gradient,
        .avg_pool = avg_pool,
        .avg_pool_gradient = avg_pool_gradient,
        .global_avg_pool = global_avg_pool,
        .global_max_pool = global_max_pool,
        .global_max_pool_gradient = global_max_pool_gradient,
        .global_gem_pool = global_gem_pool,
        .global_gem_pool_gradient = global_gem_pool_gradient,
        .copy_channels = copy_channels,
    };
    return &kernels;
}
