#include "backends/cpu/convolution.h"

#include "backends/cpu/align.h"
#include "backends/cpu/groups.h"
#include "backends/cpu/onednn.h"
#include "backends/cpu/taps.h"
#include "backends/cpu/wide.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

/* Memory descriptors of a convolution, and its geometry. */
struct description {
    cpu_md source, weights, bias, target;
    struct cpu_conv_description geometry; /* borrows the descriptors */
};

static void undescribe(struct description *d) {
    cpu_md_destroy(d->source);
    cpu_md_destroy(d->weights);
    cpu_md_destroy(d->bias);
    cpu_md_destroy(d->target);
}

static dnnl_data_type_t type_of(enum plan_element element) {
    return element == PLAN_BFLOAT16 ? dnnl_bf16 : dnnl_f32;
}

static enum dml_status tensor_md(cpu_md *md, const struct plan_layout *layout, size_t n) {
    dnnl_dims_t dims = {(dnnl_dim_t)n, layout->channels, layout->height, layout->width};
    dnnl_format_tag_t tag = layout->block == 16  ? dnnl_nChw16c
                            : layout->block == 8 ? dnnl_nChw8c
                                                 : dnnl_nchw;
    return check(cpu_md_create(md, 4, dims, type_of(layout->element), tag), "tensor layout");
}

static dnnl_dim_t padding_right(int size, int windows, int kernel, int stride, int pad) {
    return (windows - 1) * stride + kernel - size - pad;
}

/* A layout of weights: (out, in, kh, kw), or with groups (groups, out, in, kh, kw). */
static enum dml_status weights_md(const struct cpu_conv_shape *shape, dnnl_data_type_t type,
                                  bool any, cpu_md *md) {
    int groups = cpu_groups_computed(shape), axes = groups > 1 ? 5 : 4;
    const dnnl_dims_t dims = {groups, shape->output.channels / groups,
                              shape->input.channels / groups, shape->kernel_h, shape->kernel_w};
    dnnl_format_tag_t tag = any ? dnnl_format_tag_any : axes > 4 ? dnnl_goihw : dnnl_oihw;
    return check(cpu_md_create(md, axes, axes > 4 ? dims : dims + 1, type, tag), "weights");
}

/* `weights` NULL: any layout, of `type`. Biases are float32. `d` is zeroed before and undescribed
 * after, whatever comes back. */
static enum dml_status describe(const struct cpu_conv_shape *shape, cpu_const_md weights,
                                dnnl_data_type_t type, struct description *d) {
    const dnnl_dims_t bias_dims = {shape->output.channels};
    TRY(tensor_md(&d->source, &shape->input, shape->n));
    TRY(tensor_md(&d->target, &shape->output, shape->n));
    TRY(weights ? check(cpu_md_clone(&d->weights, weights), "weights")
                : weights_md(shape, type, true, &d->weights));
    if (shape->bias)
        TRY(check(cpu_md_create(&d->bias, 1, bias_dims, dnnl_f32, dnnl_a), "bias"));
    d->geometry = (struct cpu_conv_description){
        .source = d->source,
        .weights = d->weights,
        .bias = d->bias,
        .target = d->target,
        .strides = {shape->stride_h, shape->stride_w},
        .pad_left = {shape->pad_h, shape->pad_w},
        .pad_right = {padding_right(shape->input.height, shape->output.height, shape->kernel_h,
                                    shape->stride_h, shape->pad_h),
                      padding_right(shape->input.width, shape->output.width, shape->kernel_w,
                                    shape->stride_w, shape->pad_w)}};
    return DML_OK;
}

/* Scratch memory that the caller provides. */
static enum dml_status make_attributes(dnnl_primitive_attr_t *out) {
    TRY(check(dnnl_primitive_attr_create(out), "attributes"));
    return check(dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user),
                 "scratchpad");
}

/* Residual and relu. */
static enum dml_status set_post_operations(const struct cpu_conv_shape *shape, cpu_const_md target,
                                           dnnl_primitive_attr_t attributes) {
    dnnl_post_ops_t post;
    TRY(check(dnnl_post_ops_create(&post), "post-operations"));
    dnnl_status_t status = dnnl_success;
    if (shape->residual == CPU_RESIDUAL_IN_PLACE)
        status = cpu_post_add_output(post);
    else if (shape->residual == CPU_RESIDUAL_SEPARATE)
        status = cpu_post_add(post, target);
    if (status == dnnl_success && shape->relu)
        status = cpu_post_relu(post);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_set_post_ops(attributes, post);
    dnnl_post_ops_destroy(post);
    return check(status, "post-operations");
}

