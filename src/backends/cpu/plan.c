#include "backends/cpu/plan.h"

#include "backends/cpu/operations/operation.h"
#include "base/memory.h"

#include <stdlib.h>

int cpu_plan_slot(struct cpu_plan *plan, size_t bytes) {
    void *slots = plan->slots;
    if (dml_grow(&slots, &plan->slot_capacity, plan->slot_count + 1, sizeof *plan->slots) !=
        DML_OK) {
        plan->failed = true;
        return -1;
    }
    plan->slots = slots;
    plan->slots[plan->slot_count] =
        (struct cpu_slot){.bytes = cpu_aligned_bytes(bytes), .first = -1, .last = -1};
    return (int)plan->slot_count++;
}

struct cpu_ref cpu_plan_tensor(struct cpu_plan *plan, const struct cpu_layout *layout) {
    return (struct cpu_ref){
        .slot = cpu_plan_slot(plan, cpu_layout_bytes(layout, plan->n)),
        .image = layout->image,
        .element = layout->element,
    };
}

struct cpu_ref cpu_plan_scratch(struct cpu_plan *plan, size_t bytes) {
    return (struct cpu_ref){.slot = bytes ? cpu_plan_slot(plan, bytes) : -1};
}

struct cpu_step cpu_step_make(enum cpu_step_kind kind, int unit) {
    struct cpu_ref none = {.slot = -1};
    return (struct cpu_step){.kind = kind,
                             .unit = unit,
                             .in = none,
                             .out = none,
                             .other = none,
                             .state = none,
                             .scratch = none};
}

static void touch(struct cpu_plan *plan, struct cpu_ref ref) {
    if (ref.slot < 0)
        return;
    struct cpu_slot *slot = &plan->slots[ref.slot];
    int now = (int)plan->step_count;
    if (slot->first < 0)
        slot->first = now;
    slot->last = now;
}

bool cpu_plan_step(struct cpu_plan *plan, const struct cpu_step *step) {
    void *steps = plan->steps;
    if (plan->failed ||
        dml_grow(&steps, &plan->step_capacity, plan->step_count + 1, sizeof *plan->steps) != DML_OK)
        return false;
    plan->steps = steps;
    touch(plan, step->in);
    touch(plan, step->out);
    touch(plan, step->other);
    touch(plan, step->state);
    touch(plan, step->scratch);
    for (int t = 0; t < step->term_count; t++)
        touch(plan, step->terms[t]);
    plan->steps[plan->step_count++] = *step;
    return true;
}

bool cpu_plan_masked_by_pool(const struct cpu_plan *plan, int unit) {
    const struct cpu_unit *u = &plan->units.units[unit];
    return u->relu && u->consumers == 1 && unit != plan->units.output &&
           plan->units.units[u->last_consumer].kind == CPU_MAX_POOL;
}

/* Whether unit `u` may write its result over its residual `r`: nobody needs that any more. */
static bool may_overwrite(const struct cpu_plan *plan, int u, int r) {
    const struct cpu_unit *unit = &plan->units.units[u], *other = &plan->units.units[r];
    if (unit->inputs[0] == r || other->last_consumer != u)
        return false;
    if (plan->kind == CPU_PLAN_EMBED)
        return true;
    /* Its value is also needed in the backward pass of what made it, but for these. */
    return other->consumers == 1 && !other->relu &&
           (other->kind == CPU_CONV || other->kind == CPU_NORM);
}

static enum dml_status make_conv(struct cpu_plan *plan, struct cpu_engine *engine, int u) {
    const struct cpu_unit *unit = &plan->units.units[u];
    const struct dml_node *node = &plan->graph->nodes[unit->node];
    int input = unit->inputs[0];
    bool training = plan->kind == CPU_PLAN_TRAIN;
    struct cpu_conv_shape shape = {
        .n = plan->n,
        .input = plan->units.units[input].layout,
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
        .residual = unit->residual < 0                       ? CPU_RESIDUAL_NONE
                    : may_overwrite(plan, u, unit->residual) ? CPU_RESIDUAL_IN_PLACE
                                                             : CPU_RESIDUAL_SEPARATE,
        .training = training,
        .input_gradient = training && plan->units.units[input].needs_grad,
    };
    int weight = cpu_params_find(plan->params, unit->node, DML_ROLE_WEIGHT);
    enum dml_status status =
        cpu_conv_create(engine, &shape, plan->params->items[weight].weights, &plan->convs[u]);
    return status == DML_OK ? DML_OK : dml_fail_within(status, "%s", node->name);
}

size_t cpu_grad_bias_offset(const struct cpu_plan *plan, int unit) {
    int weight = cpu_params_find(plan->params, plan->units.units[unit].node, DML_ROLE_WEIGHT);
    return cpu_aligned_floats(plan->params->items[weight].count);
}

