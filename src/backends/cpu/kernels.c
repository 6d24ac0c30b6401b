#include "backends/cpu/kernels.h"

#include "math/linear.h"

#include <math.h>
#include <string.h>

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
                           const float *shift, float *out) {
    float table[3][256];
    int source[3];
    pixel_table(transform, scale, shift, table, source);
    size_t height = (size_t)images->height, width = (size_t)images->width;
    size_t plane = height * width;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < n; i++)
        for (size_t row = 0; row < height; row++) {
            const uint8_t *pixels = images->pixels + ((first + i) * plane + row * width) * 3;
            float *target = out + i * 3 * plane + row * width;
            for (int c = 0; c < 3; c++)
                for (size_t x = 0; x < width; x++)
                    target[(size_t)c * plane + x] = table[c][pixels[3 * x + (size_t)source[c]]];
        }
}

void cpu_input(const struct dml_images *images, size_t first, size_t n,
               const struct dml_input_transform *transform, const float *scale, const float *shift,
               float *out) {
    if (images->pixels) {
        convert_pixels(images, first, n, transform, scale, shift, out);
        return;
    }
    size_t plane = (size_t)images->height * (size_t)images->width;
    const float *input = images->input + first * 3 * plane;
    if (!scale) {
        memcpy(out, input, n * 3 * plane * sizeof *out);
        return;
    }
    for (size_t i = 0; i < n * 3; i++)
        for (size_t p = 0; p < plane; p++)
            out[i * plane + p] = input[i * plane + p] * scale[i % 3] + shift[i % 3];
}

/* The first term of a piece, `size` floats at offset `start` of channel group g. */
static void start_piece(const struct cpu_term *term, size_t i, size_t g, size_t block, size_t row,
                        size_t start, size_t size, float *out) {
    if (!term->broadcast) {
        memcpy(out, term->data + i * term->image + g * row + start, size * sizeof *out);
        return;
    }
    const float *values = term->data + i * term->image + g * block;
    for (size_t k = 0; k < size; k += block)
        for (size_t b = 0; b < block; b++)
            out[k + b] = values[b] * term->scale;
}

static void add_piece(const struct cpu_term *term, size_t i, size_t g, size_t block, size_t row,
                      size_t start, size_t size, float *out) {
    if (!term->broadcast) {
        const float *data = term->data + i * term->image + g * row + start;
#pragma omp simd
        for (size_t k = 0; k < size; k++)
            out[k] += data[k];
        return;
    }
    const float *values = term->data + i * term->image + g * block;
    for (size_t k = 0; k < size; k += block)
        for (size_t b = 0; b < block; b++)
            out[k + b] += values[b] * term->scale;
}

void cpu_combine(const struct cpu_layout *layout, size_t n, const struct cpu_term *terms, int count,
                 const float *mask, size_t mask_image, float *out) {
    size_t block = (size_t)layout->block, row = layout->pixels * block;
    size_t most = PIECE / block * block;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < n; i++)
        for (size_t g = 0; g < (size_t)layout->groups; g++)
            for (size_t start = 0; start < row; start += most) {
                float sum[PIECE];
                size_t size = row - start < most ? row - start : most;
                start_piece(&terms[0], i, g, block, row, start, size, sum);
                for (int t = 1; t < count; t++)
                    add_piece(&terms[t], i, g, block, row, start, size, sum);
                float *target = out + i * layout->image + g * row + start;
                if (!mask) {
                    memcpy(target, sum, size * sizeof *sum);
                    continue;
                }
                const float *gate = mask + i * mask_image + g * row + start;
#pragma omp simd
                for (size_t k = 0; k < size; k++)
                    target[k] = gate[k] > 0.0f ? sum[k] : 0.0f;
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
#define INLINE static inline __attribute__((always_inline))

INLINE void affine_row(size_t block, size_t row, const float *x, const float *scale,
                       const float *shift, const float *residual, bool relu, float *out) {
    for (size_t k = 0; k < row; k += block)
#pragma omp simd
        for (size_t b = 0; b < block; b++) {
            float value = scale ? x[k + b] * scale[b] + shift[b] : x[k + b];
            if (residual)
                value += residual[k + b];
            out[k + b] = relu && value < 0.0f ? 0.0f : value;
        }
}

void cpu_pointwise(const struct cpu_layout *layout, size_t n, const float *x, const float *scale,
                   const float *shift, const float *residual, bool relu, float *out) {
    size_t block = (size_t)layout->block, row = layout->pixels * block;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < n; i++)
        for (size_t g = 0; g < (size_t)layout->groups; g++) {
            size_t at = i * layout->image + g * row;
            const float *a = scale ? scale + g * block : NULL;
            const float *b = scale ? shift + g * block : NULL;
            const float *r = residual ? residual + at : NULL;
            if (scale && r && relu)
                WITH_BLOCK(affine_row, block, row, x + at, a, b, r, true, out + at);
            else if (scale && !r)
                WITH_BLOCK(affine_row, block, row, x + at, a, b, NULL, relu, out + at);
            else
                WITH_BLOCK(affine_row, block, row, x + at, a, b, r, relu, out + at);
        }
}

