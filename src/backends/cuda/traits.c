#include "backends/cuda/run.h"

void *cuda_carve(struct cuda_carving *carving, size_t bytes) {
    void *piece = carving->memory ? carving->memory + carving->bytes : NULL;
    carving->bytes += (bytes + 255) / 256 * 256;
    return piece;
}

struct cuda_summing cuda_carve_sums(struct cuda_carving *carving, size_t width) {
    struct cuda_summing summing;
    summing.partial = cuda_carve(carving, cuda_sums_scratch(width) * sizeof(double));
    summing.sums = cuda_carve(carving, 2 * width * sizeof(double));
    return summing;
}

struct cuda_conv_parts cuda_conv_grads(const struct cuda_params *params,
                                       const struct plan_fusion *fusion, size_t scratch,
                                       struct cuda_carving carving) {
    int weight = dml_graph_find_param(params->graph, fusion->node, DML_ROLE_WEIGHT);
    size_t channels = plan_layout_channels(&fusion->layout);
    struct cuda_conv_parts parts;
    parts.weights =
        cuda_carve(&carving, params->items[weight].count * plan_element_size(params->element));
    parts.dots = cuda_carve(&carving, channels * sizeof(double));
    parts.shift = cuda_carve(&carving, channels * sizeof(float));
    parts.scale = cuda_carve(&carving, channels * sizeof(float));
    parts.offset = cuda_carve(&carving, channels * sizeof(float));
    parts.summing = cuda_carve_sums(&carving, channels);
    parts.scratch = cuda_carve(&carving, scratch);
    parts.bytes = carving.bytes;
    return parts;
}

static enum dml_status make_conv(void *context, const struct plan *plan, int u, void **out) {
    const struct cuda_planning *planning = context;
    const struct plan_fusion *fusion = &plan->fusions.fusions[u];
    if (fusion->kind != PLAN_FUSION_CONV)
        return DML_OK;
    const struct dml_node *node = &plan->graph->nodes[fusion->node];
    const struct plan_layout *in = &plan_input_of(plan, fusion)->layout;
    bool training = plan->kind == PLAN_TRAIN;
    const struct cuda_conv_shape shape = {
        .n = plan->n,
        .in_c = (int)plan_layout_channels(in),
        .in_h = in->height,
        .in_w = in->width,
        .out_c = (int)plan_layout_channels(&fusion->layout),
        .out_h = node->height,
        .out_w = node->width,
        .kernel_h = node->kernel_h,
        .kernel_w = node->kernel_w,
        .stride_h = node->stride_h,
        .stride_w = node->stride_w,
        .pad_h = node->pad_h,
        .pad_w = node->pad_w,
        .groups = node->groups ? node->groups : 1,
        .bias = fusion->norm >= 0 || node->has_bias,
        .residual = fusion->residual >= 0,
        .relu = fusion->relu,
        .training = training,
        .input_gradient = training && plan_input_of(plan, fusion)->needs_grad,
    };
    const struct cuda_on *on = planning->on;
    char reason[CUDA_REASON] = "no memory";
    int weight = dml_graph_find_param(plan->graph, fusion->node, DML_ROLE_WEIGHT);
    if ((size_t)(shape.in_c / shape.groups) != planning->params->items[weight].stored_in)
        return dml_fail(DML_ERROR_UNSUPPORTED,
                        "GPU: %s: grouped convolutions of the image, or of what only pools "
                        "have made of it, are not supported",
                        node->name);
    struct cuda_conv *conv = on->api->conv_create(on->device, &shape, reason);
    *out = conv;
    return conv ? DML_OK : dml_fail(DML_ERROR_UNSUPPORTED, "GPU: %s: %s", node->name, reason);
}

static bool reads_input(void *context, const struct plan_fusion *fusion) {
    (void)context;
    switch (fusion->kind) {
    case PLAN_FUSION_LINEAR:
    case PLAN_FUSION_LAYER_NORM:
    case PLAN_FUSION_PATCHES:
    case PLAN_FUSION_ATTENTION:
    case PLAN_FUSION_GELU:
    case PLAN_FUSION_LAYER_SCALE:
        return true;
    default:
        return false;
    }
}

static size_t state(void *context, const struct plan *plan, int u) {
    (void)context;
    const struct plan_fusion *fusion = &plan->fusions.fusions[u];
    return plan_is_operation(fusion->kind) ? cuda_operation_state(plan, fusion)
                                           : plan_fusion_state(plan, fusion);
}

static size_t scratch(void *context, const struct plan *plan, const struct plan_step *step) {
    const struct cuda_planning *planning = context;
    const struct cuda_api *api = planning->on->api;
    const struct plan_fusion *fusion = plan_fusion_of(plan, step);
    const struct cuda_conv *conv = plan->kernels[step->fusion];
    size_t channels = plan_layout_channels(&fusion->layout);
    struct cuda_carving carving = {NULL, 0};
    if (plan_is_operation(fusion->kind))
        return cuda_operation_scratch(plan, step);
    switch (step->kind) {
    case PLAN_STEP_FORWARD:
        if (conv)
            return api->conv_scratch(conv, CUDA_FORWARD);
        if (fusion->kind == PLAN_FUSION_NORM)
            cuda_carve_sums(&carving, channels);
        return carving.bytes;
    case PLAN_STEP_CONV_WEIGHTS:
        return cuda_conv_grads(planning->params, fusion, api->conv_scratch(conv, CUDA_WEIGHTS),
                               (struct cuda_carving){NULL, 0})
            .bytes;
    case PLAN_STEP_CONV_DATA:
        return api->conv_scratch(conv, CUDA_DATA);
    case PLAN_STEP_NORM:
        cuda_carve_sums(&carving, channels);
        cuda_carve(&carving, 3 * channels * sizeof(float));
        return carving.bytes;
    case PLAN_STEP_FROZEN_NORM:
        cuda_carve_sums(&carving, channels);
        return carving.bytes;
    case PLAN_STEP_GLOBAL_GEM_POOL:
        cuda_carve(&carving, sizeof(double));
        return carving.bytes;
    default:
        return 0;
    }
}

struct plan_traits cuda_traits(struct cuda_planning *planning) {
    return (struct plan_traits){
        .backend = "cuda",
        .context = planning,
        .order = PLAN_CHANNELS_LAST,
        .block = 1,
        .image_block = CUDA_IMAGE_CHANNELS,
        .element = planning->params->element,
        .alignment = 256,
        .patches = true,
        .pool_masks = true,
        .reads_input = reads_input,
        .make_kernels = make_conv,
        .destroy_kernels = planning->on->api->conv_destroy,
        .state = state,
        .scratch = scratch,
    };
}
