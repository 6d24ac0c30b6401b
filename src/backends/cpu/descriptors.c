#include "backends/cpu/descriptors.h"

#include <stdlib.h>

bool cpu_additions_are_wrong(void) {
    return DNNL_VERSION_MAJOR == 2 && DNNL_VERSION_MINOR < 5;
}

#if DNNL_VERSION_MAJOR < 3

static dnnl_status_t keep(cpu_md *out, const dnnl_memory_desc_t *md) {
    *out = malloc(sizeof **out);
    if (!*out)
        return dnnl_out_of_memory;
    **out = *md;
    return dnnl_success;
}

dnnl_status_t cpu_md_create(cpu_md *out, int axes, const dnnl_dims_t dims, dnnl_data_type_t type,
                            dnnl_format_tag_t tag) {
    dnnl_memory_desc_t md;
    dnnl_status_t status = dnnl_memory_desc_init_by_tag(&md, axes, dims, type, tag);
    return status == dnnl_success ? keep(out, &md) : status;
}

dnnl_status_t cpu_md_create_strided(cpu_md *out, int axes, const dnnl_dims_t dims,
                                    dnnl_data_type_t type, const dnnl_dims_t strides) {
    dnnl_memory_desc_t md;
    dnnl_status_t status = dnnl_memory_desc_init_by_strides(&md, axes, dims, type, strides);
    return status == dnnl_success ? keep(out, &md) : status;
}

dnnl_status_t cpu_md_clone(cpu_md *out, cpu_const_md md) {
    return keep(out, md);
}

void cpu_md_destroy(cpu_md md) {
    free(md);
}

bool cpu_md_blocks(cpu_const_md md, struct cpu_md_blocks *out) {
    const dnnl_blocking_desc_t *b = &md->format_desc.blocking;
    *out = (struct cpu_md_blocks){b->inner_nblks, b->inner_blks, b->inner_idxs,
                                  b->strides,     md->dims,      md->padded_dims};
    return md->format_kind == dnnl_blocked && md->offset0 == 0;
}

dnnl_status_t cpu_post_add_output(dnnl_post_ops_t post) {
    return dnnl_post_ops_append_sum(post, 1.0f);
}

dnnl_status_t cpu_post_relu(dnnl_post_ops_t post) {
    return dnnl_post_ops_append_eltwise(post, 1.0f, dnnl_eltwise_relu, 0.0f, 0.0f);
}

dnnl_status_t cpu_conv_forward_pd(dnnl_primitive_desc_t *out, dnnl_engine_t engine, bool training,
                                  const struct cpu_conv_description *d,
                                  const_dnnl_primitive_attr_t attributes) {
    dnnl_convolution_desc_t desc;
    dnnl_status_t status = dnnl_convolution_forward_desc_init(
        &desc, training ? dnnl_forward_training : dnnl_forward_inference, dnnl_convolution_direct,
        d->source, d->weights, d->bias, d->target, d->strides, d->pad_left, d->pad_right);
    return status == dnnl_success ? dnnl_primitive_desc_create(out, &desc, attributes, engine, NULL)
                                  : status;
}

dnnl_status_t cpu_conv_data_pd(dnnl_primitive_desc_t *out, dnnl_engine_t engine,
                               const struct cpu_conv_description *d,
                               const_dnnl_primitive_desc_t forward,
                               const_dnnl_primitive_attr_t attributes) {
    dnnl_convolution_desc_t desc;
    dnnl_status_t status = dnnl_convolution_backward_data_desc_init(
        &desc, dnnl_convolution_direct, d->source, d->weights, d->target, d->strides, d->pad_left,
        d->pad_right);
    return status == dnnl_success
               ? dnnl_primitive_desc_create(out, &desc, attributes, engine, forward)
               : status;
}

dnnl_status_t cpu_conv_weights_pd(dnnl_primitive_desc_t *out, dnnl_engine_t engine,
                                  const struct cpu_conv_description *d,
                                  const_dnnl_primitive_desc_t forward,
                                  const_dnnl_primitive_attr_t attributes) {
    dnnl_convolution_desc_t desc;
    dnnl_status_t status = dnnl_convolution_backward_weights_desc_init(
        &desc, dnnl_convolution_direct, d->source, d->weights, d->bias, d->target, d->strides,
        d->pad_left, d->pad_right);
    return status == dnnl_success
               ? dnnl_primitive_desc_create(out, &desc, attributes, engine, forward)
               : status;
}

dnnl_status_t cpu_matmul_pd(dnnl_primitive_desc_t *out, dnnl_engine_t engine, cpu_const_md a,
                            cpu_const_md b, cpu_const_md c,
                            const_dnnl_primitive_attr_t attributes) {
    dnnl_matmul_desc_t desc;
    dnnl_status_t status = dnnl_matmul_desc_init(&desc, a, b, NULL, c);
    return status == dnnl_success ? dnnl_primitive_desc_create(out, &desc, attributes, engine, NULL)
                                  : status;
}

