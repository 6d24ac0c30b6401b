#include "plan/steps.h"

#include "base/memory.h"

static int new_slot(struct plan *plan, size_t bytes) {
    void *slots = plan->slots;
    if (dml_grow(&slots, &plan->slot_capacity, plan->slot_count + 1, sizeof *plan->slots) !=
        DML_OK) {
        plan->failed = true;
        return -1;
    }
    plan->slots = slots;
    size_t alignment = plan->traits->alignment;
    plan->slots[plan->slot_count] = (struct plan_slot){
        .bytes = (bytes + alignment - 1) / alignment * alignment, .first = -1, .last = -1};
    return (int)plan->slot_count++;
}

struct plan_ref plan_tensor(struct plan *plan, const struct plan_layout *layout) {
    return (struct plan_ref){
        .slot = new_slot(plan, plan_layout_bytes(layout, plan->n)),
        .image = layout->image,
        .pixel = (size_t)layout->block,
        .element = layout->element,
    };
}

struct plan_ref plan_scratch(struct plan *plan, size_t bytes) {
    return (struct plan_ref){.slot = bytes ? new_slot(plan, bytes) : -1};
}

struct plan_step plan_step_make(enum plan_step_kind kind, int unit) {
    struct plan_ref none = {.slot = -1};
    return (struct plan_step){.kind = kind,
                              .unit = unit,
                              .in = none,
                              .out = none,
                              .other = none,
                              .state = none,
                              .scratch = none};
}

static void touch(struct plan *plan, struct plan_ref ref) {
    if (ref.slot < 0)
        return;
    struct plan_slot *slot = &plan->slots[ref.slot];
    int now = (int)plan->step_count;
    if (slot->first < 0)
        slot->first = now;
    slot->last = now;
}

bool plan_append(struct plan *plan, struct plan_step step) {
    const struct plan_traits *traits = plan->traits;
    if (traits->scratch && !plan->failed)
        step.scratch = plan_scratch(plan, traits->scratch(traits->context, plan, &step));
    void *steps = plan->steps;
    if (plan->failed ||
        dml_grow(&steps, &plan->step_capacity, plan->step_count + 1, sizeof *plan->steps) != DML_OK)
        return false;
    plan->steps = steps;
    touch(plan, step.in);
    touch(plan, step.out);
    touch(plan, step.other);
    touch(plan, step.state);
    touch(plan, step.scratch);
    for (int t = 0; t < step.term_count; t++)
        touch(plan, step.terms[t]);
    plan->steps[plan->step_count++] = step;
    return true;
}

int plan_block(const struct plan *plan, int u) {
    const struct plan_unit *unit = &plan->units.units[u];
    int layer = plan->graph->nodes[unit->node].layer;
    bool last = plan->graph->layers && layer >= plan->graph->layers;
    bool sum = unit->kind == PLAN_UNIT_POINTWISE && unit->norm < 0 && unit->affine < 0;
    bool pure = plan_is_operation(unit->kind) || sum;
    return plan->traits->recompute && pure && !last ? layer : 0;
}

bool plan_recomputes(const struct plan *plan, int u) {
    int block = plan_block(plan, u);
    if (!block || u == plan->units.output)
        return false;
    for (int v = u + 1; v <= plan->units.units[u].last_consumer; v++) {
        const struct plan_unit *user = &plan->units.units[v];
        bool uses = user->residual == u;
        for (int k = 0; k < user->input_count; k++)
            uses |= user->inputs[k] == u;
        if (uses && plan_block(plan, v) != block)
            return false;
    }
    return true;
}

bool plan_masked_by_pool(const struct plan *plan, int unit) {
    const struct plan_unit *u = &plan->units.units[unit];
    return plan->traits->pool_masks && u->relu && u->consumers == 1 && unit != plan->units.output &&
           plan->units.units[u->last_consumer].kind == PLAN_UNIT_MAX_POOL;
}