static enum dml_status make_forward(struct cpu_engine *engine, const struct cpu_conv_shape *shape,
                                    const struct description *d, dnnl_primitive_desc_t *out) {
    dnnl_primitive_attr_t attributes = NULL;
    enum dml_status status = make_attributes(&attributes);
    if (status == DML_OK)
        status = set_post_operations(shape, d->target, attributes);
    if (status == DML_OK)
        status = check(
            cpu_conv_forward_pd(out, engine->engine, shape->training, &d->geometry, attributes),
            "convolution");
    if (attributes)
        dnnl_primitive_attr_destroy(attributes);
    return status;
}

/* Backward data with any layout of weights, or backward weights with any layout of the gradient,
 * which is float32. */
static enum dml_status make_backward(struct cpu_engine *engine, const struct cpu_conv_shape *shape,
                                     bool data, const_dnnl_primitive_desc_t forward,
                                     dnnl_primitive_desc_t *out) {
    struct description d = {0};
    dnnl_primitive_attr_t attributes = NULL;
    enum dml_status status =
        describe(shape, NULL, data ? type_of(shape->input.element) : dnnl_f32, &d);
    if (status == DML_OK)
        status = make_attributes(&attributes);
    if (status == DML_OK)
        status = check((data ? cpu_conv_data_pd : cpu_conv_weights_pd)(
                           out, engine->engine, &d.geometry, forward, attributes),
                       "convolution gradient");
    if (attributes)
        dnnl_primitive_attr_destroy(attributes);
    undescribe(&d);
    return status;
}

struct cpu_weights {
    struct cpu_engine *engine;
    struct cpu_conv_shape shape;
    cpu_md md, plain; /* as they are kept, and PyTorch's, groups joined */
    float *own;       /* where groups are joined: 1 for weights of a group's own, else 0 */
    size_t count, inner;
    int block;
    size_t narrow_bytes; /* of the bfloat16 copy, 0 without one */
    /* Where oneDNN computes bfloat16: the copy's layout, and how it is made. Elsewhere the layout
     * is `md`. */
    cpu_md narrow_md;
    struct cpu_operation narrowing;
};

/* True where outputs are the outermost axis, or the next behind groups, and the innermost block,
 * not too large a one: the layouts that the per-output scaling of folded batch norms can walk. */
static bool outputs_in_blocks(cpu_const_md md, bool groups, size_t count, int *block,
                              size_t *inner) {
    struct cpu_md_blocks b;
    if (!cpu_md_blocks(md, &b))
        return false;
    int last = b.count - 1, output_blocks = 0, output = groups ? 1 : 0;
    for (int i = 0; i < b.count; i++) {
        if (b.axes[i] < output)
            return false;
        output_blocks += b.axes[i] == output;
    }
    if (output_blocks > 1 || (output_blocks == 1 && b.axes[last] != output))
        return false;
    *block = output_blocks ? (int)b.sizes[last] : 1;
    if (*block > CPU_MOST_WEIGHT_BLOCK)
        return false;
    size_t stride = (size_t)b.strides[output];
    size_t rest = groups ? (size_t)b.strides[0] : count; /* all outputs of a group */
    if (stride * (size_t)(b.padded_dims[output] / *block) != rest)
        return false;
    if (groups && (rest * (size_t)b.dims[0] != count || b.padded_dims[1] != b.dims[1]))
        return false;
    *inner = stride / (size_t)*block;
    return true;
}

/* The layout of weights that a forward convolution of this shape wants. */
static enum dml_status wanted_layout(struct cpu_engine *engine, const struct cpu_conv_shape *shape,
                                     cpu_md *out) {
    struct description d = {0};
    dnnl_primitive_desc_t pd = NULL;
    enum dml_status status = describe(shape, NULL, type_of(shape->input.element), &d);
    if (status == DML_OK)
        status = make_forward(engine, shape, &d, &pd);
    if (status == DML_OK)
        status =
            check(cpu_md_clone(out, dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0)),
                  "weights");
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    undescribe(&d);
    return status;
}

static enum dml_status create_narrow(struct cpu_weights *weights,
                                     const struct cpu_conv_shape *shape) {
    if (shape->input.element != PLAN_BFLOAT16)
        return DML_OK;
    weights->narrow_bytes = weights->count * sizeof(uint16_t);
    if (cpu_engine_bf16() == CPU_BF16_EMULATED)
        return DML_OK;
    TRY(wanted_layout(weights->engine, shape, &weights->narrow_md));
    weights->narrow_bytes = dnnl_memory_desc_get_size(weights->narrow_md);
    return cpu_operation_reorder(&weights->narrowing, weights->engine, weights->md,
                                 weights->narrow_md);
}

