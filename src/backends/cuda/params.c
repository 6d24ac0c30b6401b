#include "backends/cuda/params.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

enum dml_status cuda_finish(const struct cuda_on *on) {
    const char *failure = on->api->finish(on->device);
    return failure ? dml_fail(DML_ERROR_IO, "GPU: %s", failure) : DML_OK;
}

void *cuda_zeros(const struct cuda_on *on, size_t bytes, const char *what) {
    void *memory = on->api->alloc(on->device, bytes ? bytes : 1);
    size_t left = 0, total = 0;
    if (memory) {
        on->api->zero(on->device, memory, bytes);
        return memory;
    }
    on->api->free_memory(on->device, &left, &total);
    dml_fail(DML_ERROR_MEMORY, "GPU: %s need %.2f GB, and %.2f of its %.2f GB are free", what,
             (double)bytes / 1e9, (double)left / 1e9, (double)total / 1e9);
    return NULL;
}

/* Whether the node is the input, or only an affine of it. */
static bool is_image(const struct dml_graph *graph, int node) {
    const struct dml_node *n = &graph->nodes[node];
    return n->op == DML_OP_INPUT || (n->op == DML_OP_AFFINE && is_image(graph, n->inputs[0]));
}

/* The layout of a convolution's weight, which a product of patches (PLAN_FUSION_PATCHES) is not. */
static void measure_conv(const struct dml_graph *graph, int index, struct cuda_param *item) {
    const struct dml_graph_param *param = &graph->params[index];
    const struct dml_node *node = &graph->nodes[param->node];
    if (node->op != DML_OP_CONV || param->role != DML_ROLE_WEIGHT ||
        plan_is_patches(graph, param->node))
        return;
    item->conv = true;
    item->out = (size_t)param->dims[0];
    item->in = item->stored_in = (size_t)param->dims[1];
    item->taps = (size_t)param->dims[2] * (size_t)param->dims[3];
    if (is_image(graph, node->inputs[0]))
        item->stored_in = CUDA_IMAGE_CHANNELS;
    item->count = item->out * item->taps * item->stored_in;
}

/* Learnable ones first, each at a multiple of 256 bytes. */
static void place(struct cuda_params *params) {
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < params->graph->param_count; i++) {
            struct cuda_param *item = &params->items[i];
            if (item->learnable != (pass == 0))
                continue;
            item->offset = params->total;
            params->total += (item->count + 63) / 64 * 64;
        }
        if (pass == 0)
            params->learnable = params->total;
    }
}

static float *floats(struct cuda_params *params, size_t count) {
    return cuda_zeros(params->on, count * sizeof(float), "parameters of the network");
}

enum dml_status cuda_params_create(const struct dml_graph *graph, const struct cuda_on *on,
                                   enum plan_element element, struct cuda_params *out) {
    size_t most = 1;
    *out = (struct cuda_params){.graph = graph, .on = on, .element = element};
    out->items = dml_alloc((size_t)graph->param_count, sizeof *out->items);
    if (!out->items)
        return DML_ERROR_MEMORY;
    for (int i = 0; i < graph->param_count; i++) {
        out->items[i].count = graph->params[i].count;
        out->items[i].learnable = dml_param_learnable(&graph->params[i]);
        measure_conv(graph, i, &out->items[i]);
    }
    for (int i = 0; i < graph->node_count; i++)
        if ((size_t)graph->nodes[i].channels > most)
            most = (size_t)graph->nodes[i].channels;
    place(out);
    if (!(out->values = floats(out, out->total)) || !(out->grads = floats(out, out->learnable)) ||
        !(out->folded = floats(out, out->learnable)) || !(out->scale = floats(out, most)) ||
        !(out->measure = cuda_zeros(on, (2 + 2 * CUDA_MEASURE_PARTS) * sizeof(double),
                                    "parameters of the network")))
        return DML_ERROR_MEMORY;
    if (element == PLAN_BFLOAT16 &&
        !(out->narrow = cuda_zeros(on, out->learnable * plan_element_size(element),
                                   "parameters of the network")))
        return DML_ERROR_MEMORY;
    return cuda_finish(on);
}

