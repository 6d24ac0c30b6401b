#ifndef DML_CPU_CONVOLUTION_H
#define DML_CPU_CONVOLUTION_H

#include "dml/error.h"
#include "plan/layout.h"

#include <stdbool.h>

/* Convolutions on oneDNN, whose types this header hides. conv_weights.c keeps weights, native.c
 * computes in the type of the tensors, through_float32.c computes bfloat16 through float32, and
 * convolution.c chooses between the last two. */

struct cpu_engine; /* oneDNN's engine and stream */
enum dml_status cpu_engine_create(struct cpu_engine **out);
void cpu_engine_destroy(struct cpu_engine *engine);

/* Channels per group that this processor's convolutions want: 16 with AVX-512, else 8. */
int cpu_engine_block(void);

/* How bfloat16 convolutions are computed: not at all where the processor has no instructions that
 * multiply it faster than float32 (AVX-512 BF16 or AMX). There the environment variable
 * DML_BF16=emulate has them computed by float32 convolutions between widening and rounding: the
 * same numbers, slowly, for tests of everything around them. */
enum cpu_bf16 { CPU_BF16_NONE, CPU_BF16_NATIVE, CPU_BF16_EMULATED };
enum cpu_bf16 cpu_engine_bf16(void);

/* Whether it multiplies bfloat16 by AMX. */
bool cpu_engine_tiles(void);

enum cpu_residual {
    CPU_RESIDUAL_NONE,
    CPU_RESIDUAL_IN_PLACE, /* added to what `output` holds already */
    CPU_RESIDUAL_SEPARATE, /* another tensor of the output's layout */
};

struct cpu_conv_shape {
    size_t n;
    struct plan_layout input, output;
    int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
    int groups;      /* 0 or 1: none */
    bool bias, relu; /* output = relu(conv + bias + residual) */
    enum cpu_residual residual;
    bool training;       /* the two backward functions will be called */
    bool input_gradient; /* backward_data will be called */
};

/* The same shape for float32 tensors. */
static inline struct cpu_conv_shape cpu_conv_float32(const struct cpu_conv_shape *shape) {
    struct cpu_conv_shape wide = *shape;
    wide.input.element = wide.output.element = PLAN_FLOAT32;
    return wide;
}

/* The layout in which a convolution's weights and their gradients and moments are kept, in float32:
 * outputs in blocks, so that element i belongs to output (i / (inner * block)) * block + i % block.
 * A bfloat16 convolution reads a copy in a layout of its own. What groups.h adds to weights, and
 * to their gradients, is 0. */
struct cpu_weights;
enum dml_status cpu_weights_create(struct cpu_engine *engine, const struct cpu_conv_shape *shape,
                                   struct cpu_weights **out);
void cpu_weights_destroy(struct cpu_weights *weights);
size_t cpu_weights_count(const struct cpu_weights *weights); /* floats, with padding (zeros) */
enum { CPU_MOST_WEIGHT_BLOCK = 64 };
int cpu_weights_block(const struct cpu_weights *weights); /* at most that */
size_t cpu_weights_inner(const struct cpu_weights *weights);
/* Between that layout and PyTorch's (out, in / groups, kh, kw). */
enum dml_status cpu_weights_from_plain(const struct cpu_weights *weights, const float *plain,
                                       float *values);
enum dml_status cpu_weights_to_plain(const struct cpu_weights *weights, const float *values,
                                     float *plain);
/* Bytes of the copy that bfloat16 convolutions read, 0 for those in float32; and the function that
 * makes it. */
size_t cpu_weights_narrow_bytes(const struct cpu_weights *weights);
enum dml_status cpu_weights_narrow(struct cpu_weights *weights, const float *values, void *copy);

/* A convolution of one shape. `weights` must outlive it. Input, output and their gradients have the
 * shape's element type; `weights` is the narrow copy where that is bfloat16. */
struct cpu_conv;
enum dml_status cpu_conv_create(struct cpu_engine *engine, const struct cpu_conv_shape *shape,
                                const struct cpu_weights *weights, struct cpu_conv **out);
void cpu_conv_destroy(struct cpu_conv *conv);

/* Bytes of scratch memory, aligned to 64, that each function needs. */
size_t cpu_conv_forward_scratch(const struct cpu_conv *conv);
size_t cpu_conv_data_scratch(const struct cpu_conv *conv);
size_t cpu_conv_weights_scratch(const struct cpu_conv *conv);

enum dml_status cpu_conv_forward(struct cpu_conv *conv, const void *input, const void *weights,
                                 const float *bias, const void *residual, void *output,
                                 void *scratch);
enum dml_status cpu_conv_backward_data(struct cpu_conv *conv, const void *grad_output,
                                       const void *weights, void *grad_input, void *scratch);
/* `grad_bias` (output channels, rounded up to whole groups) may be NULL where shape.bias is
 * false. */
enum dml_status cpu_conv_backward_weights(struct cpu_conv *conv, const void *input,
                                          const void *grad_output, float *grad_weights,
                                          float *grad_bias, void *scratch);

#endif
