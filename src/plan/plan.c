#include "plan/steps.h"

#include "base/memory.h"

#include <stdlib.h>

/* Whether fusion `u` may write its result over its residual `r`: nothing needs it any more. */
static bool may_overwrite(const struct plan *plan, int u, int r) {
    const struct plan_fusion *fusion = &plan->fusions.fusions[u],
                             *other = &plan->fusions.fusions[r];
    if (!plan->traits->overwrites_residual || fusion->inputs[0] == r || other->last_consumer != u)
        return false;
    if (plan->kind == PLAN_EMBED)
        return true;
    /* Its value is also needed in the backward pass of what made it, except for these. */
    return other->consumers == 1 && !other->relu &&
           (other->kind == PLAN_FUSION_CONV || other->kind == PLAN_FUSION_NORM);
}

/* What fusions compute with, once it is known which write over their residual. */
static enum dml_status make_kernels(struct plan *plan) {
    const struct plan_traits *traits = plan->traits;
    plan->kernels = dml_alloc((size_t)plan->fusions.count, sizeof *plan->kernels);
    if (!plan->kernels)
        return DML_ERROR_MEMORY;
    enum dml_status status = DML_OK;
    for (int u = 0; !status && u < plan->fusions.count; u++) {
        struct plan_fusion *fusion = &plan->fusions.fusions[u];
        fusion->overwrites = fusion->residual >= 0 && may_overwrite(plan, u, fusion->residual);
        if (traits->make_kernels)
            status = traits->make_kernels(traits->context, plan, u, &plan->kernels[u]);
    }
    return status;
}

/* One more than the last learnable parameter of the fusion, or 0. */
static int params_end(const struct plan *plan, const struct plan_fusion *fusion) {
    const struct dml_graph *graph = plan->graph;
    int p = graph->param_count;
    for (; p > 0; p--) {
        const struct dml_graph_param *param = &graph->params[p - 1];
        bool own = param->node == fusion->node || param->node == fusion->norm ||
                   param->node == fusion->affine;
        if (own && dml_param_learnable(param))
            break;
    }
    return p;
}

static void settle(struct plan *plan) {
    int settled = 0;
    for (size_t s = plan->step_count; s-- > plan->forward_steps;) {
        struct plan_step *step = &plan->steps[s];
        int end =
            step->kind == PLAN_STEP_FORWARD ? 0 : params_end(plan, plan_fusion_of(plan, step));
        step->settled = settled;
        settled = end > settled ? end : settled;
    }
}

static enum dml_status build(struct plan *plan) {
    enum dml_status status =
        plan_fusions_make(plan->graph, plan_folds(plan), plan->traits, &plan->fusions);
    if (!status)
        status = make_kernels(plan);
    if (status)
        return status;
    size_t count = (size_t)plan->fusions.count;
    struct plan_ref *refs = dml_alloc(2 * count, sizeof *refs);
    status = refs ? plan_forward(plan, refs, refs + count) : DML_ERROR_MEMORY;
    if (!status && plan->kind == PLAN_TRAIN)
        status = plan_backward(plan, refs, refs + count);
    if (!status)
        status = plan_place(plan);
    free(refs);
    if (!status)
        settle(plan);
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
    if (status)
        plan_destroy(plan);
    else
        *out = plan;
    return status;
}

void plan_destroy(struct plan *plan) {
    if (!plan)
        return;
    for (int u = 0; plan->kernels && u < plan->fusions.count; u++)
        if (plan->kernels[u])
            plan->traits->destroy_kernels(plan->kernels[u]);
    free(plan->kernels);
    plan_fusions_free(&plan->fusions);
    free(plan->steps);
    free(plan->slots);
    free(plan);
}

size_t plan_fusion_state(const struct plan *plan, const struct plan_fusion *fusion) {
    size_t values = plan->n * fusion->layout.image;
    size_t channels = plan_layout_channels(&fusion->layout);
    bool training = plan->kind == PLAN_TRAIN;
    switch (fusion->kind) {
    case PLAN_FUSION_NORM: /* mean, variance; scale and shift */
        return 4 * channels * sizeof(float);
    case PLAN_FUSION_L2_NORMALIZE:
        return plan->n * sizeof(float);
    case PLAN_FUSION_MAX_POOL:
        return training ? values : 0;
    case PLAN_FUSION_GLOBAL_MAX_POOL:
        return training ? values * sizeof(int32_t) : 0;
    case PLAN_FUSION_GLOBAL_GEM_POOL:
        return training ? 2 * values * sizeof(float) : 0;
    case PLAN_FUSION_POINTWISE: /* scale and shift */
        return fusion->norm >= 0 || fusion->affine >= 0 ? 2 * channels * sizeof(float) : 0;
    default:
        return 0;
    }
}
