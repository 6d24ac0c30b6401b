#include "backends/cpu/traits.h"

#include "backends/cpu/align.h"
#include "backends/cpu/operations/operation.h"

static enum dml_status make_conv(void *context, const struct plan *plan, int u, void **out) {
    const struct cpu_planning *planning = context;
    const struct plan_fusion *fusion = &plan->fusions.fusions[u];
    if (fusion->kind != PLAN_FUSION_CONV)
        return DML_OK;
    const struct dml_node *node = &plan->graph->nodes[fusion->node];
    bool training = plan->kind == PLAN_TRAIN;
    struct cpu_conv_shape shape = {
        .n = plan->n,
        .input = plan_input_of(plan, fusion)->layout,
        .output = fusion->layout,
        .kernel_h = node->kernel_h,
        .kernel_w = node->kernel_w,
        .stride_h = node->stride_h,
        .stride_w = node->stride_w,
        .pad_h = node->pad_h,
        .pad_w = node->pad_w,
        .groups = node->groups,
        .bias = fusion->norm >= 0 || node->has_bias,
        .relu = fusion->relu,
        .residual = fusion->residual < 0 ? CPU_RESIDUAL_NONE
                    : fusion->overwrites ? CPU_RESIDUAL_IN_PLACE
                                         : CPU_RESIDUAL_SEPARATE,
        .training = training,
        .input_gradient = training && plan_input_of(plan, fusion)->needs_grad,
    };
    int weight = dml_graph_find_param(plan->graph, fusion->node, DML_ROLE_WEIGHT);
    struct cpu_conv *conv = NULL;
    enum dml_status status =
        cpu_conv_create(planning->engine, &shape, planning->params->items[weight].weights, &conv);
    *out = conv;
    return !status ? DML_OK : dml_fail_within(status, "%s", node->name);
}

static void destroy_conv(void *kernels) {
    cpu_conv_destroy(kernels);
}

size_t cpu_grad_bias_offset(const struct cpu_params *params, const struct plan_fusion *fusion) {
    int weight = dml_graph_find_param(params->graph, fusion->node, DML_ROLE_WEIGHT);
    return cpu_aligned_floats(params->items[weight].count);
}

size_t cpu_grad_scratch_offset(const struct cpu_params *params, const struct plan_fusion *fusion) {
    return cpu_grad_bias_offset(params, fusion) +
           cpu_aligned_floats(plan_layout_channels(&fusion->layout));
}

static bool reads_input(void *context, const struct plan_fusion *fusion) {
    (void)context;
    return cpu_op_of(fusion->kind)->reads_input;
}

static size_t state(void *context, const struct plan *plan, int u) {
    (void)context;
    const struct plan_fusion *fusion = &plan->fusions.fusions[u];
    const struct cpu_op *op = cpu_op_of(fusion->kind);
    if (!op)
        return plan_fusion_state(plan, fusion);
    return op->state ? op->state(plan, fusion) : 0;
}

static size_t scratch(void *context, const struct plan *plan, const struct plan_step *step) {
    const struct cpu_planning *planning = context;
    const struct plan_fusion *fusion = plan_fusion_of(plan, step);
    const struct cpu_conv *conv = plan->kernels[step->fusion];
    const struct cpu_op *op = cpu_op_of(fusion->kind);
    size_t channels = plan_layout_channels(&fusion->layout);
    switch (step->kind) {
    case PLAN_STEP_FORWARD:
        if (conv)
            return cpu_conv_forward_scratch(conv);
        return op && op->forward_scratch ? op->forward_scratch(plan, fusion) : 0;
    case PLAN_STEP_CONV_WEIGHTS:
        return cpu_grad_scratch_offset(planning->params, fusion) * sizeof(float) +
               cpu_conv_weights_scratch(conv);
    case PLAN_STEP_CONV_DATA:
        return cpu_conv_data_scratch(conv);
    case PLAN_STEP_NORM:
        return channels * (2 * sizeof(double) + 3 * sizeof(float));
    case PLAN_STEP_FROZEN_NORM:
        return channels * 2 * sizeof(double);
    case PLAN_STEP_OPERATION:
        return op->backward_scratch ? op->backward_scratch(plan, fusion) : 0;
    default:
        return 0;
    }
}

struct plan_traits cpu_traits(struct cpu_planning *planning, int block) {
    return (struct plan_traits){
        .backend = "cpu",
        .context = planning,
        .order = PLAN_BLOCKED,
        .block = block,
        .image_block = 1,
        .element = planning->params->element,
        .tokens = planning->params->rounding.pairs ? PLAN_BFLOAT16 : PLAN_FLOAT32,
        .alignment = CPU_ALIGNMENT,
        .patches = true,
        .overwrites_residual = true,
        .pool_masks = true,
        .reads_input = reads_input,
        .make_kernels = make_conv,
        .destroy_kernels = destroy_conv,
        .state = state,
        .scratch = scratch,
    };
}