size_t cpu_grad_scratch_offset(const struct cpu_plan *plan, int unit) {
    const struct cpu_layout *layout = &plan->units.units[unit].layout;
    return cpu_grad_bias_offset(plan, unit) + cpu_aligned_floats(cpu_layout_channels(layout));
}

/* What a unit keeps for its backward pass beside its tensor. */
static struct cpu_ref make_state(struct cpu_plan *plan, const struct cpu_unit *unit) {
    size_t values = plan->n * unit->layout.image;
    size_t channels = cpu_layout_channels(&unit->layout);
    bool training = plan->kind == CPU_PLAN_TRAIN;
    if (unit->kind == CPU_NORM) /* mean, variance; scale and shift */
        return cpu_plan_scratch(plan, 4 * channels * sizeof(float));
    if (unit->kind == CPU_L2_NORMALIZE)
        return cpu_plan_scratch(plan, plan->n * sizeof(float));
    if (unit->kind == CPU_MAX_POOL && training)
        return cpu_plan_scratch(plan, values);
    if (unit->kind == CPU_GLOBAL_MAX_POOL && training)
        return cpu_plan_scratch(plan, values * sizeof(int32_t));
    if (unit->kind == CPU_GLOBAL_GEM_POOL && training)
        return cpu_plan_scratch(plan, 2 * values * sizeof(float));
    const struct cpu_op *op = cpu_op_of(unit->kind);
    if (op && op->state)
        return cpu_plan_scratch(plan, op->state(plan, unit));
    if (unit->kind == CPU_POINTWISE && (unit->norm >= 0 || unit->affine >= 0))
        return cpu_plan_scratch(plan, 2 * channels * sizeof(float)); /* scale and shift */
    return (struct cpu_ref){.slot = -1};
}

/* Whether the backward pass reads the unit's value as more than the mask of its own relu: by steps
 * that expect it in the tensor's own layout, not inside a concatenation's. */
static bool value_is_read_back(const struct cpu_plan *plan, const struct cpu_unit *unit) {
    return unit->kind == CPU_L2_NORMALIZE ||
           (unit->kind == CPU_MAX_POOL && cpu_plan_masked_by_pool(plan, unit->inputs[0]));
}

/* Inputs that only the concatenation uses live on in it, so their own memory is free. */
static void move_into_concat(struct cpu_plan *plan, int u, struct cpu_ref *values) {
    const struct cpu_unit *unit = &plan->units.units[u];
    size_t block = (size_t)unit->layout.block, channel = 0;
    for (int k = 0; k < unit->input_count; k++) {
        const struct cpu_unit *input = &plan->units.units[unit->inputs[k]];
        if (input->consumers == 1 && channel % block == 0 && !value_is_read_back(plan, input))
            values[unit->inputs[k]] = (struct cpu_ref){
                .slot = values[u].slot,
                .offset = values[u].offset + channel * unit->layout.pixels,
                .image = values[u].image,
                .element = values[u].element,
            };
        channel += (size_t)input->layout.channels;
    }
}

static bool forward_step(struct cpu_plan *plan, int u, struct cpu_ref *values,
                         struct cpu_ref *states) {
    const struct cpu_unit *unit = &plan->units.units[u];
    struct cpu_step step = cpu_step_make(CPU_STEP_FORWARD, u);
    if (unit->kind == CPU_CONCAT) {
        step.term_count = unit->input_count;
        for (int k = 0; k < unit->input_count; k++)
            step.terms[k] = values[unit->inputs[k]];
    } else if (unit->input_count) {
        step.in = values[unit->inputs[0]];
    }
    if (unit->residual >= 0)
        step.other = values[unit->residual];
    bool overwrite = unit->residual >= 0 && may_overwrite(plan, u, unit->residual);
    bool same_place = plan->kind == CPU_PLAN_EMBED && unit->kind == CPU_POINTWISE &&
                      plan->units.units[unit->inputs[0]].last_consumer == u &&
                      unit->residual != unit->inputs[0];
    if (overwrite)
        values[u] = step.other;
    else if (same_place)
        values[u] = step.in;
    else
        values[u] = cpu_plan_tensor(plan, &unit->layout);
    step.out = values[u];
    states[u] = step.state = make_state(plan, unit);
    const struct cpu_op *op = cpu_op_of(unit->kind);
    if (op && op->forward_scratch)
        step.scratch = cpu_plan_scratch(plan, op->forward_scratch(plan, unit));
    if (plan->convs[u])
        step.scratch = cpu_plan_scratch(plan, cpu_conv_forward_scratch(plan->convs[u]));
    if (!cpu_plan_step(plan, &step))
        return false;
    if (unit->kind == CPU_CONCAT)
        move_into_concat(plan, u, values);
    return true;
}

