#ifndef DML_CPU_PER_TAP_GEMM_H
#define DML_CPU_PER_TAP_GEMM_H

#include "backends/cpu/convolution.h"

/* Convolutions on images of a few pixels: the last stages of a network, or all of it where images
 * are small. For each tap (ky, kx) of the kernel and each row of the output there is one matrix
 * product, (images x pixels, inputs) by (inputs, outputs), over exactly the pixels that the tap
 * connects. Direct convolution is inefficient there: its inner loop runs over pixels of a row, of
 * which there are few, and a large part of the taps falls on padding. */

/* Whether this is the faster way for a shape (floats, blocked layouts on both sides). */
bool cpu_per_tap_preferred(const struct cpu_conv_shape *shape);

/* Where weight (o, i, ky, kx) lies: o / block * output + i / block * input + ky * row + kx * column
 * + (i % block) * block + o % block. */
struct cpu_tap_strides {
    int block;
    size_t output, input, row, column;
};

size_t cpu_per_tap_scratch(const struct cpu_conv_shape *shape); /* bytes, for each of the three */

/* Like the functions of convolution.h. Input, output and weights have one block size. */
void cpu_per_tap_forward(const struct cpu_conv_shape *shape, const struct cpu_tap_strides *strides,
                         const float *input, const float *weights, const float *bias,
                         const float *residual, float *output, float *scratch);
void cpu_per_tap_backward_data(const struct cpu_conv_shape *shape,
                               const struct cpu_tap_strides *strides, const float *grad_output,
                               const float *weights, float *grad_input, float *scratch);
void cpu_per_tap_backward_weights(const struct cpu_conv_shape *shape,
                                  const struct cpu_tap_strides *strides, const float *input,
                                  const float *grad_output, float *grad_weights, float *grad_bias,
                                  float *scratch);

#endif
