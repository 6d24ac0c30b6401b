#include "backends/cpu/operations/operation.h"

#include <math.h>
#include <string.h>

/* y = (x - mean) / s * weight + bias with s = sqrt(variance + epsilon), over the channels of each
 * row; the variance is the biased one. x is float32. State: mean and 1/s of each row. Ba, Kiros,
 * Hinton 2016. */

static size_t state(const struct plan *plan, const struct plan_fusion *fusion) {
    return 2 * cpu_rows_of(&fusion->layout, plan->n).count * sizeof(float);
}

static void row_statistics(const float *x, size_t width, double epsilon, float *mean,
                           float *inverse) {
    float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t c = 0; c < width; c++)
        sum += x[c];
    float m = sum / (float)width;
#pragma omp simd reduction(+ : squares)
    for (size_t c = 0; c < width; c++)
        squares += (x[c] - m) * (x[c] - m);
    *mean = m;
    *inverse = (float)(1.0 / sqrt((double)squares / (double)width + epsilon));
}

static enum dml_status forward(const struct cpu_run *run, const struct plan_step *step) {
    const struct plan_fusion *fusion = plan_fusion_of(run->plan, step);
    struct cpu_row_shape rows = cpu_rows_of(&fusion->layout, run->plan->n);
    const float *weight = cpu_params_value(run->params, fusion->node, DML_ROLE_NORM_WEIGHT);
    const float *bias = cpu_params_value(run->params, fusion->node, DML_ROLE_NORM_BIAS);
    double epsilon = cpu_node_of(run, step)->epsilon;
    const float *x = cpu_at(run, step->in);
    struct cpu_values y = cpu_values_at(run, step->out);
    float *mean = cpu_at(run, step->state), *inverse = mean + rows.count;
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < rows.count; r++) {
        const float *from = x + r * rows.stride;
        float room[rows.stride], *to = cpu_place(y, r * rows.stride, room);
        row_statistics(from, rows.width, epsilon, &mean[r], &inverse[r]);
        float m = mean[r], s = inverse[r];
#pragma omp simd
        for (size_t c = 0; c < rows.width; c++)
            to[c] = weight ? (from[c] - m) * s * weight[c] + bias[c] : (from[c] - m) * s;
        memset(to + rows.width, 0, (rows.stride - rows.width) * sizeof *to);
        cpu_write(y, r * rows.stride, rows.stride, to);
    }
    return DML_OK;
}

/* The gradient of a row, from the sums of g = gradient * weight and of g (x - mean) / s. */
static void input_row(const float *grad, const float *x, const float *weight, size_t width,
                      float mean, float inverse, float *out) {
    float sum = 0, dot = 0;
#pragma omp simd reduction(+ : sum, dot)
    for (size_t c = 0; c < width; c++) {
        float g = weight ? grad[c] * weight[c] : grad[c];
        sum += g;
        dot += g * (x[c] - mean);
    }
    sum /= (float)width;
    dot *= inverse * inverse / (float)width;
#pragma omp simd
    for (size_t c = 0; c < width; c++) {
        float g = weight ? grad[c] * weight[c] : grad[c];
        out[c] = inverse * (g - sum - (x[c] - mean) * dot);
    }
}

/* The gradients of weight and bias: sums over rows of gradient x^ and of the gradient, in float32
 * over some rows, then over those in float64. */
static void add_parameter_grads(const struct cpu_row_shape *rows, struct cpu_values grad,
                                const float *x, const float *mean, const float *inverse,
                                float *grad_weight, float *grad_bias) {
    enum { COLUMNS = 64, ROWS = 64 };
#pragma omp parallel for schedule(static)
    for (size_t first = 0; first < rows->width; first += COLUMNS) {
        size_t columns = rows->width - first < COLUMNS ? rows->width - first : COLUMNS;
        double weight[COLUMNS] = {0}, bias[COLUMNS] = {0};
        for (size_t start = 0; start < rows->count; start += ROWS) {
            size_t end = rows->count - start < ROWS ? rows->count : start + ROWS;
            float w[COLUMNS] = {0}, b[COLUMNS] = {0};
            for (size_t r = start; r < end; r++) {
                float room[COLUMNS];
                const float *g = cpu_read(grad, r * rows->stride + first, columns, room);
                const float *from = x + r * rows->stride + first;
                float m = mean[r], s = inverse[r];
#pragma omp simd
                for (size_t c = 0; c < columns; c++) {
                    w[c] += g[c] * ((from[c] - m) * s);
                    b[c] += g[c];
                }
            }
            for (size_t c = 0; c < columns; c++) {
                weight[c] += w[c];
                bias[c] += b[c];
            }
        }
        for (size_t c = 0; c < columns; c++) {
            grad_weight[first + c] = (float)weight[c];
            grad_bias[first + c] = (float)bias[c];
        }
    }
}

static enum dml_status backward(const struct cpu_run *run, const struct plan_step *step) {
    const struct plan_fusion *fusion = plan_fusion_of(run->plan, step);
    struct cpu_params *params = run->params;
    struct cpu_row_shape rows = cpu_rows_of(&fusion->layout, run->plan->n);
    const float *weight = cpu_params_value(params, fusion->node, DML_ROLE_NORM_WEIGHT);
    struct cpu_values grad = cpu_values_at(run, step->in);
    const float *x = cpu_at(run, step->other);
    const float *mean = cpu_at(run, step->state), *inverse = mean + rows.count;
    float *out = cpu_at(run, step->out);
    if (weight)
        add_parameter_grads(&rows, grad, x, mean, inverse,
                            cpu_params_grad(params, fusion->node, DML_ROLE_NORM_WEIGHT),
                            cpu_params_grad(params, fusion->node, DML_ROLE_NORM_BIAS));
    if (!out)
        return DML_OK;
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < rows.count; r++) {
        size_t at = r * rows.stride;
        float room[rows.width];
        input_row(cpu_read(grad, at, rows.width, room), x + at, weight, rows.width, mean[r],
                  inverse[r], out + at);
        memset(out + at + rows.width, 0, (rows.stride - rows.width) * sizeof *out);
    }
    return DML_OK;
}

const struct cpu_op *cpu_op_layer_norm(void) {
    static const struct cpu_op op = {
        .reads_input = true, .state = state, .forward = forward, .backward = backward};
    return &op;
}
