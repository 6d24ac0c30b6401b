#include "backends/cpu/conv_weights.h"

#include "backends/cpu/description.h"
#include "backends/cpu/groups.h"
#include "backends/cpu/narrow.h"
#include "base/memory.h"

#include <stdlib.h>

/* True where outputs are the outermost axis, or the next one after groups, and the innermost block,
 * which is not too large: the layouts that the per-output scaling of folded batch norms can
 * walk. */
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
    struct cpu_description d = {0};
    dnnl_primitive_desc_t pd = NULL;
    enum dml_status status = cpu_describe(shape, NULL, cpu_data_type(shape->input.element), &d);
    if (!status)
        status = cpu_describe_forward(engine, shape, &d, &pd);
    if (!status)
        status =
            check(cpu_md_clone(out, dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0)),
                  "weights");
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    cpu_undescribe(&d);
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

/* Marks which of the joined weights are a group's own. */
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
    weights->shape = cpu_conv_float32(shape);
    TRY(wanted_layout(engine, &weights->shape, &weights->md));
    TRY(cpu_weights_md(shape, dnnl_f32, false, &weights->plain));
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
    if (!status)
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
    if (!status)
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