void cuda_params_destroy(struct cuda_params *params) {
    const struct cuda_on *on = params->on;
    if (!on)
        return;
    float *const arrays[] = {params->values, params->grads,   params->folded,
                             params->scale,  params->average, params->piece};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        on->api->release(on->device, arrays[i]);
    for (int i = 0; i < DML_OPTIMISER_STATES; i++)
        on->api->release(on->device, params->states[i]);
    on->api->release(on->device, params->measure);
    on->api->release(on->device, params->narrow);
    free(params->items);
    *params = (struct cuda_params){0};
}

enum dml_status cuda_params_states(struct cuda_params *params, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!params->states[i] && !(params->states[i] = floats(params, params->learnable)))
            return DML_ERROR_MEMORY;
    return DML_OK;
}

enum dml_status cuda_params_averages(struct cuda_params *params) {
    const struct cuda_on *on = params->on;
    if (params->average)
        return DML_OK;
    params->average = floats(params, params->total);
    if (!params->average)
        return DML_ERROR_MEMORY;
    on->api->copy(on->device, params->average, params->values, params->total * sizeof(float));
    return DML_OK;
}

enum dml_status cuda_params_pieces(struct cuda_params *params) {
    params->piece = floats(params, params->learnable);
    return params->piece ? DML_OK : DML_ERROR_MEMORY;
}

/* The array of a slot; NULL for states that do not exist yet. */
static float *slot_array(const struct cuda_params *params, enum dml_slot slot) {
    if (slot == DML_SLOT_VALUE || (slot == DML_SLOT_AVERAGE && !params->average))
        return params->values;
    if (slot == DML_SLOT_GRAD)
        return params->grads;
    return slot == DML_SLOT_AVERAGE ? params->average : params->states[slot - DML_SLOT_STATE];
}

/* Between the stored layout and PyTorch's (out, in / groups, kernel_h, kernel_w). */
static void to_plain(const struct cuda_param *item, const float *stored, float *plain) {
    for (size_t o = 0; o < item->out; o++)
        for (size_t i = 0; i < item->in; i++)
            for (size_t t = 0; t < item->taps; t++)
                plain[(o * item->in + i) * item->taps + t] =
                    stored[(o * item->taps + t) * item->stored_in + i];
}
static void from_plain(const struct cuda_param *item, const float *plain, float *stored) {
    memset(stored, 0, item->count * sizeof *stored);
    for (size_t o = 0; o < item->out; o++)
        for (size_t i = 0; i < item->in; i++)
            for (size_t t = 0; t < item->taps; t++)
                stored[(o * item->taps + t) * item->stored_in + i] =
                    plain[(o * item->in + i) * item->taps + t];
}

enum dml_status cuda_params_read(struct cuda_params *params, int index, enum dml_slot slot,
                                 float *values) {
    const struct cuda_on *on = params->on;
    const float *array = slot_array(params, slot);
    const struct cuda_param *item = &params->items[index];
    if (!array) {
        memset(values, 0, params->graph->params[index].count * sizeof *values);
        return DML_OK;
    }
    float *stored = dml_alloc(item->count, sizeof *stored);
    if (!stored)
        return DML_ERROR_MEMORY;
    on->api->download(on->device, stored, array + item->offset, item->count * sizeof *stored);
    enum dml_status status = cuda_finish(on);
    if (!status && item->conv)
        to_plain(item, stored, values);
    else if (!status)
        memcpy(values, stored, item->count * sizeof *values);
    free(stored);
    return status;
}

enum dml_status cuda_params_write(struct cuda_params *params, int index, enum dml_slot slot,
                                  const float *values) {
    const struct cuda_on *on = params->on;
    float *stored = NULL;
    enum dml_status status = DML_OK;
    if (slot >= DML_SLOT_STATE)
        status = cuda_params_states(params, slot - DML_SLOT_STATE + 1);
    else if (slot == DML_SLOT_AVERAGE)
        status = cuda_params_averages(params);
    if (status)
        return status;
    float *array = slot_array(params, slot);
    params->ready = CUDA_STALE;
    const struct cuda_param *item = &params->items[index];
    if (item->conv) {
        stored = dml_alloc(item->count, sizeof *stored);
        if (!stored)
            return DML_ERROR_MEMORY;
        from_plain(item, values, stored);
    }
    on->api->upload(on->device, array + item->offset, stored ? stored : values,
                    item->count * sizeof *values);
    free(stored);
    return cuda_finish(on);
}

