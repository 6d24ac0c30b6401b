#include "backends/cpu/taps.h"

#include "math/linear.h"

#include <string.h>

static size_t padded(const struct cpu_layout *layout) {
    return (size_t)layout->groups * (size_t)layout->block;
}

/* Gathered inputs (pixels, inputs), gathered gradients (pixels, outputs), product (inputs,
 * outputs). */
size_t cpu_taps_scratch(const struct cpu_conv_shape *shape) {
    size_t rows = shape->n * shape->output.pixels;
    size_t inputs = padded(&shape->input), outputs = padded(&shape->output);
    return (rows * (inputs + outputs) + inputs * outputs) * sizeof(float);
}

/* Copies all channels of one pixel to a plain row. */
static void gather_pixel(const struct cpu_layout *layout, const float *image, size_t pixel,
                         float *row) {
    size_t block = (size_t)layout->block;
    for (size_t g = 0; g < (size_t)layout->groups; g++)
        memcpy(row + g * block, image + (g * layout->pixels + pixel) * block, block * sizeof *row);
}

/* The pixels that tap (ky, kx) connects, of all images; returns how many rows there are. */
static size_t gather(const struct cpu_conv_shape *shape, int ky, int kx, const float *input,
                     const float *grad_output, float *inputs, float *outputs) {
    const struct cpu_layout *in = &shape->input, *out = &shape->output;
    size_t rows = 0;
    for (size_t n = 0; n < shape->n; n++)
        for (int oy = 0; oy < out->height; oy++)
            for (int ox = 0; ox < out->width; ox++) {
                int iy = oy * shape->stride_h - shape->pad_h + ky;
                int ix = ox * shape->stride_w - shape->pad_w + kx;
                if (iy < 0 || iy >= in->height || ix < 0 || ix >= in->width)
                    continue;
                gather_pixel(in, input + n * in->image, (size_t)(iy * in->width + ix),
                             inputs + rows * padded(in));
                gather_pixel(out, grad_output + n * out->image, (size_t)(oy * out->width + ox),
                             outputs + rows * padded(out));
                rows++;
            }
    return rows;
}

/* product (inputs, outputs) to the weights of one tap. */
static void scatter_tap(const struct cpu_conv_shape *shape, const struct cpu_tap_strides *strides,
                        const float *product, float *weights) {
    size_t block = (size_t)strides->block, outputs = padded(&shape->output);
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < padded(&shape->input); i++)
        for (size_t o = 0; o < outputs; o += block)
            memcpy(weights + o / block * strides->output + i / block * strides->input +
                       i % block * block,
                   product + i * outputs + o, block * sizeof *weights);
}

static void bias_gradient(const struct cpu_conv_shape *shape, const float *grad_output,
                          float *grad_bias) {
    const struct cpu_layout *out = &shape->output;
    size_t block = (size_t)out->block;
    for (size_t c = 0; c < (size_t)out->channels; c++) {
        double sum = 0;
        for (size_t n = 0; n < shape->n; n++)
            for (size_t s = 0; s < out->pixels; s++)
                sum +=
                    grad_output[n * out->image + (c / block * out->pixels + s) * block + c % block];
        grad_bias[c] = (float)sum;
    }
}

void cpu_taps_backward_weights(const struct cpu_conv_shape *shape,
                               const struct cpu_tap_strides *strides, const float *input,
                               const float *grad_output, float *grad_weights, float *grad_bias,
                               float *scratch) {
    size_t inputs = padded(&shape->input), outputs = padded(&shape->output);
    float *rows_in = scratch, *rows_out = rows_in + shape->n * shape->output.pixels * inputs;
    float *product = rows_out + shape->n * shape->output.pixels * outputs;
    for (int ky = 0; ky < shape->kernel_h; ky++)
        for (int kx = 0; kx < shape->kernel_w; kx++) {
            size_t rows = gather(shape, ky, kx, input, grad_output, rows_in, rows_out);
            if (rows)
                dml_gemm(1, 0, inputs, outputs, rows, 1.0f, rows_in, inputs, rows_out, outputs,
                         0.0f, product, outputs);
            else
                memset(product, 0, inputs * outputs * sizeof *product);
            scatter_tap(shape, strides, product,
                        grad_weights + (size_t)ky * strides->row + (size_t)kx * strides->column);
        }
    if (shape->bias)
        bias_gradient(shape, grad_output, grad_bias);
}
