#include "backends/cpu/description.h"

#include "backends/cpu/groups.h"

void cpu_undescribe(struct cpu_description *d) {
    cpu_md_destroy(d->source);
    cpu_md_destroy(d->weights);
    cpu_md_destroy(d->bias);
    cpu_md_destroy(d->target);
}

dnnl_data_type_t cpu_data_type(enum plan_element element) {
    return element == PLAN_BFLOAT16 ? dnnl_bf16 : dnnl_f32;
}

static enum dml_status tensor_md(cpu_md *md, const struct plan_layout *layout, size_t n) {
    dnnl_dims_t dims = {(dnnl_dim_t)n, layout->channels, layout->height, layout->width};
    dnnl_format_tag_t tag = layout->block == 16  ? dnnl_nChw16c
                            : layout->block == 8 ? dnnl_nChw8c
                                                 : dnnl_nchw;
    return check(cpu_md_create(md, 4, dims, cpu_data_type(layout->element), tag), "tensor layout");
}

static dnnl_dim_t padding_right(int size, int windows, int kernel, int stride, int pad) {
    return (windows - 1) * stride + kernel - size - pad;
}

enum dml_status cpu_weights_md(const struct cpu_conv_shape *shape, dnnl_data_type_t type, bool any,
                               cpu_md *md) {
    int groups = cpu_groups_computed(shape), axes = groups > 1 ? 5 : 4;
    const dnnl_dims_t dims = {groups, shape->output.channels / groups,
                              shape->input.channels / groups, shape->kernel_h, shape->kernel_w};
    dnnl_format_tag_t tag = any ? dnnl_format_tag_any : axes > 4 ? dnnl_goihw : dnnl_oihw;
    return check(cpu_md_create(md, axes, axes > 4 ? dims : dims + 1, type, tag), "weights");
}

enum dml_status cpu_describe(const struct cpu_conv_shape *shape, cpu_const_md weights,
                             dnnl_data_type_t type, struct cpu_description *d) {
    const dnnl_dims_t bias_dims = {shape->output.channels};
    TRY(tensor_md(&d->source, &shape->input, shape->n));
    TRY(tensor_md(&d->target, &shape->output, shape->n));
    TRY(weights ? check(cpu_md_clone(&d->weights, weights), "weights")
                : cpu_weights_md(shape, type, true, &d->weights));
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

enum dml_status cpu_describe_forward(struct cpu_engine *engine, const struct cpu_conv_shape *shape,
                                     const struct cpu_description *d, dnnl_primitive_desc_t *out) {
    dnnl_primitive_attr_t attributes = NULL;
    enum dml_status status = make_attributes(&attributes);
    if (!status)
        status = set_post_operations(shape, d->target, attributes);
    if (!status)
        status = check(
            cpu_conv_forward_pd(out, engine->engine, shape->training, &d->geometry, attributes),
            "convolution");
    if (attributes)
        dnnl_primitive_attr_destroy(attributes);
    return status;
}

enum dml_status cpu_describe_backward(struct cpu_engine *engine, const struct cpu_conv_shape *shape,
                                      bool data, const_dnnl_primitive_desc_t forward,
                                      dnnl_primitive_desc_t *out) {
    struct cpu_description d = {0};
    dnnl_primitive_attr_t attributes = NULL;
    enum dml_status status =
        cpu_describe(shape, NULL, data ? cpu_data_type(shape->input.element) : dnnl_f32, &d);
    if (!status)
        status = make_attributes(&attributes);
    if (!status)
        status = check((data ? cpu_conv_data_pd : cpu_conv_weights_pd)(
                           out, engine->engine, &d.geometry, forward, attributes),
                       "convolution gradient");
    if (attributes)
        dnnl_primitive_attr_destroy(attributes);
    cpu_undescribe(&d);
    return status;
}