static enum dml_status make_steps(struct cpu_plan *plan, struct cpu_ref *values,
                                  struct cpu_ref *states) {
    for (int u = 0; u < plan->units.count; u++)
        if (!forward_step(plan, u, values, states))
            return DML_ERROR_MEMORY;
    plan->forward_steps = plan->step_count;
    plan->embeddings = values[plan->units.output];
    if (plan->kind == CPU_PLAN_EMBED)
        return DML_OK;
    return cpu_plan_backward_steps(plan, values, states);
}

/* Larger slots first, so that small ones fill the gaps. */
struct order {
    const struct cpu_slot *slots;
    int index;
};
static int by_size(const void *a, const void *b) {
    const struct order *x = a, *y = b;
    size_t p = x->slots[x->index].bytes, q = y->slots[y->index].bytes;
    return p != q ? (p < q) - (p > q) : x->index - y->index;
}

static bool overlap(const struct cpu_slot *a, const struct cpu_slot *b) {
    return a->first <= b->last && b->first <= a->last;
}

/* The lowest place for `slot` beside those of `placed` (ordered by offset) that are alive with
 * it. */
static size_t find_place(const struct cpu_slot *slots, const int *placed, size_t count,
                         const struct cpu_slot *slot) {
    size_t offset = 0;
    for (size_t i = 0; i < count; i++) {
        const struct cpu_slot *other = &slots[placed[i]];
        if (!overlap(slot, other) || other->offset + other->bytes <= offset)
            continue;
        if (other->offset >= offset + slot->bytes)
            break;
        offset = other->offset + other->bytes;
    }
    return offset;
}

static enum dml_status place_slots(struct cpu_plan *plan) {
    size_t count = plan->slot_count, done = 0;
    struct order *order = dml_alloc(count, sizeof *order);
    int *placed = dml_alloc(count, sizeof *placed);
    if (!order || !placed) {
        free(order);
        free(placed);
        return DML_ERROR_MEMORY;
    }
    for (size_t i = 0; i < count; i++)
        order[i] = (struct order){plan->slots, (int)i};
    qsort(order, count, sizeof *order, by_size);
    for (size_t i = 0; i < count; i++) {
        struct cpu_slot *slot = &plan->slots[order[i].index];
        if (slot->first < 0)
            continue;
        slot->offset = find_place(plan->slots, placed, done, slot);
        size_t at = done++;
        for (; at > 0 && plan->slots[placed[at - 1]].offset > slot->offset; at--)
            placed[at] = placed[at - 1];
        placed[at] = order[i].index;
        if (slot->offset + slot->bytes > plan->arena_bytes)
            plan->arena_bytes = slot->offset + slot->bytes;
    }
    free(order);
    free(placed);
    return DML_OK;
}

static enum dml_status build(struct cpu_plan *plan, struct cpu_engine *engine, int block) {
    enum dml_status status = cpu_units_make(plan->graph, cpu_plan_folds(plan), block,
                                            plan->params->element, &plan->units);
    if (status != DML_OK)
        return status;
    size_t count = (size_t)plan->units.count;
    plan->convs = dml_alloc(count, sizeof *plan->convs);
    struct cpu_ref *refs = dml_alloc(2 * count, sizeof *refs);
    if (!plan->convs || !refs)
        status = DML_ERROR_MEMORY;
    for (int u = 0; status == DML_OK && u < plan->units.count; u++)
        if (plan->units.units[u].kind == CPU_CONV)
            status = make_conv(plan, engine, u);
    if (status == DML_OK)
        status = make_steps(plan, refs, refs + count);
    if (status == DML_OK)
        status = place_slots(plan);
    free(refs);
    return status;
}

enum dml_status cpu_plan_create(const struct dml_graph *graph, struct cpu_params *params,
                                struct cpu_engine *engine, int block, enum cpu_plan_kind kind,
                                size_t n, struct cpu_plan **out) {
    struct cpu_plan *plan = dml_alloc(1, sizeof *plan);
    *out = NULL;
    if (!plan)
        return DML_ERROR_MEMORY;
    *plan = (struct cpu_plan){.kind = kind, .n = n, .graph = graph, .params = params};
    enum dml_status status = build(plan, engine, block);
    if (status != DML_OK)
        cpu_plan_destroy(plan);
    else
        *out = plan;
    return status;
}

void cpu_plan_destroy(struct cpu_plan *plan) {
    if (!plan)
        return;
    for (int u = 0; plan->convs && u < plan->units.count; u++)
        cpu_conv_destroy(plan->convs[u]);
    free(plan->convs);
    cpu_units_free(&plan->units);
    free(plan->steps);
    free(plan->slots);
    free(plan);
}
