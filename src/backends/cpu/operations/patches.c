#include "backends/cpu/operations/operation.h"

#include "backends/cpu/products.h"

#include <string.h>

/* A convolution whose windows lie side by side, from the image to tokens: pixels gathered patch by
 * patch, and one product. Its output is (n, patches, channels) with all channels side by side. */

struct sizes {
    size_t n, side, rows, columns, planes;
    size_t patches; /* of all images */
    size_t width;   /* pixels of a patch in all planes */
};

static struct sizes sizes_of(const struct plan *plan, const struct plan_fusion *fusion) {
    const struct dml_node *node = &plan->graph->nodes[fusion->node];
    struct sizes s = {.n = plan->n,
                      .side = (size_t)node->kernel_h,
                      .rows = (size_t)node->height,
                      .columns = (size_t)node->width,
                      .planes = (size_t)plan_input_of(plan, fusion)->layout.channels};
    s.patches = s.n * s.rows * s.columns;
    s.width = s.planes * s.side * s.side;
    return s;
}

/* Scratch memory holds the pixels in patches, then what the product needs. */
static size_t patches_bytes(const struct sizes *s) {
    return cpu_aligned_bytes(s->patches * s->width * sizeof(float));
}

static size_t forward_scratch(const struct plan *plan, const struct plan_fusion *fusion) {
    struct sizes s = sizes_of(plan, fusion);
    size_t channels = (size_t)fusion->layout.channels;
    return patches_bytes(&s) + cpu_op_product_scratch(plan, fusion, s.patches, channels, s.width);
}

static size_t backward_scratch(const struct plan *plan, const struct plan_fusion *fusion) {
    struct sizes s = sizes_of(plan, fusion);
    size_t channels = (size_t)fusion->layout.channels;
    return patches_bytes(&s) + cpu_op_product_scratch(plan, fusion, channels, s.width, s.patches);
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

static enum dml_status forward(const struct cpu_run *run, const struct plan_step *step) {
    const struct plan *plan = run->plan;
    const struct plan_fusion *fusion = plan_fusion_of(run->plan, step);
    struct sizes s = sizes_of(plan, fusion);
    size_t channels = (size_t)fusion->layout.channels;
    const float *weight = cpu_params_value(run->params, fusion->node, DML_ROLE_WEIGHT);
    const float *bias = cpu_params_value(run->params, fusion->node, DML_ROLE_BIAS);
    float *patches = cpu_at(run, step->scratch), *y = cpu_at(run, step->out);
    gather(&s, &plan_input_of(plan, fusion)->layout, cpu_at(run, step->in), patches);
    const struct cpu_product product = {.transpose_b = true,
                                        .m = s.patches,
                                        .n = channels,
                                        .k = s.width,
                                        .a = {patches, PLAN_FLOAT32, s.width},
                                        .b = {weight, PLAN_FLOAT32, s.width},
                                        .start = {.row = bias},
                                        .c = y,
                                        .ldc = channels};
    return cpu_product_run(&product, cpu_op_rounding(run->params, fusion),
                           (char *)patches + patches_bytes(&s));
}

/* For the parameters only: nothing needs the gradient of an image. */
static enum dml_status backward(const struct cpu_run *run, const struct plan_step *step) {
    const struct plan *plan = run->plan;
    const struct plan_fusion *fusion = plan_fusion_of(run->plan, step);
    struct sizes s = sizes_of(plan, fusion);
    struct cpu_row_shape rows = cpu_rows_of(&fusion->layout, plan->n);
    struct cpu_values grad = cpu_values_at(run, step->in);
    float *patches = cpu_at(run, step->scratch);
    gather(&s, &plan_input_of(plan, fusion)->layout, cpu_at(run, step->other), patches);
    const struct cpu_matrix inputs = {patches, PLAN_FLOAT32, s.width};
    return cpu_op_parameter_grads(cpu_op_rounding(run->params, fusion), &rows, grad, &inputs,
                                  s.width,
                                  cpu_params_grad(run->params, fusion->node, DML_ROLE_WEIGHT),
                                  cpu_params_grad(run->params, fusion->node, DML_ROLE_BIAS),
                                  (char *)patches + patches_bytes(&s));
}

const struct cpu_op *cpu_op_patches(void) {
    static const struct cpu_op op = {.reads_input = true,
                                     .forward_scratch = forward_scratch,
                                     .backward_scratch = backward_scratch,
                                     .forward = forward,
                                     .backward = backward};
    return &op;
}
