#include "backends/cpu/native.h"

#include "backends/cpu/align.h"
#include "backends/cpu/conv_weights.h"
#include "backends/cpu/description.h"
#include "backends/cpu/per_tap_gemm.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

struct cpu_native {
    struct cpu_engine *engine;
    struct cpu_conv_shape shape;
    const struct cpu_weights *weights;
    struct cpu_operation forward, data, gradient;
    /* Where a backward function wants the weights in a layout other than the kept one: */
    struct cpu_operation data_reorder, gradient_reorder;
    size_t data_weights, gradient_weights; /* bytes of the copy, 0 without one */
    /* Computed by per_tap_gemm.h instead: all of it, or the weight gradient alone where oneDNN has
     * no fast one. */
    bool per_tap, gradient_per_tap;
    struct cpu_tap_strides tap_strides;
    bool lacks_gradient; /* for bfloat16 */
    /* Bytes of a separate residual that is copied to the output and added there, 0 where oneDNN
     * adds it where it is. */
    size_t copied_residual;
};

static cpu_const_md read_layout(const struct cpu_native *conv) {
    return cpu_weights_read_layout(conv->weights, &conv->shape);
}

static enum dml_status create_data(struct cpu_native *conv, const struct cpu_description *d,
                                   const_dnnl_primitive_desc_t forward) {
    dnnl_primitive_desc_t pd;
    TRY(cpu_describe_backward(conv->engine, &conv->shape, true, forward, &pd));
    cpu_const_md md = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    enum dml_status status =
        cpu_operation_create(&conv->data, conv->engine, pd,
                             (int[]){DNNL_ARG_DIFF_DST, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_SRC, 0},
                             (cpu_const_md[]){d->target, md, d->source});
    if (!status && !dnnl_memory_desc_equal(md, read_layout(conv))) {
        conv->data_weights = cpu_aligned_bytes(dnnl_memory_desc_get_size(md));
        status = cpu_operation_reorder(&conv->data_reorder, conv->engine, read_layout(conv), md);
    }
    dnnl_primitive_desc_destroy(pd);
    return status;
}

/* Whether the implementation is oneDNN's unoptimised one. */
static bool is_reference(const_dnnl_primitive_desc_t pd) {
    const char *name = "";
    dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name);
    return !strncmp(name, "ref", 3);
}

/* Strides of the kept weights where they are in (input, output) blocks as cpu_per_tap_* walks them.
 */
static bool tap_strides(cpu_const_md md, struct cpu_tap_strides *out) {
    struct cpu_md_blocks b;
    if (!cpu_md_blocks(md, &b) || b.count != 2 || b.axes[0] != 1 || b.axes[1] != 0 ||
        b.sizes[0] != b.sizes[1])
        return false;
    *out = (struct cpu_tap_strides){.block = (int)b.sizes[0],
                                    .output = (size_t)b.strides[0],
                                    .input = (size_t)b.strides[1],
                                    .row = (size_t)b.strides[2],
                                    .column = (size_t)b.strides[3]};
    return true;
}

/* Whether per_tap_gemm.h can compute the convolution; then its strides are set. */
static bool per_tap_possible(struct cpu_native *conv) {
    return tap_strides(conv->weights->md, &conv->tap_strides) &&
           conv->tap_strides.block == conv->shape.input.block &&
           conv->tap_strides.block == conv->shape.output.block;
}

static enum dml_status create_gradient(struct cpu_native *conv, const struct cpu_description *d,
                                       const_dnnl_primitive_desc_t forward) {
    dnnl_primitive_desc_t pd;
    TRY(cpu_describe_backward(conv->engine, &conv->shape, false, forward, &pd));
    cpu_const_md md = dnnl_primitive_desc_query_md(pd, dnnl_query_diff_weights_md, 0);
    bool narrow = conv->shape.input.element == PLAN_BFLOAT16;
    conv->lacks_gradient = is_reference(pd) && narrow;
    conv->gradient_per_tap = is_reference(pd) && !narrow && per_tap_possible(conv);
    enum dml_status status = DML_OK;
    if (!conv->lacks_gradient && !conv->gradient_per_tap)
        status =
            cpu_operation_create(&conv->gradient, conv->engine, pd,
                                 (int[]){DNNL_ARG_SRC, DNNL_ARG_DIFF_DST, DNNL_ARG_DIFF_WEIGHTS,
                                         conv->shape.bias ? DNNL_ARG_DIFF_BIAS : 0, 0},
                                 (cpu_const_md[]){d->source, d->target, md, d->bias});
    if (!status && conv->gradient.primitive && !dnnl_memory_desc_equal(md, conv->weights->md)) {
        conv->gradient_weights = cpu_aligned_bytes(dnnl_memory_desc_get_size(md));
        status =
            cpu_operation_reorder(&conv->gradient_reorder, conv->engine, md, conv->weights->md);
    }
    dnnl_primitive_desc_destroy(pd);
    return status;
}

