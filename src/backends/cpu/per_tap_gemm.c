#include "backends/cpu/per_tap_gemm.h"

#include "math/linear.h"

#include <string.h>

/* In scratch memory, activations lie pixel by pixel: (pixels, n, channels), so that neighbouring
 * pixels of a row, for all images, are consecutive rows of one matrix. */

static size_t rows_size(const struct cpu_conv_shape *shape, const struct plan_layout *layout) {
    return shape->n * layout->pixels * plan_layout_channels(layout);
}

static size_t tap_size(const struct cpu_conv_shape *shape) {
    return plan_layout_channels(&shape->input) * plan_layout_channels(&shape->output);
}

/* Where it was found faster than oneDNN's direct convolution, on AVX2 (docs/performance/train.md);
 * with a stride its products are smaller, one pixel of all images at a time. */
bool cpu_per_tap_preferred(const struct cpu_conv_shape *shape) {
    if (shape->input.block != shape->output.block || shape->input.block == 1 ||
        shape->kernel_h * shape->kernel_w == 1 || shape->groups > 1)
        return false;
    bool strided = shape->stride_h > 1 || shape->stride_w > 1;
    return shape->output.pixels <= (strided ? 16 : 64) && shape->output.channels >= 64;
}

size_t cpu_per_tap_scratch(const struct cpu_conv_shape *shape) {
    size_t taps = (size_t)(shape->kernel_h * shape->kernel_w);
    return (rows_size(shape, &shape->input) + rows_size(shape, &shape->output) +
            taps * tap_size(shape)) *
           sizeof(float);
}

/* A block of 8 or 16 floats, as one or two vectors instead of a call. */
static inline void copy_block(size_t block, const float *from, float *to) {
    if (block == 8)
        memcpy(to, from, 8 * sizeof *to);
    else if (block == 16)
        memcpy(to, from, 16 * sizeof *to);
    else
        memcpy(to, from, block * sizeof *to);
}

static void to_rows(const struct plan_layout *layout, size_t n, const float *blocked, float *rows) {
    size_t block = (size_t)layout->block, groups = (size_t)layout->groups;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t s = 0; s < layout->pixels; s++)
        for (size_t i = 0; i < n; i++)
            for (size_t g = 0; g < groups; g++)
                copy_block(block, blocked + i * layout->image + (g * layout->pixels + s) * block,
                           rows + ((s * n + i) * groups + g) * block);
}

/* blocked = relu?(rows + bias + residual); bias and residual may be NULL. */
static void from_rows(const struct plan_layout *layout, size_t n, const float *rows,
                      const float *bias, const float *residual, bool relu, float *blocked) {
    size_t block = (size_t)layout->block, groups = (size_t)layout->groups;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < n; i++)
        for (size_t g = 0; g < groups; g++) {
            float add[16] = {0};
            for (size_t b = 0; bias && b < block && g * block + b < (size_t)layout->channels; b++)
                add[b] = bias[g * block + b];
            for (size_t s = 0; s < layout->pixels; s++) {
                const float *from = rows + ((s * n + i) * groups + g) * block;
                size_t at = i * layout->image + (g * layout->pixels + s) * block;
#pragma omp simd
                for (size_t b = 0; b < block; b++) {
                    float value = from[b] + add[b] + (residual ? residual[at + b] : 0.0f);
                    blocked[at + b] = relu && value < 0.0f ? 0.0f : value;
                }
            }
        }
}

/* Weights of all taps as plain matrices (taps, inputs, outputs). */
static void unpack_weights(const struct cpu_conv_shape *shape,
                           const struct cpu_tap_strides *strides, const float *weights,
                           float *taps) {
    size_t block = (size_t)strides->block, outputs = plan_layout_channels(&shape->output);
    size_t inputs = plan_layout_channels(&shape->input);
    int count = shape->kernel_h * shape->kernel_w;
#pragma omp parallel for collapse(2) schedule(static)
    for (int t = 0; t < count; t++)
        for (size_t i = 0; i < inputs; i++) {
            const float *from = weights + (size_t)(t / shape->kernel_w) * strides->row +
                                (size_t)(t % shape->kernel_w) * strides->column +
                                i / block * strides->input + i % block * block;
            float *to = taps + ((size_t)t * inputs + i) * outputs;
            for (size_t o = 0; o < outputs; o += block)
                copy_block(block, from + o / block * strides->output, to + o);
        }
}

/* Runs of pixels of one row that a column of taps connects: output columns first..end-1 read input
 * columns from first * stride - pad + kx on. With a stride, each run is one pixel. */
