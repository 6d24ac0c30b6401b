#include "backends/cpu/operations/operation.h"

#include "backends/cpu/operations/erf.h"
#include "math/transcendental.h"

/* Gaussian error linear units, Hendrycks and Gimpel 2016: x Phi(x) with the normal distribution
 * Phi(x) = (1 + erf(x / sqrt 2)) / 2, and CLIP's approximation x / (1 + exp(-1.702 x)). */

static const float QUICK = 1.702f;

/* In pieces of this size, one thread each. */
enum { PIECE = 2048 };

static inline float normal_distribution(float x) {
    return 0.5f + 0.5f * cpu_erf(x * 0.70710678f);
}

static inline float sigmoid(float x) {
    return 1.0f / (1.0f + dml_expf(-x));
}

static void gelu(const float *x, size_t count, float *y) {
#pragma omp simd
    for (size_t i = 0; i < count; i++)
        y[i] = x[i] * normal_distribution(x[i]);
}

static void quick_gelu(const float *x, size_t count, float *y) {
#pragma omp simd
    for (size_t i = 0; i < count; i++)
        y[i] = x[i] * sigmoid(QUICK * x[i]);
}

static void gelu_gradient(const float *grad, const float *x, size_t count, float *out) {
#pragma omp simd
    for (size_t i = 0; i < count; i++) {
        float density = 0.39894228f * dml_expf(-0.5f * x[i] * x[i]);
        out[i] = grad[i] * (normal_distribution(x[i]) + x[i] * density);
    }
}

static void quick_gelu_gradient(const float *grad, const float *x, size_t count, float *out) {
#pragma omp simd
    for (size_t i = 0; i < count; i++) {
        float s = sigmoid(QUICK * x[i]);
        out[i] = grad[i] * (s + QUICK * x[i] * s * (1.0f - s));
    }
}

/* Elements of the fusion's tensor: tokens have no padding. */
static size_t elements(const struct cpu_run *run, const struct plan_step *step) {
    return run->plan->n * plan_fusion_of(run->plan, step)->layout.image;
}

static enum dml_status forward(const struct cpu_run *run, const struct plan_step *step) {
    bool quick = cpu_node_of(run, step)->op == DML_OP_QUICK_GELU;
    size_t count = elements(run, step);
    struct cpu_values in = cpu_values_at(run, step->in), out = cpu_values_at(run, step->out);
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < count; i += PIECE) {
        size_t size = count - i < PIECE ? count - i : PIECE;
        float room[2][PIECE], *y = cpu_place(out, i, room[0]);
        (quick ? quick_gelu : gelu)(cpu_read(in, i, size, room[1]), size, y);
        cpu_write(out, i, size, y);
    }
    return DML_OK;
}

static enum dml_status backward(const struct cpu_run *run, const struct plan_step *step) {
    bool quick = cpu_node_of(run, step)->op == DML_OP_QUICK_GELU;
    size_t count = elements(run, step);
    struct cpu_values in = cpu_values_at(run, step->in), out = cpu_values_at(run, step->out);
    struct cpu_values input = cpu_values_at(run, step->other);
    if (!out.at)
        return DML_OK;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < count; i += PIECE) {
        size_t size = count - i < PIECE ? count - i : PIECE;
        float room[3][PIECE], *to = cpu_place(out, i, room[0]);
        const float *grad = cpu_read(in, i, size, room[1]);
        const float *x = cpu_read(input, i, size, room[2]);
        (quick ? quick_gelu_gradient : gelu_gradient)(grad, x, size, to);
        cpu_write(out, i, size, to);
    }
    return DML_OK;
}

const struct cpu_op *cpu_op_gelu(void) {
    static const struct cpu_op op = {.reads_input = true, .forward = forward, .backward = backward};
    return &op;
}
