#include "backends/cpu/operations/operation.h"

#include "backends/cpu/products.h"

#include <string.h>

/* y = x W^T + b, for each row. */

/* Zeroes what follows the channels of each vector; tokens have no padding. */
static void clear_padding(const struct cpu_row_shape *rows, struct cpu_values y) {
    for (size_t r = 0; r < rows->count && rows->stride > rows->width; r++)
        memset((float *)y.at + r * rows->stride + rows->width, 0,
               (rows->stride - rows->width) * sizeof(float));
}

static enum dml_status forward(const struct cpu_run *run, const struct plan_step *step) {
    const struct plan *plan = run->plan;
    const struct plan_fusion *fusion = plan_fusion_of(run->plan, step);
    struct cpu_row_shape in = cpu_rows_of(&plan_input_of(plan, fusion)->layout, plan->n);
    struct cpu_row_shape out = cpu_rows_of(&fusion->layout, plan->n);
    const float *weight = cpu_params_value(run->params, fusion->node, DML_ROLE_WEIGHT);
    const float *bias = cpu_params_value(run->params, fusion->node, DML_ROLE_BIAS);
    struct cpu_values x = cpu_values_at(run, step->in), y = cpu_values_at(run, step->out);
    clear_padding(&out, y);
    const struct cpu_product product = {.transpose_b = true,
                                        .m = out.count,
                                        .n = out.width,
                                        .k = in.width,
                                        .a = {x.at, x.element, in.stride},
                                        .b = {weight, PLAN_FLOAT32, in.width},
                                        .start = {bias, cpu_at(run, step->other), out.stride},
                                        .c = y.at,
                                        .element = y.element,
                                        .ldc = out.stride};
    return cpu_product_run(&product, cpu_op_rounding(run->params, fusion),
                           cpu_at(run, step->scratch));
}

static enum dml_status backward(const struct cpu_run *run, const struct plan_step *step) {
    const struct plan *plan = run->plan;
    const struct plan_fusion *fusion = plan_fusion_of(run->plan, step);
    struct cpu_row_shape in = cpu_rows_of(&plan_input_of(plan, fusion)->layout, plan->n);
    struct cpu_row_shape out = cpu_rows_of(&fusion->layout, plan->n);
    const float *weight = cpu_params_value(run->params, fusion->node, DML_ROLE_WEIGHT);
    float *grad_weight = cpu_params_grad(run->params, fusion->node, DML_ROLE_WEIGHT);
    float *grad_bias = cpu_params_grad(run->params, fusion->node, DML_ROLE_BIAS);
    struct cpu_values grad = cpu_values_at(run, step->in), x = cpu_values_at(run, step->other);
    struct cpu_rounding rounding = cpu_op_rounding(run->params, fusion);
    const struct cpu_matrix inputs = {x.at, x.element, in.stride};
    enum dml_status status =
        cpu_op_parameter_grads(rounding, &out, grad, &inputs, in.width, grad_weight, grad_bias,
                               cpu_at(run, step->scratch));
    struct cpu_values grad_x = cpu_values_at(run, step->out);
    if (!grad_x.at || status)
        return status;
    clear_padding(&in, grad_x);
    const struct cpu_product of_input = {.m = in.count,
                                         .n = in.width,
                                         .k = out.width,
                                         .a = {grad.at, grad.element, out.stride},
                                         .b = {weight, PLAN_FLOAT32, in.width},
                                         .c = grad_x.at,
                                         .element = grad_x.element,
                                         .ldc = in.stride};
    return cpu_product_run(&of_input, rounding, cpu_at(run, step->scratch));
}

static size_t forward_scratch(const struct plan *plan, const struct plan_fusion *fusion) {
    struct cpu_row_shape in = cpu_rows_of(&plan_input_of(plan, fusion)->layout, plan->n);
    struct cpu_row_shape out = cpu_rows_of(&fusion->layout, plan->n);
    return cpu_op_product_scratch(plan, fusion, out.count, out.width, in.width);
}

static size_t backward_scratch(const struct plan *plan, const struct plan_fusion *fusion) {
    struct cpu_row_shape in = cpu_rows_of(&plan_input_of(plan, fusion)->layout, plan->n);
    struct cpu_row_shape out = cpu_rows_of(&fusion->layout, plan->n);
    size_t weight = cpu_op_product_scratch(plan, fusion, out.width, in.width, out.count);
    size_t input = cpu_op_product_scratch(plan, fusion, in.count, in.width, out.width);
    return weight > input ? weight : input;
}

const struct cpu_op *cpu_op_linear(void) {
    static const struct cpu_op op = {.reads_input = true,
                                     .forward_scratch = forward_scratch,
                                     .backward_scratch = backward_scratch,
                                     .forward = forward,
                                     .backward = backward};
    return &op;
}