float *cuda_value(const struct cuda_params *params, int node, enum dml_param_role role) {
    int index = dml_graph_find_param(params->graph, node, role);
    return index < 0 ? NULL : params->values + params->items[index].offset;
}

float *cuda_grad(const struct cuda_params *params, int node, enum dml_param_role role) {
    int index = dml_graph_find_param(params->graph, node, role);
    return index < 0 ? NULL : params->grads + params->items[index].offset;
}

struct cuda_norm cuda_norm_of(const struct cuda_params *params, int node) {
    return (struct cuda_norm){
        (size_t)params->graph->nodes[node].channels,
        (size_t)params->graph->nodes[node].channels,
        cuda_value(params, node, DML_ROLE_NORM_WEIGHT),
        cuda_value(params, node, DML_ROLE_NORM_BIAS),
        cuda_value(params, node, DML_ROLE_RUNNING_MEAN),
        cuda_value(params, node, DML_ROLE_RUNNING_VAR),
        params->graph->nodes[node].epsilon,
    };
}

/* Writes `folded`. */
static void fold(struct cuda_params *params, const struct plan_fusion *fusion) {
    const struct cuda_on *on = params->on;
    const struct dml_graph *graph = params->graph;
    int weight = dml_graph_find_param(graph, fusion->node, DML_ROLE_WEIGHT);
    int shift = dml_graph_find_param(graph, fusion->norm, DML_ROLE_NORM_BIAS);
    const struct cuda_param *item = &params->items[weight];
    struct cuda_norm norm = cuda_norm_of(params, fusion->norm);
    on->kernels->norm_affine(on->stream, &norm, cuda_value(params, fusion->node, DML_ROLE_BIAS),
                             norm.channels, params->scale,
                             params->folded + params->items[shift].offset);
    on->kernels->scale_outputs(on->stream, item->out, item->taps * item->stored_in,
                               params->values + item->offset, params->scale,
                               params->folded + item->offset);
}

/* Index of the parameter that holds a convolution's bias; -1: it has none. */
static int bias_of(const struct dml_graph *graph, int node, int norm) {
    return norm >= 0 ? dml_graph_find_param(graph, norm, DML_ROLE_NORM_BIAS)
                     : dml_graph_find_param(graph, node, DML_ROLE_BIAS);
}

/* Writes `narrow`. */
static void narrow(struct cuda_params *params, const struct plan_fusion *fusion) {
    const struct cuda_on *on = params->on;
    const float *from = fusion->norm >= 0 ? params->folded : params->values;
    const int indices[2] = {dml_graph_find_param(params->graph, fusion->node, DML_ROLE_WEIGHT),
                            bias_of(params->graph, fusion->node, fusion->norm)};
    for (int i = 0; i < 2; i++) {
        const struct cuda_param *item = &params->items[indices[i]];
        if (indices[i] >= 0)
            on->kernels->narrow(on->stream, item->count, from + item->offset,
                                params->narrow + item->offset * plan_element_size(PLAN_BFLOAT16));
    }
}

void cuda_params_prepare(struct cuda_params *params, const struct plan_fusions *fusions,
                         bool folds) {
    if ((int)params->ready == (folds ? CUDA_FOLDED : CUDA_PLAIN))
        return;
    for (int u = 0; u < fusions->count; u++) {
        const struct plan_fusion *fusion = &fusions->fusions[u];
        if (fusion->kind != PLAN_FUSION_CONV)
            continue;
        if (fusion->norm >= 0)
            fold(params, fusion);
        if (params->element == PLAN_BFLOAT16)
            narrow(params, fusion);
    }
    params->ready = folds ? CUDA_FOLDED : CUDA_PLAIN;
}

const void *cuda_conv_values(const struct cuda_params *params, int node, int norm,
                             const void **bias) {
    int weight = dml_graph_find_param(params->graph, node, DML_ROLE_WEIGHT);
    int shift = bias_of(params->graph, node, norm);
    size_t size = plan_element_size(params->element);
    const char *from = params->element == PLAN_BFLOAT16 ? params->narrow
                       : norm >= 0                      ? (char *)params->folded
                                                        : (char *)params->values;
    *bias = shift >= 0 ? from + params->items[shift].offset * size : NULL;
    return from + params->items[weight].offset * size;
}