static bool keep_in_blocks(struct cpu_weights *weights) {
    weights->count = dnnl_memory_desc_get_size(weights->md) / sizeof(float);
    return outputs_in_blocks(weights->md, cpu_groups_computed(&weights->shape) > 1, weights->count,
                             &weights->block, &weights->inner);
}

/* What of the joined weights is a group's own. */
static enum dml_status create_own(struct cpu_weights *weights) {
    const struct cpu_conv_shape *shape = &weights->shape;
    size_t count = cpu_groups_count(shape);
    if (cpu_groups_joined(shape) == 1)
        return DML_OK;
    float *ones = dml_alloc(count, sizeof *ones);
    weights->own = dml_alloc(weights->count, sizeof *weights->own);
    enum dml_status status = ones && weights->own ? DML_OK : DML_ERROR_MEMORY;
    for (size_t i = 0; !status && i < count; i++)
        ones[i] = 1.0f;
    if (!status)
        status = cpu_weights_from_plain(weights, ones, weights->own);
    free(ones);
    return status;
}

enum dml_status cpu_weights_create(struct cpu_engine *engine, const struct cpu_conv_shape *shape,
                                   struct cpu_weights **out) {
    struct cpu_weights *weights = *out = dml_alloc(1, sizeof *weights);
    if (!weights)
        return DML_ERROR_MEMORY;
    weights->engine = engine;
    weights->shape = cpu_wide_shape(shape);
    TRY(wanted_layout(engine, &weights->shape, &weights->md));
    TRY(weights_md(shape, dnnl_f32, false, &weights->plain));
    if (!keep_in_blocks(weights)) {
        cpu_md_destroy(weights->md);
        weights->md = NULL;
        TRY(check(cpu_md_clone(&weights->md, weights->plain), "weights"));
        keep_in_blocks(weights);
    }
    TRY(create_own(weights));
    return create_narrow(weights, shape);
}

void cpu_weights_destroy(struct cpu_weights *weights) {
    if (!weights)
        return;
    cpu_operation_destroy(&weights->narrowing);
    cpu_md_destroy(weights->md);
    cpu_md_destroy(weights->plain);
    cpu_md_destroy(weights->narrow_md);
    free(weights->own);
    free(weights);
}

size_t cpu_weights_count(const struct cpu_weights *weights) {
    return weights->count;
}

int cpu_weights_block(const struct cpu_weights *weights) {
    return weights->block;
}

size_t cpu_weights_inner(const struct cpu_weights *weights) {
    return weights->inner;
}

/* Runs one reorder between two layouts, made for this one use. */
static enum dml_status reorder_once(struct cpu_engine *engine, cpu_const_md from,
                                    const void *source, cpu_const_md to, void *target) {
    struct cpu_operation reorder = {0};
    enum dml_status status = cpu_operation_reorder(&reorder, engine, from, to);
    if (status == DML_OK)
        status = cpu_operation_run(engine, &reorder, (const void *[]){source, target}, NULL);
    cpu_operation_destroy(&reorder);
    return status;
}

enum dml_status cpu_weights_from_plain(const struct cpu_weights *weights, const float *plain,
                                       float *values) {
    if (cpu_groups_joined(&weights->shape) == 1)
        return reorder_once(weights->engine, weights->plain, plain, weights->md, values);
    float *joined = dml_alloc(cpu_groups_count(&weights->shape), sizeof *joined);
    if (!joined)
        return DML_ERROR_MEMORY;
    cpu_groups_join(&weights->shape, plain, joined);
    enum dml_status status =
        reorder_once(weights->engine, weights->plain, joined, weights->md, values);
    free(joined);
    return status;
}

enum dml_status cpu_weights_to_plain(const struct cpu_weights *weights, const float *values,
                                     float *plain) {
    if (cpu_groups_joined(&weights->shape) == 1)
        return reorder_once(weights->engine, weights->md, values, weights->plain, plain);
    float *joined = dml_alloc(cpu_groups_count(&weights->shape), sizeof *joined);
    if (!joined)
        return DML_ERROR_MEMORY;
    enum dml_status status =
        reorder_once(weights->engine, weights->md, values, weights->plain, joined);
    if (status == DML_OK)
        cpu_groups_part(&weights->shape, joined, plain);
    free(joined);
    return status;
}

size_t cpu_weights_narrow_bytes(const struct cpu_weights *weights) {
    return weights->narrow_bytes;
}

enum dml_status cpu_weights_narrow(struct cpu_weights *weights, const float *values, void *copy) {
    if (weights->narrowing.primitive)
        return cpu_operation_run(weights->engine, &weights->narrowing,
                                 (const void *[]){values, copy}, NULL);
    cpu_narrow(values, weights->count, copy);
    return DML_OK;
}