#else

dnnl_status_t cpu_md_create(cpu_md *out, int axes, const dnnl_dims_t dims, dnnl_data_type_t type,
                            dnnl_format_tag_t tag) {
    return dnnl_memory_desc_create_with_tag(out, axes, dims, type, tag);
}

dnnl_status_t cpu_md_create_strided(cpu_md *out, int axes, const dnnl_dims_t dims,
                                    dnnl_data_type_t type, const dnnl_dims_t strides) {
    return dnnl_memory_desc_create_with_strides(out, axes, dims, type, strides);
}

dnnl_status_t cpu_md_clone(cpu_md *out, cpu_const_md md) {
    return dnnl_memory_desc_clone(out, md);
}

void cpu_md_destroy(cpu_md md) {
    if (md)
        dnnl_memory_desc_destroy(md);
}

bool cpu_md_blocks(cpu_const_md md, struct cpu_md_blocks *out) {
    dnnl_format_kind_t kind = dnnl_format_kind_undef;
    dnnl_dim_t offset = 0;
    *out = (struct cpu_md_blocks){0};
    return dnnl_memory_desc_query(md, dnnl_query_format_kind, &kind) == dnnl_success &&
           kind == dnnl_blocked &&
           dnnl_memory_desc_query(md, dnnl_query_submemory_offset_s64, &offset) == dnnl_success &&
           offset == 0 &&
           dnnl_memory_desc_query(md, dnnl_query_inner_nblks_s32, &out->count) == dnnl_success &&
           dnnl_memory_desc_query(md, dnnl_query_inner_blks, &out->sizes) == dnnl_success &&
           dnnl_memory_desc_query(md, dnnl_query_inner_idxs, &out->axes) == dnnl_success &&
           dnnl_memory_desc_query(md, dnnl_query_strides, &out->strides) == dnnl_success &&
           dnnl_memory_desc_query(md, dnnl_query_dims, &out->dims) == dnnl_success &&
           dnnl_memory_desc_query(md, dnnl_query_padded_dims, &out->padded_dims) == dnnl_success;
}

dnnl_status_t cpu_post_add_output(dnnl_post_ops_t post) {
    return dnnl_post_ops_append_sum(post, 1.0f, 0, dnnl_data_type_undef);
}

dnnl_status_t cpu_post_relu(dnnl_post_ops_t post) {
    return dnnl_post_ops_append_eltwise(post, dnnl_eltwise_relu, 0.0f, 0.0f);
}

/* 3.x always wants dilations; these mean none. */
static const dnnl_dims_t dense;

dnnl_status_t cpu_conv_forward_pd(dnnl_primitive_desc_t *out, dnnl_engine_t engine, bool training,
                                  const struct cpu_conv_description *d,
                                  const_dnnl_primitive_attr_t attributes) {
    return dnnl_convolution_forward_primitive_desc_create(
        out, engine, training ? dnnl_forward_training : dnnl_forward_inference,
        dnnl_convolution_direct, d->source, d->weights, d->bias, d->target, d->strides, dense,
        d->pad_left, d->pad_right, attributes);
}

dnnl_status_t cpu_conv_data_pd(dnnl_primitive_desc_t *out, dnnl_engine_t engine,
                               const struct cpu_conv_description *d,
                               const_dnnl_primitive_desc_t forward,
                               const_dnnl_primitive_attr_t attributes) {
    return dnnl_convolution_backward_data_primitive_desc_create(
        out, engine, dnnl_convolution_direct, d->source, d->weights, d->target, d->strides, dense,
        d->pad_left, d->pad_right, forward, attributes);
}

dnnl_status_t cpu_conv_weights_pd(dnnl_primitive_desc_t *out, dnnl_engine_t engine,
                                  const struct cpu_conv_description *d,
                                  const_dnnl_primitive_desc_t forward,
                                  const_dnnl_primitive_attr_t attributes) {
    return dnnl_convolution_backward_weights_primitive_desc_create(
        out, engine, dnnl_convolution_direct, d->source, d->weights, d->bias, d->target, d->strides,
        dense, d->pad_left, d->pad_right, forward, attributes);
}

dnnl_status_t cpu_matmul_pd(dnnl_primitive_desc_t *out, dnnl_engine_t engine, cpu_const_md a,
                            cpu_const_md b, cpu_const_md c,
                            const_dnnl_primitive_attr_t attributes) {
    return dnnl_matmul_primitive_desc_create(out, engine, a, b, NULL, c, attributes);
}

#endif

dnnl_status_t cpu_post_add(dnnl_post_ops_t post, cpu_const_md tensor) {
    return dnnl_post_ops_append_binary(post, dnnl_binary_add, tensor);
}
