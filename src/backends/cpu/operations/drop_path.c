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

/* Rows of tokens, each image's by its factor. `residual` may be NULL. */
static void scale(const struct cpu_run *run, const struct plan_step *step, struct cpu_values in,
                  const float *residual, struct cpu_values out) {
    const struct plan_fusion *fusion = plan_fusion_of(run->plan, step);
    struct cpu_row_shape rows = cpu_rows_of(&fusion->layout, 1);
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < run->plan->n; i++) {
        float factor = keep(run, step, i);
        for (size_t r = 0; r < rows.count; r++) {
            size_t at = i * fusion->layout.image + r * rows.stride;
            float room[2][rows.stride], *y = cpu_place(out, at, room[0]);
            const float *x = cpu_read(in, at, rows.stride, room[1]);
#pragma omp simd
            for (size_t c = 0; c < rows.stride; c++)
                y[c] = factor * x[c] + (residual ? residual[at + c] : 0.0f);
            cpu_write(out, at, rows.stride, y);
        }
    }
}

static enum dml_status forward(const struct cpu_run *run, const struct plan_step *step) {
    scale(run, step, cpu_values_at(run, step->in), cpu_at(run, step->other),
          cpu_values_at(run, step->out));
    return DML_OK;
}

static enum dml_status backward(const struct cpu_run *run, const struct plan_step *step) {
    struct cpu_values out = cpu_values_at(run, step->out);
    if (out.at)
        scale(run, step, cpu_values_at(run, step->in), NULL, out);
    return DML_OK;
}

const struct cpu_op *cpu_op_drop_path(void) {
    static const struct cpu_op op = {.forward = forward, .backward = backward};
    return &op;
}