static enum dml_status create_described(struct cpu_native *conv, const struct cpu_description *d) {
    dnnl_primitive_desc_t pd;
    TRY(cpu_describe_forward(conv->engine, &conv->shape, d, &pd));
    /* Bias and residual are both optional, in this order. */
    int arguments[6] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST};
    cpu_const_md mds[6] = {d->source, read_layout(conv), d->target};
    int count = 3;
    if (conv->shape.bias) {
        mds[count] = d->bias;
        arguments[count++] = DNNL_ARG_BIAS;
    }
    if (conv->shape.residual == CPU_RESIDUAL_SEPARATE) {
        mds[count] = d->target;
        arguments[count++] = DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1;
    }
    enum dml_status status = cpu_operation_create(&conv->forward, conv->engine, pd, arguments, mds);
    if (!status && conv->shape.training)
        status = create_gradient(conv, d, pd);
    if (!status && conv->shape.input_gradient)
        status = create_data(conv, d, pd);
    dnnl_primitive_desc_destroy(pd);
    return status;
}

static enum dml_status create_all(struct cpu_native *conv) {
    struct cpu_description d = {0};
    enum dml_status status =
        cpu_describe(&conv->shape, read_layout(conv), cpu_data_type(conv->shape.input.element), &d);
    if (!status && conv->shape.residual == CPU_RESIDUAL_SEPARATE && cpu_additions_are_wrong()) {
        conv->shape.residual = CPU_RESIDUAL_IN_PLACE;
        conv->copied_residual = dnnl_memory_desc_get_size(d.target);
    }
    if (!status)
        status = create_described(conv, &d);
    cpu_undescribe(&d);
    return status;
}

enum dml_status cpu_native_create(struct cpu_engine *engine, const struct cpu_conv_shape *shape,
                                  const struct cpu_weights *weights, struct cpu_native **out) {
    struct cpu_native *conv = *out = dml_alloc(1, sizeof *conv);
    if (!conv)
        return DML_ERROR_MEMORY;
    conv->engine = engine;
    conv->shape = *shape;
    conv->weights = weights;
    conv->per_tap = shape->input.element == PLAN_FLOAT32 && cpu_per_tap_preferred(shape) &&
                    per_tap_possible(conv);
    conv->gradient_per_tap = conv->per_tap;
    return conv->per_tap ? DML_OK : create_all(conv);
}

void cpu_native_destroy(struct cpu_native *conv) {
    if (!conv)
        return;
    cpu_operation_destroy(&conv->forward);
    cpu_operation_destroy(&conv->data);
    cpu_operation_destroy(&conv->gradient);
    cpu_operation_destroy(&conv->data_reorder);
    cpu_operation_destroy(&conv->gradient_reorder);
    free(conv);
}

bool cpu_native_lacks_gradient(const struct cpu_native *conv) {
    return conv->lacks_gradient;
}

size_t cpu_native_forward_scratch(const struct cpu_native *conv) {
    return conv->per_tap ? cpu_per_tap_scratch(&conv->shape) : conv->forward.scratch;
}

size_t cpu_native_data_scratch(const struct cpu_native *conv) {
    return conv->per_tap ? cpu_per_tap_scratch(&conv->shape)
                         : conv->data_weights + conv->data.scratch;
}

size_t cpu_native_weights_scratch(const struct cpu_native *conv) {
    return conv->gradient_per_tap ? cpu_per_tap_scratch(&conv->shape)
                                  : conv->gradient_weights + conv->gradient.scratch;
}

enum dml_status cpu_native_forward(struct cpu_native *conv, const void *input, const void *weights,
                                   const float *bias, const void *residual, void *output,
                                   void *scratch) {
    if (conv->per_tap) {
        cpu_per_tap_forward(&conv->shape, &conv->tap_strides, input, weights, bias, residual,
                            output, scratch);
        return DML_OK;
    }
    if (conv->copied_residual)
        memcpy(output, residual, conv->copied_residual);
    const void *handles[CPU_MOST_ARGUMENTS] = {input, weights, output};
    int count = 3;
    if (conv->shape.bias)
        handles[count++] = bias;
    if (conv->shape.residual == CPU_RESIDUAL_SEPARATE)
        handles[count++] = residual;
    return cpu_operation_run(conv->engine, &conv->forward, handles, scratch);
}

enum dml_status cpu_native_backward_data(struct cpu_native *conv, const void *grad_output,
                                         const void *weights, void *grad_input, void *scratch) {
    if (conv->per_tap) {
        cpu_per_tap_backward_data(&conv->shape, &conv->tap_strides, grad_output, weights,
                                  grad_input, scratch);
        return DML_OK;
    }
    if (conv->data_weights) {
        TRY(cpu_operation_run(conv->engine, &conv->data_reorder, (const void *[]){weights, scratch},
                              NULL));
        weights = scratch;
    }
    return cpu_operation_run(conv->engine, &conv->data,
                             (const void *[]){grad_output, weights, grad_input},
                             (char *)scratch + conv->data_weights);
}

enum dml_status cpu_native_backward_weights(struct cpu_native *conv, const void *input,
                                            const void *grad_output, float *grad_weights,
                                            float *grad_bias, void *scratch) {
    if (conv->gradient_per_tap) {
        cpu_per_tap_backward_weights(&conv->shape, &conv->tap_strides, input, grad_output,
                                     grad_weights, grad_bias, scratch);
        return DML_OK;
    }
    float *target = conv->gradient_weights ? scratch : grad_weights;
    TRY(cpu_operation_run(conv->engine, &conv->gradient,
                          (const void *[]){input, grad_output, target, grad_bias},
                          (char *)scratch + conv->gradient_weights));
    if (!conv->gradient_weights)
        return DML_OK;
    return cpu_operation_run(conv->engine, &conv->gradient_reorder,
                             (const void *[]){target, grad_weights}, NULL);
}
