#include "backends/cpu/operations/operation.h"

#include "math/linear.h"

#include <string.h>

/* A convolution whose windows lie side by side, from the image to tokens: pixels gathered patch by
 * patch, and one product. Its output is (n, patches, channels) with all channels side by side. */

struct sizes {
    size_t n, side, rows, columns, planes;
    size_t patches; /* of all images */
    size_t width;   /* pixels of a patch in all planes */
};

static struct sizes sizes_of(const struct plan *plan, const struct plan_unit *unit) {
    const struct dml_node *node = &plan->graph->nodes[unit->node];
    struct sizes s = {.n = plan->n,
                      .side = (size_t)node->kernel_h,
                      .rows = (size_t)node->height,
                      .columns = (size_t)node->width,
                      .planes = (size_t)plan_input_of(plan, unit)->layout.channels};
    s.patches = s.n * s.rows * s.columns;
    s.width = s.planes * s.side * s.side;
    return s;
}

static size_t scratch(const struct plan *plan, const struct plan_unit *unit) {
    struct sizes s = sizes_of(plan, unit);
    return s.patches * s.width * sizeof(float);
}

/* x (n, planes, height, width) to patches (n * rows * columns, planes * side * side). */
static void gather(const struct sizes *s, const struct plan_layout *image, const float *x,
                   float *patches) {
    size_t width = (size_t)image->width;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < s->n; i++)
        for (size_t r = 0; r < s->rows; r++)
            for (size_t c = 0; c < s->columns; c++) {
                float *to = patches + ((i * s->rows + r) * s->columns + c) * s->width;
                for (size_t p = 0; p < s->planes; p++)
                    for (size_t y = 0; y < s->side; y++, to += s->side)
                        memcpy(to,
                               x + i * image->image + p * image->pixels +
                                   (r * s->side + y) * width + c * s->side,
                               s->side * sizeof *to);
            }
}

static void forward(const struct cpu_run *run, const struct plan_step *step) {
    const struct plan *plan = run->plan;
    const struct plan_unit *unit = plan_unit_of(run->plan, step);
    struct sizes s = sizes_of(plan, unit);
    size_t channels = (size_t)unit->layout.channels;
    const float *weight = cpu_params_value(run->params, unit->node, DML_ROLE_WEIGHT);
    const float *bias = cpu_params_value(run->params, unit->node, DML_ROLE_BIAS);
    float *patches = cpu_at(run, step->scratch), *y = cpu_at(run, step->out);
    gather(&s, &plan_input_of(plan, unit)->layout, cpu_at(run, step->in), patches);
    for (size_t k = 0; bias && k < s.patches; k++)
        memcpy(y + k * channels, bias, channels * sizeof *y);
    dml_gemm(0, 1, s.patches, channels, s.width, 1.0f, patches, s.width, weight, s.width,
             bias ? 1.0f : 0.0f, y, channels);
}

/* Of the parameters alone: nobody needs the gradient of an image. */
static void backward(const struct cpu_run *run, const struct plan_step *step) {
    const struct plan *plan = run->plan;
    const struct plan_unit *unit = plan_unit_of(run->plan, step);
    struct sizes s = sizes_of(plan, unit);
    struct cpu_row_shape rows = cpu_rows_of(&unit->layout, plan->n);
    const float *grad = cpu_at(run, step->in);
    float *bias = cpu_params_grad(run->params, unit->node, DML_ROLE_BIAS);
    float *patches = cpu_at(run, step->scratch);
    gather(&s, &plan_input_of(plan, unit)->layout, cpu_at(run, step->other), patches);
    dml_gemm(1, 0, rows.width, s.width, s.patches, 1.0f, grad, rows.stride, patches, s.width,
             run->accumulate ? 1.0f : 0.0f,
             cpu_params_grad(run->params, unit->node, DML_ROLE_WEIGHT), s.width);
    if (bias)
        cpu_column_sums(&rows, grad, NULL, run->accumulate, bias);
}

const struct cpu_op *cpu_op_patches(void) {
    static const struct cpu_op op = {.reads_input = true,
                                     .forward_scratch = scratch,
                                     .backward_scratch = scratch,
                                     .forward = forward,
                                     .backward = backward};
    return &op;
}
