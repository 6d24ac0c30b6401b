#include "backends/cpu/operations/operation.h"

#include "dml/rng.h"

/* y = keep * x + residual. In training keep is 0 with probability `rate` and else 1 / (1 - rate),
 * drawn for each image; in inference it is 1. Huang et al. 2016, Deep networks with stochastic
 * depth. */

static float keep(const struct cpu_run *run, const struct plan_step *step, size_t image) {
    if (run->plan->kind == PLAN_EMBED)
        return 1.0f;
    float rate = cpu_node_of(run, step)->rate;
    uint64_t node = (uint64_t)plan_fusion_of(run->plan, step)->node;
    struct dml_rng rng = dml_rng_make(run->images->seed, DML_PURPOSE_DROP_PATH, run->images->step,
                                      node << 32 | (run->images->first + run->first + image));
    return dml_rng_uniform(&rng) < rate ? 0.0f : 1.0f / (1.0f - rate);
}

static enum dml_status forward(const struct cpu_run *run, const struct plan_step *step) {
    size_t size = plan_fusion_of(run->plan, step)->layout.image;
    const float *x = cpu_at(run, step->in), *residual = cpu_at(run, step->other);
    float *y = cpu_at(run, step->out);
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < run->plan->n; i++) {
        float factor = keep(run, step, i);
#pragma omp simd
        for (size_t k = i * size; k < (i + 1) * size; k++)
            y[k] = factor * x[k] + (residual ? residual[k] : 0.0f);
    }
    return DML_OK;
}

static enum dml_status backward(const struct cpu_run *run, const struct plan_step *step) {
    size_t size = plan_fusion_of(run->plan, step)->layout.image;
    const float *grad = cpu_at(run, step->in);
    float *out = cpu_at(run, step->out);
    if (!out)
        return DML_OK;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < run->plan->n; i++) {
        float factor = keep(run, step, i);
#pragma omp simd
        for (size_t k = i * size; k < (i + 1) * size; k++)
            out[k] = factor * grad[k];
    }
    return DML_OK;
}

const struct cpu_op *cpu_op_drop_path(void) {
    static const struct cpu_op op = {.forward = forward, .backward = backward};
    return &op;
}
