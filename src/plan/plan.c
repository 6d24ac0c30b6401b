#include "plan/steps.h"

#include "base/memory.h"

#include <stdlib.h>

/* Whether unit `u` may write its result over its residual `r`: nobody needs that any more. */
static bool may_overwrite(const struct plan *plan, int u, int r) {
    const struct plan_unit *unit = &plan->units.units[u], *other = &plan->units.units[r];
    if (!plan->traits->overwrites_residual || unit->inputs[0] == r || other->last_consumer != u)
        return false;
    if (plan->kind == PLAN_EMBED)
        return true;
    /* Its value is also needed in the backward pass of what made it, but for these. */
    return other->consumers == 1 && !other->relu &&
           (other->kind == PLAN_UNIT_CONV || other->kind == PLAN_UNIT_NORM);
}

/* What units compute with, once it is known which write over their residual. */
static enum dml_status make_kernels(struct plan *plan) {
    const struct plan_traits *traits = plan->traits;
    plan->kernels = dml_alloc((size_t)plan->units.count, sizeof *plan->kernels);
    if (!plan->kernels)
        return DML_ERROR_MEMORY;
    enum dml_status status = DML_OK;
    for (int u = 0; status == DML_OK && u < plan->units.count; u++) {
        struct plan_unit *unit = &plan->units.units[u];
        unit->overwrites = unit->residual >= 0 && may_overwrite(plan, u, unit->residual);
        if (traits->make_kernels)
            status = traits->make_kernels(traits->context, plan, u, &plan->kernels[u]);
    }
    return status;
}

static enum dml_status build(struct plan *plan) {
    enum dml_status status =
        plan_units_make(plan->graph, plan_folds(plan), plan->traits, &plan->units);
    if (status == DML_OK)
        status = make_kernels(plan);
    if (status != DML_OK)
        return status;
    size_t count = (size_t)plan->units.count;
    struct plan_ref *refs = dml_alloc(2 * count, sizeof *refs);
    status = refs ? plan_forward(plan, refs, refs + count) : DML_ERROR_MEMORY;
    if (status == DML_OK && plan->kind == PLAN_TRAIN)
        status = plan_backward(plan, refs, refs + count);
    if (status == DML_OK)
        status = plan_place(plan);
    free(refs);
    return status;
}

enum dml_status plan_create(const struct dml_graph *graph, const struct plan_traits *traits,
                            enum plan_kind kind, size_t n, struct plan **out) {
    struct plan *plan = dml_alloc(1, sizeof *plan);
    *out = NULL;
    if (!plan)
        return DML_ERROR_MEMORY;
    *plan = (struct plan){.kind = kind, .n = n, .graph = graph, .traits = traits};
    enum dml_status status = build(plan);
    if (status != DML_OK)
        plan_destroy(plan);
    else
        *out = plan;
    return status;
}

void plan_destroy(struct plan *plan) {
    if (!plan)
        return;
    for (int u = 0; plan->kernels && u < plan->units.count; u++)
        if (plan->kernels[u])
            plan->traits->destroy_kernels(plan->kernels[u]);
    free(plan->kernels);
    plan_units_free(&plan->units);
    free(plan->steps);
    free(plan->slots);
    free(plan);
}

size_t plan_unit_state(const struct plan *plan, const struct plan_unit *unit) {
    size_t values = plan->n * unit->layout.image;
    size_t channels = plan_layout_channels(&unit->layout);
    bool training = plan->kind == PLAN_TRAIN;
    switch (unit->kind) {
    case PLAN_UNIT_NORM: /* mean, variance; scale and shift */
        return 4 * channels * sizeof(float);
    case PLAN_UNIT_L2_NORMALIZE:
        return plan->n * sizeof(float);
    case PLAN_UNIT_MAX_POOL:
        return training ? values : 0;
    case PLAN_UNIT_GLOBAL_MAX_POOL:
        return training ? values * sizeof(int32_t) : 0;
    case PLAN_UNIT_GLOBAL_GEM_POOL:
        return training ? 2 * values * sizeof(float) : 0;
    case PLAN_UNIT_POINTWISE: /* scale and shift */
        return unit->norm >= 0 || unit->affine >= 0 ? 2 * channels * sizeof(float) : 0;
    default:
        return 0;
    }
}
