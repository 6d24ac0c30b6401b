#ifndef DML_CPU_THROUGH_FLOAT32_H
#define DML_CPU_THROUGH_FLOAT32_H

#include "backends/cpu/native.h"

#include <stdint.h>

/* A convolution of bfloat16 tensors, computed by one of float32: its inputs are widened into
 * scratch memory, and its results are rounded. For tests where the processor has no bfloat16
 * (DML_BF16=emulate), and for the weight gradients of shapes that oneDNN has no fast primitive
 * for. */
struct cpu_through_float32 {
    struct cpu_native *conv; /* NULL: none */
    struct cpu_conv_shape shape;
    size_t weights; /* elements of the narrow copy, in the layout of the float32 ones */
};

enum dml_status cpu_through_float32_create(struct cpu_engine *engine,
                                           const struct cpu_conv_shape *shape,
                                           const struct cpu_weights *weights,
                                           struct cpu_through_float32 *out);
void cpu_through_float32_destroy(struct cpu_through_float32 *widened);

/* Like the functions of convolution.h. */
size_t cpu_through_float32_forward_scratch(const struct cpu_through_float32 *widened);
size_t cpu_through_float32_data_scratch(const struct cpu_through_float32 *widened);
size_t cpu_through_float32_weights_scratch(const struct cpu_through_float32 *widened);
enum dml_status cpu_through_float32_forward(const struct cpu_through_float32 *widened,
                                            const uint16_t *input, const uint16_t *weights,
                                            const float *bias, const uint16_t *residual,
                                            uint16_t *output, void *scratch);
enum dml_status cpu_through_float32_backward_data(const struct cpu_through_float32 *widened,
                                                  const uint16_t *grad_output,
                                                  const uint16_t *weights, uint16_t *grad_input,
                                                  void *scratch);
enum dml_status cpu_through_float32_backward_weights(const struct cpu_through_float32 *widened,
                                                     const uint16_t *input,
                                                     const uint16_t *grad_output,
                                                     float *grad_weights, float *grad_bias,
                                                     void *scratch);

#endif
