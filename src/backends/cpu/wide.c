#include "backends/cpu/wide.h"

#include "backends/cpu/align.h"
#include "backends/cpu/narrow.h"

enum dml_status cpu_wide_create(struct cpu_engine *engine, const struct cpu_conv_shape *shape,
                                const struct cpu_weights *weights, struct cpu_wide *out) {
    *out =
        (struct cpu_wide){.shape = cpu_conv_float32(shape), .weights = cpu_weights_count(weights)};
    return cpu_native_create(engine, &out->shape, weights, &out->conv);
}

void cpu_wide_destroy(struct cpu_wide *wide) {
    cpu_native_destroy(wide->conv);
}

static size_t inputs(const struct cpu_wide *wide) {
    return wide->shape.n * wide->shape.input.image;
}
static size_t outputs(const struct cpu_wide *wide) {
    return wide->shape.n * wide->shape.output.image;
}

size_t cpu_wide_forward_scratch(const struct cpu_wide *wide) {
    size_t residual = wide->shape.residual == CPU_RESIDUAL_SEPARATE ? outputs(wide) : 0;
    size_t floats = cpu_aligned_floats(inputs(wide)) + cpu_aligned_floats(wide->weights) +
                    cpu_aligned_floats(outputs(wide)) + cpu_aligned_floats(residual);
    return floats * sizeof(float) + cpu_native_forward_scratch(wide->conv);
}

size_t cpu_wide_data_scratch(const struct cpu_wide *wide) {
    size_t floats = cpu_aligned_floats(inputs(wide)) + cpu_aligned_floats(wide->weights) +
                    cpu_aligned_floats(outputs(wide));
    return floats * sizeof(float) + cpu_native_data_scratch(wide->conv);
}

size_t cpu_wide_weights_scratch(const struct cpu_wide *wide) {
    return (cpu_aligned_floats(inputs(wide)) + cpu_aligned_floats(outputs(wide))) * sizeof(float) +
           cpu_native_weights_scratch(wide->conv);
}

enum dml_status cpu_wide_forward(const struct cpu_wide *wide, const uint16_t *input,
                                 const uint16_t *weights, const float *bias,
                                 const uint16_t *residual, uint16_t *output, void *scratch) {
    float *in = scratch, *w = in + cpu_aligned_floats(inputs(wide)),
          *out = w + cpu_aligned_floats(wide->weights);
    float *rest = out + cpu_aligned_floats(outputs(wide)), *other = NULL;
    cpu_widen(input, inputs(wide), in);
    cpu_widen(weights, wide->weights, w);
    if (wide->shape.residual == CPU_RESIDUAL_IN_PLACE)
        cpu_widen(output, outputs(wide), out);
    if (wide->shape.residual == CPU_RESIDUAL_SEPARATE) {
        other = rest;
        rest += cpu_aligned_floats(outputs(wide));
        cpu_widen(residual, outputs(wide), other);
    }
    enum dml_status status = cpu_native_forward(wide->conv, in, w, bias, other, out, rest);
    if (status == DML_OK)
        cpu_narrow(out, outputs(wide), output);
    return status;
}

enum dml_status cpu_wide_backward_data(const struct cpu_wide *wide, const uint16_t *grad_output,
                                       const uint16_t *weights, uint16_t *grad_input,
                                       void *scratch) {
    float *in = scratch, *w = in + cpu_aligned_floats(inputs(wide)),
          *out = w + cpu_aligned_floats(wide->weights);
    cpu_widen(grad_output, outputs(wide), out);
    cpu_widen(weights, wide->weights, w);
    enum dml_status status =
        cpu_native_backward_data(wide->conv, out, w, in, out + cpu_aligned_floats(outputs(wide)));
    if (status == DML_OK)
        cpu_narrow(in, inputs(wide), grad_input);
    return status;
}

enum dml_status cpu_wide_backward_weights(const struct cpu_wide *wide, const uint16_t *input,
                                          const uint16_t *grad_output, float *grad_weights,
                                          float *grad_bias, void *scratch) {
    float *in = scratch, *out = in + cpu_aligned_floats(inputs(wide));
    cpu_widen(input, inputs(wide), in);
    cpu_widen(grad_output, outputs(wide), out);
    return cpu_native_backward_weights(wide->conv, in, out, grad_weights, grad_bias,
                                       out + cpu_aligned_floats(outputs(wide)));
}
