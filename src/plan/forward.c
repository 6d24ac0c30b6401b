#include "plan/steps.h"

/* Whether the backward pass reads the fusion's value as more than the mask of its own relu: by
 * steps that expect it in the tensor's own layout, not inside a concatenation's. */
static bool value_is_read_back(const struct plan *plan, const struct plan_fusion *fusion) {
    return fusion->kind == PLAN_FUSION_L2_NORMALIZE ||
           (fusion->kind == PLAN_FUSION_MAX_POOL && plan_masked_by_pool(plan, fusion->inputs[0]));
}

/* Inputs that only the concatenation uses live on in it, so their own memory is free. */
static void move_into_concat(struct plan *plan, int u, struct plan_ref *values) {
    const struct plan_fusion *fusion = &plan->fusions.fusions[u];
    int channel = 0;
    for (int k = 0; k < fusion->input_count; k++) {
        const struct plan_fusion *input = &plan->fusions.fusions[fusion->inputs[k]];
        if (input->consumers == 1 && channel % fusion->grain == 0 &&
            !value_is_read_back(plan, input))
            values[fusion->inputs[k]] = (struct plan_ref){
                .slot = values[u].slot,
                .offset = values[u].offset + plan_layout_offset(&fusion->layout, (size_t)channel),
                .image = values[u].image,
                .pixel = values[u].pixel,
                .element = values[u].element,
            };
        channel += input->layout.channels;
    }
}

bool plan_forward_step(struct plan *plan, int u, struct plan_ref *values, struct plan_ref *states) {
    const struct plan_fusion *fusion = &plan->fusions.fusions[u];
    struct plan_step step = plan_step_make(PLAN_STEP_FORWARD, u);
    if (fusion->kind == PLAN_FUSION_CONCAT) {
        step.term_count = fusion->input_count;
        for (int k = 0; k < fusion->input_count; k++)
            step.terms[k] = values[fusion->inputs[k]];
    } else if (fusion->input_count) {
        step.in = values[fusion->inputs[0]];
    }
    if (fusion->residual >= 0)
        step.other = values[fusion->residual];
    bool same_place = plan->kind == PLAN_EMBED && fusion->kind == PLAN_FUSION_POINTWISE &&
                      plan->fusions.fusions[fusion->inputs[0]].last_consumer == u &&
                      fusion->residual != fusion->inputs[0];
    if (fusion->overwrites)
        values[u] = step.other;
    else if (same_place)
        values[u] = step.in;
    else
        values[u] = plan_tensor(plan, &fusion->layout);
    step.out = values[u];
    const struct plan_traits *traits = plan->traits;
    states[u] = step.state =
        plan_scratch(plan, traits->state ? traits->state(traits->context, plan, u) : 0);
    if (!plan_append(plan, step))
        return false;
    if (fusion->kind == PLAN_FUSION_CONCAT)
        move_into_concat(plan, u, values);
    return true;
}

enum dml_status plan_forward(struct plan *plan, struct plan_ref *values, struct plan_ref *states) {
    for (int u = 0; u < plan->fusions.count; u++)
        if (!plan_forward_step(plan, u, values, states))
            return DML_ERROR_MEMORY;
    plan->forward_steps = plan->step_count;
    plan->embeddings = values[plan->fusions.output];
    return DML_OK;
}
