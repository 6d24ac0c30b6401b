#ifndef DML_CPU_TAPS_H
#define DML_CPU_TAPS_H

#include "backends/cpu/convolution.h"

/* Gradients of convolutions on images of a few pixels (the last stages of a network on small
 * images), where oneDNN has no fast implementation: for each tap (ky, kx) of the kernel a matrix
 * product over the pixels that the tap connects, which skips all padding. */

/* Where weight (o, i, ky, kx) lies: o / block * output + i / block * input + ky * row + kx * column
 * + (i % block) * block + o % block. */
struct cpu_tap_strides {
    int block;
    size_t output, input, row, column;
};

size_t cpu_taps_scratch(const struct cpu_conv_shape *shape); /* bytes */

/* Input, grad_output and strides have one block size. `grad_bias` is written where shape.bias. */
void cpu_taps_backward_weights(const struct cpu_conv_shape *shape,
                               const struct cpu_tap_strides *strides, const float *input,
                               const float *grad_output, float *grad_weights, float *grad_bias,
                               float *scratch);

#endif
