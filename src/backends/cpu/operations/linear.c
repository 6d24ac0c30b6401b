#include "backends/cpu/operations/operation.h"

#include "math/linear.h"

#include <string.h>

/* y = x W^T + b, of each row. */

/* Rows become the bias, plus those of the residual where there is one, and 0 behind the channels.
 * `residual` may be `y`. */
static void start_rows(const struct cpu_row_shape *rows, const float *bias, const float *residual,
                       float *y) {
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < rows->count; r++) {
        float *row = y + r * rows->stride;
        const float *from = residual ? residual + r * rows->stride : NULL;
        if (bias && from)
#pragma omp simd
            for (size_t c = 0; c < rows->width; c++)
                row[c] = from[c] + bias[c];
        else if (bias || (from && from != row))
            memcpy(row, bias ? bias : from, rows->width * sizeof *row);
        else if (!from)
            memset(row, 0, rows->width * sizeof *row);
        memset(row + rows->width, 0, (rows->stride - rows->width) * sizeof *row);
    }
}

static void forward(const struct cpu_run *run, const struct plan_step *step) {
    const struct plan *plan = run->plan;
    const struct plan_unit *unit = plan_unit_of(run->plan, step);
    struct cpu_row_shape in = cpu_rows_of(&plan_input_of(plan, unit)->layout, plan->n);
    struct cpu_row_shape out = cpu_rows_of(&unit->layout, plan->n);
    const float *weight = cpu_params_value(run->params, unit->node, DML_ROLE_WEIGHT);
    float *y = cpu_at(run, step->out);
    start_rows(&out, cpu_params_value(run->params, unit->node, DML_ROLE_BIAS),
               cpu_at(run, step->other), y);
    dml_gemm(0, 1, out.count, out.width, in.width, 1.0f, cpu_at(run, step->in), in.stride, weight,
             in.width, 1.0f, y, out.stride);
}

static void backward(const struct cpu_run *run, const struct plan_step *step) {
    const struct plan *plan = run->plan;
    const struct plan_unit *unit = plan_unit_of(run->plan, step);
    struct cpu_row_shape in = cpu_rows_of(&plan_input_of(plan, unit)->layout, plan->n);
    struct cpu_row_shape out = cpu_rows_of(&unit->layout, plan->n);
    const float *weight = cpu_params_value(run->params, unit->node, DML_ROLE_WEIGHT);
    float *grad_weight = cpu_params_grad(run->params, unit->node, DML_ROLE_WEIGHT);
    float *grad_bias = cpu_params_grad(run->params, unit->node, DML_ROLE_BIAS);
    const float *grad = cpu_at(run, step->in), *x = cpu_at(run, step->other);
    dml_gemm(1, 0, out.width, in.width, out.count, 1.0f, grad, out.stride, x, in.stride,
             run->accumulate ? 1.0f : 0.0f, grad_weight, in.width);
    if (grad_bias)
        cpu_column_sums(&out, grad, NULL, run->accumulate, grad_bias);
    float *grad_x = cpu_at(run, step->out);
    if (!grad_x)
        return;
    if (in.stride != in.width)
        memset(grad_x, 0, in.count * in.stride * sizeof *grad_x);
    dml_gemm(0, 0, in.count, in.width, out.width, 1.0f, grad, out.stride, weight, in.width, 0.0f,
             grad_x, in.stride);
}

const struct cpu_op *cpu_op_linear(void) {
    static const struct cpu_op op = {.reads_input = true, .forward = forward, .backward = backward};
    return &op;
}