struct cpu_conv {
    struct cpu_engine *engine;
    struct cpu_conv_shape shape;
    const struct cpu_weights *weights;
    struct cpu_operation forward, data, gradient;
    /* Where a backward function wants the weights otherwise than they are kept: */
    struct cpu_operation data_reorder, gradient_reorder;
    size_t data_weights, gradient_weights; /* bytes of the copy, 0 without one */
    /* Computed by taps.h instead: all of it, or the weight gradient alone where oneDNN has no
     * fast one. */
    bool by_taps, gradient_by_taps;
    struct cpu_tap_strides tap_strides;
    /* A bfloat16 convolution by one of float32 instead, likewise. */
    bool by_wide, gradient_by_wide;
    struct cpu_wide wide;
};

/* Of the weights that its primitives read. */
static cpu_const_md read_layout(const struct cpu_conv *conv) {
    return conv->shape.input.element == PLAN_BFLOAT16 ? conv->weights->narrow_md
                                                      : conv->weights->md;
}

static enum dml_status create_data(struct cpu_conv *conv, const struct description *d,
                                   const_dnnl_primitive_desc_t forward) {
    dnnl_primitive_desc_t pd;
    TRY(make_backward(conv->engine, &conv->shape, true, forward, &pd));
    cpu_const_md md = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    enum dml_status status =
        cpu_operation_create(&conv->data, conv->engine, pd,
                             (int[]){DNNL_ARG_DIFF_DST, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_SRC, 0},
                             (cpu_const_md[]){d->target, md, d->source});
    if (status == DML_OK && !dnnl_memory_desc_equal(md, read_layout(conv))) {
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

/* Strides of the kept weights where they are in (input, output) blocks as cpu_taps_* walks them. */
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

/* Whether taps.h can compute the convolution; then its strides are set. */
static bool taps_possible(struct cpu_conv *conv) {
    return tap_strides(conv->weights->md, &conv->tap_strides) &&
           conv->tap_strides.block == conv->shape.input.block &&
           conv->tap_strides.block == conv->shape.output.block;
}

static enum dml_status create_gradient(struct cpu_conv *conv, const struct description *d,
                                       const_dnnl_primitive_desc_t forward) {
    dnnl_primitive_desc_t pd;
    TRY(make_backward(conv->engine, &conv->shape, false, forward, &pd));
    cpu_const_md md = dnnl_primitive_desc_query_md(pd, dnnl_query_diff_weights_md, 0);
    bool narrow = conv->shape.input.element == PLAN_BFLOAT16;
    conv->gradient_by_wide = is_reference(pd) && narrow;
    conv->gradient_by_taps = is_reference(pd) && !narrow && taps_possible(conv);
    enum dml_status status = DML_OK;
    if (conv->gradient_by_wide)
        status = cpu_wide_create(conv->engine, &conv->shape, conv->weights, &conv->wide);
    else if (!conv->gradient_by_taps)
        status =
            cpu_operation_create(&conv->gradient, conv->engine, pd,
                                 (int[]){DNNL_ARG_SRC, DNNL_ARG_DIFF_DST, DNNL_ARG_DIFF_WEIGHTS,
                                         conv->shape.bias ? DNNL_ARG_DIFF_BIAS : 0, 0},
                                 (cpu_const_md[]){d->source, d->target, md, d->bias});
    if (status == DML_OK && conv->gradient.primitive &&
        !dnnl_memory_desc_equal(md, conv->weights->md)) {
        conv->gradient_weights = cpu_aligned_bytes(dnnl_memory_desc_get_size(md));
        status =
            cpu_operation_reorder(&conv->gradient_reorder, conv->engine, md, conv->weights->md);
    }
    dnnl_primitive_desc_destroy(pd);
    return status;
}

static enum dml_status create_described(struct cpu_conv *conv, const struct description *d) {
    dnnl_primitive_desc_t pd;
    TRY(make_forward(conv->engine, &conv->shape, d, &pd));
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
    if (status == DML_OK && conv->shape.training)
        status = create_gradient(conv, d, pd);
    if (status == DML_OK && conv->shape.input_gradient)
        status = create_data(conv, d, pd);
    dnnl_primitive_desc_destroy(pd);
    return status;
}

static enum dml_status create_all(struct cpu_conv *conv) {
    struct description d = {0};
    enum dml_status status =
        describe(&conv->shape, read_layout(conv), type_of(conv->shape.input.element), &d);
    if (status == DML_OK)
        status = create_described(conv, &d);
    undescribe(&d);
    return status;
}

enum dml_status cpu_conv_create(struct cpu_engine *engine, const struct cpu_conv_shape *shape,
                                const struct cpu_weights *weights, struct cpu_conv **out) {
    struct cpu_conv *conv = *out = dml_alloc(1, sizeof *conv);
    if (!conv)
        return DML_ERROR_MEMORY;
    conv->engine = engine;
    conv->shape = *shape;
    conv->weights = weights;
    if (shape->input.element == PLAN_BFLOAT16) {
        conv->by_wide = conv->gradient_by_wide = cpu_engine_bf16() == CPU_BF16_EMULATED;
        return conv->by_wide ? cpu_wide_create(engine, shape, weights, &conv->wide)
                             : create_all(conv);
    }
    conv->by_taps = conv->gradient_by_taps = cpu_taps_preferred(shape) && taps_possible(conv);
    return conv->by_taps ? DML_OK : create_all(conv);
}

void cpu_conv_destroy(struct cpu_conv *conv) {
    if (!conv)
        return;
    cpu_operation_destroy(&conv->forward);
    cpu_operation_destroy(&conv->data);
    cpu_operation_destroy(&conv->gradient);
    cpu_operation_destroy(&conv->data_reorder);
    cpu_operation_destroy(&conv->gradient_reorder);
    cpu_wide_destroy(&conv->wide);
    free(conv);
}

size_t cpu_conv_forward_scratch(const struct cpu_conv *conv) {
    if (conv->by_wide)
        return cpu_wide_forward_scratch(&conv->wide);
    return conv->by_taps ? cpu_taps_scratch(&conv->shape) : conv->forward.scratch;
}

size_t cpu_conv_data_scratch(const struct cpu_conv *conv) {
    if (conv->by_wide)
        return cpu_wide_data_scratch(&conv->wide);
    return conv->by_taps ? cpu_taps_scratch(&conv->shape) : conv->data_weights + conv->data.scratch;
}

size_t cpu_conv_weights_scratch(const struct cpu_conv *conv) {
    if (conv->gradient_by_wide)
        return cpu_wide_weights_scratch(&conv->wide);
    return conv->gradient_by_taps ? cpu_taps_scratch(&conv->shape)
                                  : conv->gradient_weights + conv->gradient.scratch;
}

enum dml_status cpu_conv_forward(struct cpu_conv *conv, const void *input, const void *weights,
                                 const float *bias, const void *residual, void *output,
                                 void *scratch) {
    if (conv->by_wide)
        return cpu_wide_forward(&conv->wide, input, weights, bias, residual, output, scratch);
    if (conv->by_taps) {
        cpu_taps_forward(&conv->shape, &conv->tap_strides, input, weights, bias, residual, output,
                         scratch);
        return DML_OK;
    }
    const void *handles[CPU_MOST_ARGUMENTS] = {input, weights, output};
    int count = 3;
    if (conv->shape.bias)
        handles[count++] = bias;
    if (conv->shape.residual == CPU_RESIDUAL_SEPARATE)
        handles[count++] = residual;
    return cpu_operation_run(conv->engine, &conv->forward, handles, scratch);
}

enum dml_status cpu_conv_backward_data(struct cpu_conv *conv, const void *grad_output,
                                       const void *weights, void *grad_input, void *scratch) {
    if (conv->by_wide)
        return cpu_wide_backward_data(&conv->wide, grad_output, weights, grad_input, scratch);
    if (conv->by_taps) {
        cpu_taps_backward_data(&conv->shape, &conv->tap_strides, grad_output, weights, grad_input,
                               scratch);
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

static enum dml_status backward_weights(struct cpu_conv *conv, const void *input,
                                        const void *grad_output, float *grad_weights,
                                        float *grad_bias, void *scratch) {
    if (conv->gradient_by_wide)
        return cpu_wide_backward_weights(&conv->wide, input, grad_output, grad_weights, grad_bias,
                                         scratch);
    if (conv->gradient_by_taps) {
        cpu_taps_backward_weights(&conv->shape, &conv->tap_strides, input, grad_output,
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

enum dml_status cpu_conv_backward_weights(struct cpu_conv *conv, const void *input,
                                          const void *grad_output, float *grad_weights,
                                          float *grad_bias, void *scratch) {
    TRY(backward_weights(conv, input, grad_output, grad_weights, grad_bias, scratch));
    const struct cpu_weights *weights = conv->weights;
    for (size_t i = 0; weights->own && i < weights->count; i++)
        grad_weights[i] = weights->own[i] != 0.0f ? grad_weights[i] : 0.0f;
    return DML_OK;
}
