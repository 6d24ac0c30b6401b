#include "plan/steps.h"

/* Whether the backward pass reads the unit's value as more than the mask of its own relu: by steps
 * that expect it in the tensor's own layout, not inside a concatenation's. */
static bool value_is_read_back(const struct plan *plan, const struct plan_unit *unit) {
    return unit->kind == PLAN_UNIT_L2_NORMALIZE ||
           (unit->kind == PLAN_UNIT_MAX_POOL && plan_masked_by_pool(plan, unit->inputs[0]));
}

/* Inputs that only the concatenation uses live on in it, so their own memory is free. */
static void move_into_concat(struct plan *plan, int u, struct plan_ref *values) {
    const struct plan_unit *unit = &plan->units.units[u];
    int channel = 0;
    for (int k = 0; k < unit->input_count; k++) {
        const struct plan_unit *input = &plan->units.units[unit->inputs[k]];
        if (input->consumers == 1 && channel % unit->grain == 0 && !value_is_read_back(plan, input))
            values[unit->inputs[k]] = (struct plan_ref){
                .slot = values[u].slot,
                .offset = values[u].offset + plan_layout_offset(&unit->layout, (size_t)channel),
                .image = values[u].image,
                .pixel = values[u].pixel,
                .element = values[u].element,
            };
        channel += input->layout.channels;
    }
}

bool plan_forward_step(struct plan *plan, int u, struct plan_ref *values, struct plan_ref *states) {
    const struct plan_unit *unit = &plan->units.units[u];
    struct plan_step step = plan_step_make(PLAN_STEP_FORWARD, u);
    if (unit->kind == PLAN_UNIT_CONCAT) {
        step.term_count = unit->input_count;
        for (int k = 0; k < unit->input_count; k++)
            step.terms[k] = values[unit->inputs[k]];
    } else if (unit->input_count) {
        step.in = values[unit->inputs[0]];
    }
    if (unit->residual >= 0)
        step.other = values[unit->residual];
    bool same_place = plan->kind == PLAN_EMBED && unit->kind == PLAN_UNIT_POINTWISE &&
                      plan->units.units[unit->inputs[0]].last_consumer == u &&
                      unit->residual != unit->inputs[0];
    if (unit->overwrites)
        values[u] = step.other;
    else if (same_place)
        values[u] = step.in;
    else
        values[u] = plan_tensor(plan, &unit->layout);
    step.out = values[u];
    const struct plan_traits *traits = plan->traits;
    states[u] = step.state =
        plan_scratch(plan, traits->state ? traits->state(traits->context, plan, u) : 0);
    if (!plan_append(plan, step))
        return false;
    if (unit->kind == PLAN_UNIT_CONCAT)
        move_into_concat(plan, u, values);
    return true;
}

enum dml_status plan_forward(struct plan *plan, struct plan_ref *values, struct plan_ref *states) {
    for (int u = 0; u < plan->units.count; u++)
        if (!plan_forward_step(plan, u, values, states))
            return DML_ERROR_MEMORY;
    plan->forward_steps = plan->step_count;
    plan->embeddings = values[plan->units.output];
    return DML_OK;
}