struct run {
    int first, end;
};
static struct run columns_of(const struct cpu_conv_shape *shape, int kx) {
    struct run run = {0, shape->output.width};
    while (run.first < run.end && run.first * shape->stride_w - shape->pad_w + kx < 0)
        run.first++;
    while (run.end > run.first &&
           (run.end - 1) * shape->stride_w - shape->pad_w + kx >= shape->input.width)
        run.end--;
    return run;
}

/* Calls product(work, input row, output row, rows) for every run of tap (ky, kx) between output row
 * oy and input row iy; row numbers count (pixel, image) pairs. */
struct work {
    const struct cpu_conv_shape *shape;
    size_t inputs, outputs;
    const float *a; /* rows of one side */
    float *c;       /* rows of the other, or the gradient of a tap */
    const float *tap;
    size_t first, width; /* a part of the result's columns */
};
typedef void product_function(const struct work *work, size_t in_row, size_t out_row, size_t rows);

static void for_runs(const struct work *work, int kx, int oy, int iy, product_function *product) {
    const struct cpu_conv_shape *shape = work->shape;
    struct run run = columns_of(shape, kx);
    int length = shape->stride_w == 1 ? run.end - run.first : 1;
    for (int ox = run.first; ox < run.end; ox += length) {
        size_t in = (size_t)(iy * shape->input.width + ox * shape->stride_w - shape->pad_w + kx);
        size_t out = (size_t)(oy * shape->output.width + ox);
        product(work, in * shape->n, out * shape->n, (size_t)length * shape->n);
    }
}

static void forward_product(const struct work *w, size_t in, size_t out, size_t rows) {
    dml_gemm(0, 0, rows, w->width, w->inputs, 1.0f, w->a + in * w->inputs, w->inputs,
             w->tap + w->first, w->outputs, 1.0f, w->c + out * w->outputs + w->first, w->outputs);
}

static void data_product(const struct work *w, size_t in, size_t out, size_t rows) {
    dml_gemm(0, 1, rows, w->width, w->outputs, 1.0f, w->a + out * w->outputs, w->outputs,
             w->tap + w->first * w->outputs, w->outputs, 1.0f, w->c + in * w->inputs + w->first,
             w->inputs);
}

static void weights_product(const struct work *w, size_t in, size_t out, size_t rows) {
    dml_gemm(1, 0, w->width, w->outputs, rows, 1.0f, w->a + in * w->inputs + w->first, w->inputs,
             w->tap + out * w->outputs, w->outputs, 1.0f, w->c + w->first * w->outputs, w->outputs);
}

/* Columns of a result that one task computes: enough for an efficient product, few enough for
 * many tasks. */
enum { PART = 256 };
static size_t parts(size_t columns) {
    return (columns + PART - 1) / PART;
}
static void set_part(struct work *work, size_t part, size_t columns) {
    work->first = part * PART;
    work->width = columns - work->first < PART ? columns - work->first : PART;
}

void cpu_per_tap_forward(const struct cpu_conv_shape *shape, const struct cpu_tap_strides *strides,
                         const float *input, const float *weights, const float *bias,
                         const float *residual, float *output, float *scratch) {
    size_t inputs = plan_layout_channels(&shape->input),
           outputs = plan_layout_channels(&shape->output);
    float *in = scratch, *out = in + rows_size(shape, &shape->input);
    float *taps = out + rows_size(shape, &shape->output);
    to_rows(&shape->input, shape->n, input, in);
    unpack_weights(shape, strides, weights, taps);
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int oy = 0; oy < shape->output.height; oy++)
        for (size_t part = 0; part < parts(outputs); part++) {
            struct work work = {shape, inputs, outputs, in, out, NULL, 0, 0};
            set_part(&work, part, outputs);
            size_t row = (size_t)(oy * shape->output.width) * shape->n;
            for (size_t r = 0; r < (size_t)shape->output.width * shape->n; r++)
                memset(out + (row + r) * outputs + work.first, 0, work.width * sizeof *out);
            for (int ky = 0; ky < shape->kernel_h; ky++) {
                int iy = oy * shape->stride_h - shape->pad_h + ky;
                if (iy < 0 || iy >= shape->input.height)
                    continue;
                for (int kx = 0; kx < shape->kernel_w; kx++) {
                    work.tap = taps + (size_t)(ky * shape->kernel_w + kx) * inputs * outputs;
                    for_runs(&work, kx, oy, iy, forward_product);
                }
            }
        }
    if (shape->residual == CPU_RESIDUAL_IN_PLACE)
        residual = output;
    from_rows(&shape->output, shape->n, out, bias, residual, shape->relu, output);
}

