#include "backends/cpu/through_float32.h"

#include "backends/cpu/align.h"
#include "backends/cpu/narrow.h"

enum dml_status cpu_through_float32_create(struct cpu_engine *engine,
                                           const struct cpu_conv_shape *shape,
                                           const struct cpu_weights *weights,
                                           struct cpu_through_float32 *out) {
    *out = (struct cpu_through_float32){.shape = cpu_conv_float32(shape),
                                        .weights = cpu_weights_count(weights)};
    return cpu_native_create(engine, &out->shape, weights, &out->conv);
}

void cpu_through_float32_destroy(struct cpu_through_float32 *widened) {
    cpu_native_destroy(widened->conv);
}

static size_t inputs(const struct cpu_through_float32 *widened) {
    return widened->shape.n * widened->shape.input.image;
}
static size_t outputs(const struct cpu_through_float32 *widened) {
    return widened->shape.n * widened->shape.output.image;
}

size_t cpu_through_float32_forward_scratch(const struct cpu_through_float32 *widened) {
    size_t residual = widened->shape.residual == CPU_RESIDUAL_SEPARATE ? outputs(widened) : 0;
    size_t floats = cpu_aligned_floats(inputs(widened)) + cpu_aligned_floats(widened->weights) +
                    cpu_aligned_floats(outputs(widened)) + cpu_aligned_floats(residual);
    return floats * sizeof(float) + cpu_native_forward_scratch(widened->conv);
}

size_t cpu_through_float32_data_scratch(const struct cpu_through_float32 *widened) {
    size_t floats = cpu_aligned_floats(inputs(widened)) + cpu_aligned_floats(widened->weights) +
                    cpu_aligned_floats(outputs(widened));
    return floats * sizeof(float) + cpu_native_data_scratch(widened->conv);
}

size_t cpu_through_float32_weights_scratch(const struct cpu_through_float32 *widened) {
    return (cpu_aligned_floats(inputs(widened)) + cpu_aligned_floats(outputs(widened))) *
               sizeof(float) +
           cpu_native_weights_scratch(widened->conv);
}

enum dml_status cpu_through_float32_forward(const struct cpu_through_float32 *widened,
                                            const uint16_t *input, const uint16_t *weights,
                                            const float *bias, const uint16_t *residual,
                                            uint16_t *output, void *scratch) {
    float *in = scratch, *w = in + cpu_aligned_floats(inputs(widened)),
          *out = w + cpu_aligned_floats(widened->weights);
    float *rest = out + cpu_aligned_floats(outputs(widened)), *other = NULL;
    cpu_widen(input, inputs(widened), in);
    cpu_widen(weights, widened->weights, w);
    if (widened->shape.residual == CPU_RESIDUAL_IN_PLACE)
        cpu_widen(output, outputs(widened), out);
    if (widened->shape.residual == CPU_RESIDUAL_SEPARATE) {
        other = rest;
        rest += cpu_aligned_floats(outputs(widened));
        cpu_widen(residual, outputs(widened), other);
    }
    enum dml_status status = cpu_native_forward(widened->conv, in, w, bias, other, out, rest);
    if (!status)
        cpu_narrow(out, outputs(widened), output);
    return status;
}

enum dml_status cpu_through_float32_backward_data(const struct cpu_through_float32 *widened,
                                                  const uint16_t *grad_output,
                                                  const uint16_t *weights, uint16_t *grad_input,
                                                  void *scratch) {
    float *in = scratch, *w = in + cpu_aligned_floats(inputs(widened)),
          *out = w + cpu_aligned_floats(widened->weights);
    cpu_widen(grad_output, outputs(widened), out);
    cpu_widen(weights, widened->weights, w);
    enum dml_status status = cpu_native_backward_data(widened->conv, out, w, in,
                                                      out + cpu_aligned_floats(outputs(widened)));
    if (!status)
        cpu_narrow(in, inputs(widened), grad_input);
    return status;
}

enum dml_status cpu_through_float32_backward_weights(const struct cpu_through_float32 *widened,
                                                     const uint16_t *input,
                                                     const uint16_t *grad_output,
                                                     float *grad_weights, float *grad_bias,
                                                     void *scratch) {
    float *in = scratch, *out = in + cpu_aligned_floats(inputs(widened));
    cpu_widen(input, inputs(widened), in);
    cpu_widen(grad_output, outputs(widened), out);
    return cpu_native_backward_weights(widened->conv, in, out, grad_weights, grad_bias,
                                       out + cpu_aligned_floats(outputs(widened)));
}
