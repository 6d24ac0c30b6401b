#include "backends/cpu/operations/operation.h"

/* y = gamma[c] * x + residual. Touvron et al. 2021, Going deeper with image transformers. */

static enum dml_status forward(const struct cpu_run *run, const struct plan_step *step) {
    const struct plan_fusion *fusion = plan_fusion_of(run->plan, step);
    struct cpu_row_shape rows = cpu_rows_of(&fusion->layout, run->plan->n);
    const float *gamma = cpu_params_value(run->params, fusion->node, DML_ROLE_LAYER_SCALE);
    struct cpu_values in = cpu_values_at(run, step->in), out = cpu_values_at(run, step->out);
    const float *residual = cpu_at(run, step->other);
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < rows.count; r++) {
        size_t at = r * rows.stride;
        float room[2][rows.width], *y = cpu_place(out, at, room[0]);
        const float *x = cpu_read(in, at, rows.width, room[1]);
#pragma omp simd
        for (size_t c = 0; c < rows.width; c++)
            y[c] = gamma[c] * x[c] + (residual ? residual[at + c] : 0.0f);
        cpu_write(out, at, rows.width, y);
    }
    return DML_OK;
}

static enum dml_status backward(const struct cpu_run *run, const struct plan_step *step) {
    const struct plan_fusion *fusion = plan_fusion_of(run->plan, step);
    struct cpu_row_shape rows = cpu_rows_of(&fusion->layout, run->plan->n);
    const float *gamma = cpu_params_value(run->params, fusion->node, DML_ROLE_LAYER_SCALE);
    struct cpu_values in = cpu_values_at(run, step->in), out = cpu_values_at(run, step->out);
    cpu_column_sums(&rows, in, cpu_values_at(run, step->other),
                    cpu_params_grad(run->params, fusion->node, DML_ROLE_LAYER_SCALE));
    if (!out.at)
        return DML_OK;
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < rows.count; r++) {
        size_t at = r * rows.stride;
        float room[2][rows.width], *to = cpu_place(out, at, room[0]);
        const float *grad = cpu_read(in, at, rows.width, room[1]);
#pragma omp simd
        for (size_t c = 0; c < rows.width; c++)
            to[c] = gamma[c] * grad[c];
        cpu_write(out, at, rows.width, to);
    }
    return DML_OK;
}

const struct cpu_op *cpu_op_layer_scale(void) {
    static const struct cpu_op op = {.reads_input = true, .forward = forward, .backward = backward};
    return &op;
}
