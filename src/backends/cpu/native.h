#ifndef DML_CPU_NATIVE_H
#define DML_CPU_NATIVE_H

#include "backends/cpu/convolution.h"

/* Convolutions computed in the type of their tensors: by oneDNN or, for float32, by
 * per_tap_gemm.h. */
struct cpu_native;
enum dml_status cpu_native_create(struct cpu_engine *engine, const struct cpu_conv_shape *shape,
                                  const struct cpu_weights *weights, struct cpu_native **out);
void cpu_native_destroy(struct cpu_native *conv);

/* Whether oneDNN has no fast bfloat16 primitive for the weight gradients of this shape: then
 * cpu_native_backward_weights must not be called. */
bool cpu_native_lacks_gradient(const struct cpu_native *conv);

/* Like the functions of convolution.h; here, what groups.h adds to weights has a gradient. */
size_t cpu_native_forward_scratch(const struct cpu_native *conv);
size_t cpu_native_data_scratch(const struct cpu_native *conv);
size_t cpu_native_weights_scratch(const struct cpu_native *conv);
enum dml_status cpu_native_forward(struct cpu_native *conv, const void *input, const void *weights,
                                   const float *bias, const void *residual, void *output,
                                   void *scratch);
enum dml_status cpu_native_backward_data(struct cpu_native *conv, const void *grad_output,
                                         const void *weights, void *grad_input, void *scratch);
enum dml_status cpu_native_backward_weights(struct cpu_native *conv, const void *input,
                                            const void *grad_output, float *grad_weights,
                                            float *grad_bias, void *scratch);

#endif
