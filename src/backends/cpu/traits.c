#include "backends/cpu/traits.h"

#include "backends/cpu/align.h"
#include "backends/cpu/operations/operation.h"

static enum dml_status make_conv(void *context, const struct plan *plan, int u, void **out) {
    const struct cpu_planning *planning = context;
    const struct plan_unit *unit = &plan->units.units[u];
    if (unit->kind != PLAN_UNIT_CONV)
        return DML_OK;
    const struct dml_node *node = &plan->graph->nodes[unit->node];
    bool training = plan->kind == PLAN_TRAIN;
    struct cpu_conv_shape shape = {
        .n = plan->n,
        .input = plan_input_of(plan, unit)->layout,
        .output = unit->layout,
        .kernel_h = node->kernel_h,
        .kernel_w = node->kernel_w,
        .stride_h = node->stride_h,
        .stride_w = node->stride_w,
        .pad_h = node->pad_h,
        .pad_w = node->pad_w,
        .groups = node->groups,
        .bias = unit->norm >= 0 || node->has_bias,
        .relu = unit->relu,
        .residual = unit->residual < 0 ? CPU_RESIDUAL_NONE
                    : unit->overwrites ? CPU_RESIDUAL_IN_PLACE
                                       : CPU_RESIDUAL_SEPARATE,
        .training = training,
        .input_gradient = training && plan_input_of(plan, unit)->needs_grad,
    };
    int weight = dml_graph_find_param(plan->graph, unit->node, DML_ROLE_WEIGHT);
    struct cpu_conv *conv = NULL;
    enum dml_status status =
        cpu_conv_create(planning->engine, &shape, planning->params->items[weight].weights, &conv);
    *out = conv;
    return status == DML_OK ? DML_OK : dml_fail_within(status, "%s", node->name);
}

static void destroy_conv(void *kernels) {
    cpu_conv_destroy(kernels);
}

size_t cpu_grad_bias_offset(const struct cpu_params *params, const struct plan_unit *unit) {
    int weight = dml_graph_find_param(params->graph, unit->node, DML_ROLE_WEIGHT);
    return cpu_aligned_floats(params->items[weight].count);
}

size_t cpu_grad_scratch_offset(const struct cpu_params *params, const struct plan_unit *unit) {
    return cpu_grad_bias_offset(params, unit) +
           cpu_aligned_floats(plan_layout_channels(&unit->layout));
}

static bool reads_input(void *context, const struct plan_unit *unit) {
    (void)context;
    return cpu_op_of(unit->kind)->reads_input;
}

static size_t state(void *context, const struct plan *plan, int u) {
    (void)context;
    const struct plan_unit *unit = &plan->units.units[u];
    const struct cpu_op *op = cpu_op_of(unit->kind);
    if (!op)
        return plan_unit_state(plan, unit);
    return op->state ? op->state(plan, unit) : 0;
}

static size_t scratch(void *context, const struct plan *plan, const struct plan_step *step) {
    const struct cpu_planning *planning = context;
    const struct plan_unit *unit = plan_unit_of(plan, step);
    const struct cpu_conv *conv = plan->kernels[step->unit];
    const struct cpu_op *op = cpu_op_of(unit->kind);
    size_t channels = plan_layout_channels(&unit->layout);
    switch (step->kind) {
    case PLAN_STEP_FORWARD:
        if (conv)
            return cpu_conv_forward_scratch(conv);
        return op && op->forward_scratch ? op->forward_scratch(plan, unit) : 0;
    case PLAN_STEP_CONV_WEIGHTS:
        return cpu_grad_scratch_offset(planning->params, unit) * sizeof(float) +
               cpu_conv_weights_scratch(conv);
    case PLAN_STEP_CONV_DATA:
        return cpu_conv_data_scratch(conv);
    case PLAN_STEP_NORM:
        return channels * (2 * sizeof(double) + 3 * sizeof(float));
    case PLAN_STEP_FROZEN_NORM:
        return channels * 2 * sizeof(double);
    case PLAN_STEP_OPERATION:
        return op->backward_scratch ? op->backward_scratch(plan, unit) : 0;
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
