#include "backends/cpu/convolution.h"

#include "backends/cpu/conv_weights.h"
#include "backends/cpu/native.h"
#include "backends/cpu/through_float32.h"
#include "base/memory.h"

#include <stdlib.h>

struct cpu_conv {
    const struct cpu_weights *weights;
    struct cpu_native *native; /* NULL: `widened` computes everything */
    struct cpu_through_float32
        widened; /* for bfloat16 tensors: everything, the weight gradient, or nothing */
};

enum dml_status cpu_conv_create(struct cpu_engine *engine, const struct cpu_conv_shape *shape,
                                const struct cpu_weights *weights, struct cpu_conv **out) {
    struct cpu_conv *conv = *out = dml_alloc(1, sizeof *conv);
    if (!conv)
        return DML_ERROR_MEMORY;
    conv->weights = weights;
    if (shape->input.element == PLAN_BFLOAT16 && cpu_engine_bf16() == CPU_BF16_EMULATED)
        return cpu_through_float32_create(engine, shape, weights, &conv->widened);
    enum dml_status status = cpu_native_create(engine, shape, weights, &conv->native);
    if (!status && cpu_native_lacks_gradient(conv->native))
        status = cpu_through_float32_create(engine, shape, weights, &conv->widened);
    return status;
}

void cpu_conv_destroy(struct cpu_conv *conv) {
    if (!conv)
        return;
    cpu_native_destroy(conv->native);
    cpu_through_float32_destroy(&conv->widened);
    free(conv);
}

/* Whether the weight gradient is computed by `widened`. */
static bool gradient_through_float32(const struct cpu_conv *conv) {
    return !conv->native || cpu_native_lacks_gradient(conv->native);
}

size_t cpu_conv_forward_scratch(const struct cpu_conv *conv) {
    return conv->native ? cpu_native_forward_scratch(conv->native)
                        : cpu_through_float32_forward_scratch(&conv->widened);
}

size_t cpu_conv_data_scratch(const struct cpu_conv *conv) {
    return conv->native ? cpu_native_data_scratch(conv->native)
                        : cpu_through_float32_data_scratch(&conv->widened);
}

size_t cpu_conv_weights_scratch(const struct cpu_conv *conv) {
    return gradient_through_float32(conv) ? cpu_through_float32_weights_scratch(&conv->widened)
                                          : cpu_native_weights_scratch(conv->native);
}

enum dml_status cpu_conv_forward(struct cpu_conv *conv, const void *input, const void *weights,
                                 const float *bias, const void *residual, void *output,
                                 void *scratch) {
    return conv->native
               ? cpu_native_forward(conv->native, input, weights, bias, residual, output, scratch)
               : cpu_through_float32_forward(&conv->widened, input, weights, bias, residual, output,
                                             scratch);
}

enum dml_status cpu_conv_backward_data(struct cpu_conv *conv, const void *grad_output,
                                       const void *weights, void *grad_input, void *scratch) {
    return conv->native
               ? cpu_native_backward_data(conv->native, grad_output, weights, grad_input, scratch)
               : cpu_through_float32_backward_data(&conv->widened, grad_output, weights, grad_input,
                                                   scratch);
}

enum dml_status cpu_conv_backward_weights(struct cpu_conv *conv, const void *input,
                                          const void *grad_output, float *grad_weights,
                                          float *grad_bias, void *scratch) {
    enum dml_status status =
        gradient_through_float32(conv)
            ? cpu_through_float32_backward_weights(&conv->widened, input, grad_output, grad_weights,
                                                   grad_bias, scratch)
            : cpu_native_backward_weights(conv->native, input, grad_output, grad_weights, grad_bias,
                                          scratch);
    const struct cpu_weights *weights = conv->weights;
    for (size_t i = 0; !status && weights->own && i < weights->count; i++)
        grad_weights[i] = weights->own[i] != 0.0f ? grad_weights[i] : 0.0f;
    return status;
}