void cpu_per_tap_backward_data(const struct cpu_conv_shape *shape,
                               const struct cpu_tap_strides *strides, const float *grad_output,
                               const float *weights, float *grad_input, float *scratch) {
    size_t inputs = plan_layout_channels(&shape->input),
           outputs = plan_layout_channels(&shape->output);
    float *in = scratch, *out = in + rows_size(shape, &shape->input);
    float *taps = out + rows_size(shape, &shape->output);
    to_rows(&shape->output, shape->n, grad_output, out);
    unpack_weights(shape, strides, weights, taps);
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int iy = 0; iy < shape->input.height; iy++)
        for (size_t part = 0; part < parts(inputs); part++) {
            struct work work = {shape, inputs, outputs, out, in, NULL, 0, 0};
            set_part(&work, part, inputs);
            size_t row = (size_t)(iy * shape->input.width) * shape->n;
            for (size_t r = 0; r < (size_t)shape->input.width * shape->n; r++)
                memset(in + (row + r) * inputs + work.first, 0, work.width * sizeof *in);
            for (int ky = 0; ky < shape->kernel_h; ky++) {
                int from = iy + shape->pad_h - ky, oy = from / shape->stride_h;
                if (from < 0 || from % shape->stride_h || oy >= shape->output.height)
                    continue;
                for (int kx = 0; kx < shape->kernel_w; kx++) {
                    work.tap = taps + (size_t)(ky * shape->kernel_w + kx) * inputs * outputs;
                    for_runs(&work, kx, oy, iy, data_product);
                }
            }
        }
    from_rows(&shape->input, shape->n, in, NULL, NULL, false, grad_input);
}

static void bias_gradient(const struct cpu_conv_shape *shape, const float *rows, float *grad_bias) {
    enum { WIDTH = 16 };
    size_t outputs = plan_layout_channels(&shape->output), count = shape->n * shape->output.pixels;
#pragma omp parallel for schedule(static)
    for (size_t first = 0; first < outputs; first += WIDTH) {
        size_t width = outputs - first < WIDTH ? outputs - first : WIDTH;
        double sum[WIDTH] = {0};
        for (size_t r = 0; r < count; r++)
            for (size_t o = 0; o < width; o++)
                sum[o] += rows[r * outputs + first + o];
        for (size_t o = 0; o < width && first + o < (size_t)shape->output.channels; o++)
            grad_bias[first + o] = (float)sum[o];
    }
}

/* Rows first..first+width-1 (inputs) of a tap's matrix to their place in the weights. */
static void pack_tap(const struct work *work, const struct cpu_tap_strides *strides,
                     float *weights) {
    size_t block = (size_t)strides->block;
    for (size_t i = work->first; i < work->first + work->width; i++)
        for (size_t o = 0; o < work->outputs; o += block)
            copy_block(block, work->c + i * work->outputs + o,
                       weights + o / block * strides->output + i / block * strides->input +
                           i % block * block);
}

void cpu_per_tap_backward_weights(const struct cpu_conv_shape *shape,
                                  const struct cpu_tap_strides *strides, const float *input,
                                  const float *grad_output, float *grad_weights, float *grad_bias,
                                  float *scratch) {
    size_t inputs = plan_layout_channels(&shape->input),
           outputs = plan_layout_channels(&shape->output);
    float *in = scratch, *out = in + rows_size(shape, &shape->input);
    float *taps = out + rows_size(shape, &shape->output);
    to_rows(&shape->input, shape->n, input, in);
    to_rows(&shape->output, shape->n, grad_output, out);
#pragma omp parallel for collapse(3) schedule(dynamic)
    for (int ky = 0; ky < shape->kernel_h; ky++)
        for (int kx = 0; kx < shape->kernel_w; kx++)
            for (size_t part = 0; part < parts(inputs); part++) {
                float *tap = taps + (size_t)(ky * shape->kernel_w + kx) * inputs * outputs;
                struct work work = {shape, inputs, outputs, in, tap, out, 0, 0};
                set_part(&work, part, inputs);
                memset(tap + work.first * outputs, 0, work.width * outputs * sizeof *tap);
                for (int oy = 0; oy < shape->output.height; oy++) {
                    int iy = oy * shape->stride_h - shape->pad_h + ky;
                    if (iy >= 0 && iy < shape->input.height)
                        for_runs(&work, kx, oy, iy, weights_product);
                }
                pack_tap(&work, strides,
                         grad_weights + (size_t)ky * strides->row + (size_t)kx * strides->column);
            }
    if (shape->bias)
        bias_gradient(shape, out, grad_bias);
}