/* Adds up x and x * y (or x * x) of a row per channel: in float32 over a few pixels, which keeps
 * the loop in registers, then in float64. A block has at most 16 channels. */
enum { LANES = 16, FEW = 64 };
INLINE void sum_row(size_t block, size_t pixels, const float *x, const float *y, const float *mean,
                    double *sum, double *product) {
    for (size_t start = 0; start < pixels; start += FEW) {
        size_t end = start + FEW < pixels ? start + FEW : pixels;
        float s[LANES] = {0}, p[LANES] = {0};
        for (size_t k = start; k < end; k++)
#pragma omp simd
            for (size_t b = 0; b < block; b++) {
                float v = x[k * block + b];
                float w = y ? y[k * block + b] - mean[b] : v;
                s[b] += v;
                p[b] += v * w;
            }
        for (size_t b = 0; b < block; b++) {
            sum[b] += s[b];
            product[b] += p[b];
        }
    }
}

void cpu_channel_sums(const struct cpu_layout *layout, size_t n, const float *grad, const float *x,
                      const float *mean, double *sum, double *sum_x) {
    size_t block = (size_t)layout->block, row = layout->pixels * block;
#pragma omp parallel for schedule(static)
    for (size_t g = 0; g < (size_t)layout->groups; g++) {
        double *s = sum + g * block, *p = sum_x + g * block;
        memset(s, 0, block * sizeof *s);
        memset(p, 0, block * sizeof *p);
        for (size_t i = 0; i < n; i++) {
            size_t at = i * layout->image + g * row;
            if (x)
                WITH_BLOCK(sum_row, block, layout->pixels, grad + at, x + at, mean + g * block, s,
                           p);
            else
                WITH_BLOCK(sum_row, block, layout->pixels, grad + at, NULL, NULL, s, p);
        }
    }
}

void cpu_batch_statistics(const struct cpu_layout *layout, size_t n, const float *x, float *mean,
                          float *variance) {
    size_t block = (size_t)layout->block, row = layout->pixels * block;
    double count = (double)n * (double)layout->pixels;
#pragma omp parallel for schedule(static)
    for (size_t g = 0; g < (size_t)layout->groups; g++) {
        double sum[LANES] = {0}, squares[LANES] = {0};
        for (size_t i = 0; i < n; i++)
            WITH_BLOCK(sum_row, block, layout->pixels, x + i * layout->image + g * row, NULL, NULL,
                       sum, squares);
        for (size_t b = 0; b < block; b++) {
            double m = sum[b] / count;
            mean[g * block + b] = (float)m;
            variance[g * block + b] = (float)fmax(squares[b] / count - m * m, 0.0);
        }
    }
}

INLINE void gradient_row(size_t block, size_t row, const float *grad, const float *x,
                         const float *mean, const float *a, const float *b, const float *d,
                         float *out) {
    for (size_t k = 0; k < row; k += block)
#pragma omp simd
        for (size_t l = 0; l < block; l++)
            out[k + l] = a[l] * grad[k + l] + b[l] * (x[k + l] - mean[l]) + d[l];
}

void cpu_norm_gradient(const struct cpu_layout *layout, size_t n, const float *grad, const float *x,
                       const float *mean, const float *a, const float *b, const float *d,
                       float *out) {
    size_t block = (size_t)layout->block, row = layout->pixels * block;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < n; i++)
        for (size_t g = 0; g < (size_t)layout->groups; g++) {
            size_t at = i * layout->image + g * row, c = g * block;
            WITH_BLOCK(gradient_row, block, row, grad + at, x + at, mean + c, a + c, b + c, d + c,
                       out + at);
        }
}

void cpu_copy_channels(const struct cpu_layout *source, const float *x, int from,
                       const struct cpu_layout *target, float *y, int to, int channels, size_t n) {
    size_t block = (size_t)source->block, pixels = source->pixels;
    bool whole = source->block == target->block && from % source->block == 0 &&
                 to % source->block == 0 && channels % source->block == 0;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++) {
        const float *image = x + i * source->image;
        float *out = y + i * target->image;
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

void cpu_l2_normalize(size_t n, size_t dim, size_t stride, const float *x, float *y, float *norms) {
    for (size_t i = 0; i < n; i++) {
        norms[i] = (float)fmax(sqrt(dml_dot(x + i * stride, x + i * stride, dim)), 1e-12);
        for (size_t k = 0; k < dim; k++)
            y[i * stride + k] = x[i * stride + k] / norms[i];
        for (size_t k = dim; k < stride; k++)
            y[i * stride + k] = 0.0f;
    }
}

void cpu_l2_normalize_gradient(size_t n, size_t dim, size_t stride, const float *grad,
                               const float *y, const float *norms, float *grad_x) {
    for (size_t i = 0; i < n; i++) {
        const float *g = grad + i * stride, *unit = y + i * stride;
        double along = dml_dot(g, unit, dim);
        if (norms[i] <= 1e-12f) /* below the clamp the norm is a constant */
            along = 0;
        for (size_t k = 0; k < dim; k++)
            grad_x[i * stride + k] = (float)((g[k] - along * unit[k]) / norms[i]);
        for (size_t k = dim; k < stride; k++)
            grad_x[i * stride + k] = 0.0f;
    }
}
