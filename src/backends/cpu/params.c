#include "backends/cpu/params.h"

#include "backends/cpu/align.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

static enum dml_status conv_layout(struct cpu_params *params, struct cpu_engine *engine, int index,
                                   size_t batch, int block, size_t *narrow) {
    const struct dml_graph *graph = params->graph;
    const struct dml_node *node = &graph->nodes[graph->params[index].node];
    const struct dml_node *input = &graph->nodes[node->inputs[0]];
    bool image = input->op == DML_OP_INPUT ||
                 (input->op == DML_OP_AFFINE && graph->nodes[input->inputs[0]].op == DML_OP_INPUT);
    struct cpu_conv_shape shape = {
        .n = batch,
        .input = plan_layout_make(input->channels, input->height, input->width, image ? 1 : block,
                                  params->element),
        .output =
            plan_layout_make(node->channels, node->height, node->width, block, params->element),
        .kernel_h = node->kernel_h,
        .kernel_w = node->kernel_w,
        .stride_h = node->stride_h,
        .stride_w = node->stride_w,
        .pad_h = node->pad_h,
        .pad_w = node->pad_w,
        .groups = node->groups,
        .bias = true,
    };
    struct cpu_param *item = &params->items[index];
    enum dml_status status = cpu_weights_create(engine, &shape, &item->weights);
    if (status)
        return dml_fail_within(status, "%s", node->name);
    item->count = cpu_weights_count(item->weights);
    item->narrow = *narrow;
    *narrow += cpu_aligned_bytes(cpu_weights_narrow_bytes(item->weights));
    return DML_OK;
}

/* Gives each parameter its place: learnable ones first. */
static void place(struct cpu_params *params) {
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < params->graph->param_count; i++) {
            struct cpu_param *item = &params->items[i];
            if (item->learnable != (pass == 0))
                continue;
            item->offset = params->total;
            params->total += cpu_aligned_floats(item->count);
        }
        if (pass == 0)
            params->learnable = params->total;
    }
}

size_t cpu_params_from(const struct cpu_params *params, int param) {
    for (int i = param; i < params->graph->param_count; i++)
        if (params->items[i].learnable)
            return params->items[i].offset;
    return params->learnable;
}

static float *zeros(size_t count) {
    float *values = dml_alloc_aligned(count, sizeof *values);
    if (values)
        memset(values, 0, count * sizeof *values);
    return values;
}

enum dml_status cpu_params_create(const struct dml_graph *graph, struct cpu_engine *engine,
                                  size_t batch, int block, enum plan_element element,
                                  struct cpu_params *out) {
    *out = (struct cpu_params){.graph = graph, .element = element};
    size_t narrow = 0;
    out->items = dml_alloc((size_t)graph->param_count, sizeof *out->items);
    if (!out->items)
        return DML_ERROR_MEMORY;
    for (int i = 0; i < graph->param_count; i++) {
        const struct dml_graph_param *param = &graph->params[i];
        out->items[i].count = param->count;
        out->items[i].learnable = dml_param_learnable(param);
        if (graph->nodes[param->node].op == DML_OP_CONV && param->role == DML_ROLE_WEIGHT &&
            !plan_is_patches(graph, param->node)) {
            enum dml_status status = conv_layout(out, engine, i, batch, block, &narrow);
            if (status)
                return status;
        }
    }
    place(out);
    out->values = zeros(out->total);
    out->grads = zeros(out->learnable);
    out->folded = zeros(out->learnable);
    if (!out->values || !out->grads || !out->folded)
        return DML_ERROR_MEMORY;
    if (element == PLAN_BFLOAT16 && !(out->narrow = dml_alloc_aligned(narrow, 1)))
        return DML_ERROR_MEMORY;
    return DML_OK;
}

void cpu_params_destroy(struct cpu_params *params) {
    for (int i = 0; params->items && i < params->graph->param_count; i++)
        cpu_weights_destroy(params->items[i].weights);
    free(params->items);
    free(params->values);
    free(params->grads);
    for (int i = 0; i < DML_OPTIMISER_STATES; i++)
        free(params->states[i]);
    free(params->average);
    free(params->folded);
    free(params->narrow);
}

enum dml_status cpu_params_states(struct cpu_params *params, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!params->states[i] && !(params->states[i] = zeros(params->learnable)))
            return DML_ERROR_MEMORY;
    return DML_OK;
}

enum dml_status cpu_params_averages(struct cpu_params *params) {
    if (params->average)
        return DML_OK;
    params->average = dml_alloc_aligned(params->total, sizeof *params->average);
    if (!params->average)
        return DML_ERROR_MEMORY;
    memcpy(params->average, params->values, params->total * sizeof *params->average);
    return DML_OK;
}

/* The array of a slot; NULL for states that do not exist yet. */
static float *slot_array(const struct cpu_params *params, enum dml_slot slot) {
    if (slot == DML_SLOT_VALUE || (slot == DML_SLOT_AVERAGE && !params->average))
        return params->values;
    if (slot == DML_SLOT_GRAD)
        return params->grads;
    return slot == DML_SLOT_AVERAGE ? params->average : params->states[slot - DML_SLOT_STATE];
}

enum dml_status cpu_params_read(struct cpu_params *params, int index, enum dml_slot slot,
                                float *values) {
    const float *array = slot_array(params, slot);
    const struct cpu_param *item = &params->items[index];
    size_t count = params->graph->params[index].count;
    if (!array)
        memset(values, 0, count * sizeof *values);
    else if (item->weights)
        return cpu_weights_to_plain(item->weights, array + item->offset, values);
    else
        memcpy(values, array + item->offset, count * sizeof *values);
    return DML_OK;
}

enum dml_status cpu_params_write(struct cpu_params *params, int index, enum dml_slot slot,
                                 const float *values) {
    enum dml_status status = DML_OK;
    if (slot >= DML_SLOT_STATE)
        status = cpu_params_states(params, slot - DML_SLOT_STATE + 1);
    else if (slot == DML_SLOT_AVERAGE)
        status = cpu_params_averages(params);
    if (status)
        return status;
    float *array = slot_array(params, slot);
    params->prepared = CPU_PREPARED_NOT;
    const struct cpu_param *item = &params->items[index];
    if (item->weights)
        return cpu_weights_from_plain(item->weights, values, array + item->offset);
    memcpy(array + item->offset, values, params->graph->params[index].count * sizeof *values);
    return DML_OK;
}
