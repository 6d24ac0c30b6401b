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

struct plan_step plan_step_make(enum plan_step_kind kind, int fusion) {
    struct plan_ref none = {.slot = -1};
    return (struct plan_step){.kind = kind,
                              .fusion = fusion,
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
    const struct plan_fusion *fusion = &plan->fusions.fusions[u];
    int layer = plan->graph->nodes[fusion->node].layer;
    bool last = plan->graph->layers && layer >= plan->graph->layers;
    bool sum = fusion->kind == PLAN_FUSION_POINTWISE && fusion->norm < 0 && fusion->affine < 0;
    bool pure = plan_is_operation(fusion->kind) || sum;
    return plan->traits->recompute && pure && !last ? layer : 0;
}

bool plan_recomputes(const struct plan *plan, int u) {
    int block = plan_block(plan, u);
    if (!block || u == plan->fusions.output)
        return false;
    for (int v = u + 1; v <= plan->fusions.fusions[u].last_consumer; v++) {
        const struct plan_fusion *user = &plan->fusions.fusions[v];
        bool uses = user->residual == u;
        for (int k = 0; k < user->input_count; k++)
            uses |= user->inputs[k] == u;
        if (uses && plan_block(plan, v) != block)
            return false;
    }
    return true;
}

bool plan_masked_by_pool(const struct plan *plan, int fusion) {
    const struct plan_fusion *u = &plan->fusions.fusions[fusion];
    return plan->traits->pool_masks && u->relu && u->consumers == 1 &&
           fusion != plan->fusions.output &&
           plan->fusions.fusions[u->last_consumer].kind == PLAN_FUSION_MAX_POOL;
}
