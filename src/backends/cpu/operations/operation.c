#include "backends/cpu/operations/operation.h"

#include "backends/cpu/products.h"
#include "backends/cpu/traits.h"

enum {
    COLUMNS = 64, /* summed at a time, by one thread */
    ROWS = 64,    /* summed in float32; those sums are summed in float64 */
};

static void sum_rows(struct cpu_values x, struct cpu_values factor, size_t first, size_t stride,
                     size_t rows, size_t columns, float *out) {
    float room[2][COLUMNS];
    for (size_t r = 0; r < rows; r++) {
        const float *v = cpu_read(x, first + r * stride, columns, room[0]);
        const float *w = factor.at ? cpu_read(factor, first + r * stride, columns, room[1]) : NULL;
#pragma omp simd
        for (size_t c = 0; c < columns; c++)
            out[c] += w ? v[c] * w[c] : v[c];
    }
}

void cpu_column_sums(const struct cpu_row_shape *rows, struct cpu_values x,
                     struct cpu_values factor, float *out) {
#pragma omp parallel for schedule(static)
    for (size_t first = 0; first < rows->width; first += COLUMNS) {
        size_t columns = rows->width - first < COLUMNS ? rows->width - first : COLUMNS;
        double sum[COLUMNS] = {0};
        for (size_t r = 0; r < rows->count; r += ROWS) {
            size_t count = rows->count - r < ROWS ? rows->count - r : ROWS;
            float part[COLUMNS] = {0};
            sum_rows(x, factor, r * rows->stride + first, rows->stride, count, columns, part);
            for (size_t c = 0; c < columns; c++)
                sum[c] += part[c];
        }
        for (size_t c = 0; c < columns; c++)
            out[first + c] = (float)sum[c];
    }
}

struct cpu_rounding cpu_op_rounding(const struct cpu_params *params,
                                    const struct plan_fusion *fusion) {
    bool tokens = fusion->kind == PLAN_FUSION_PATCHES || params->graph->nodes[fusion->node].tokens;
    return tokens ? params->rounding : (struct cpu_rounding){NULL, NULL};
}

enum dml_status cpu_op_parameter_grads(struct cpu_rounding rounding,
                                       const struct cpu_row_shape *rows, struct cpu_values grad,
                                       const struct cpu_matrix *x, size_t x_width,
                                       float *weight_grad, float *bias_grad, void *scratch) {
    if (bias_grad && !rounding.pairs && !rounding.engine) {
        dml_product_gradients(rows->width, x_width, rows->count, grad.at, rows->stride, x->values,
                              x->ld, weight_grad, x_width, bias_grad, scratch);
        return DML_OK;
    }
    const struct cpu_product product = {.transpose_a = true,
                                        .m = rows->width,
                                        .n = x_width,
                                        .k = rows->count,
                                        .a = {grad.at, grad.element, rows->stride},
                                        .b = *x,
                                        .c = weight_grad,
                                        .ldc = x_width};
    if (bias_grad)
        cpu_column_sums(rows, grad, (struct cpu_values){0}, bias_grad);
    return cpu_product_run(&product, rounding, scratch);
}

size_t cpu_op_product_scratch(const struct plan *plan, const struct plan_fusion *fusion, size_t m,
                              size_t n, size_t k) {
    const struct cpu_planning *planning = plan->traits->context;
    return cpu_product_scratch(cpu_op_rounding(planning->params, fusion), m, n, k);
}

const struct cpu_op *cpu_op_of(enum plan_fusion_kind kind) {
    switch (kind) {
    case PLAN_FUSION_LINEAR:
        return cpu_op_linear();
    case PLAN_FUSION_LAYER_NORM:
        return cpu_op_layer_norm();
    case PLAN_FUSION_PATCHES:
        return cpu_op_patches();
    case PLAN_FUSION_TOKENS:
        return cpu_op_tokens();
    case PLAN_FUSION_ATTENTION:
        return cpu_op_attention();
    case PLAN_FUSION_GELU:
        return cpu_op_gelu();
    case PLAN_FUSION_LAYER_SCALE:
        return cpu_op_layer_scale();
    case PLAN_FUSION_DROP_PATH:
        return cpu_op_drop_path();
    case PLAN_FUSION_TOKEN_POOL:
        return cpu_op_token_pool();
    default:
        return NULL;
    }
}
