#ifndef DML_CPU_OPERATION_H
#define DML_CPU_OPERATION_H

#include "backends/cpu/run.h"

/* The operations of transformers, and linear layers: one file each. Tensors are float32. A sequence
 * of tokens (n, T, C) is contiguous in memory: its layout is one group of C channels with T
 * "pixels". */
struct cpu_op {
    /* What the backward pass reads besides the gradient and the state. */
    bool reads_input;
    /* Bytes that the forward pass keeps for the backward pass, and bytes of scratch memory for
     * either. NULL: none. */
    size_t (*state)(const struct plan *plan, const struct plan_fusion *fusion);
    size_t (*forward_scratch)(const struct plan *plan, const struct plan_fusion *fusion);
    size_t (*backward_scratch)(const struct plan *plan, const struct plan_fusion *fusion);
    /* From step->in to step->out; step->other is the residual to add, if any. */
    enum dml_status (*forward)(const struct cpu_run *run, const struct plan_step *step);
    /* From step->in, the gradient of the output, to the gradients of parameters and to step->out,
     * the gradient of the input (NULL: not needed); step->other is the input where it is read. */
    enum dml_status (*backward)(const struct cpu_run *run, const struct plan_step *step);
};

/* NULL: the fusion is computed by run.c. */
const struct cpu_op *cpu_op_of(enum plan_fusion_kind kind);

const struct cpu_op *cpu_op_linear(void), *cpu_op_layer_norm(void), *cpu_op_patches(void),
    *cpu_op_tokens(void), *cpu_op_attention(void), *cpu_op_gelu(void), *cpu_op_layer_scale(void),
    *cpu_op_drop_path(void), *cpu_op_token_pool(void);

/* A tensor as rows of channels: the tokens of all images, or one vector per image. */
struct cpu_row_shape {
    size_t count, width;
    size_t stride; /* floats from one row to the next */
};

static inline struct cpu_row_shape cpu_rows_of(const struct plan_layout *layout, size_t n) {
    return (struct cpu_row_shape){n * layout->pixels, (size_t)layout->channels,
                                  layout->image / layout->pixels};
}

/* The node of a step. */
static inline const struct dml_node *cpu_node_of(const struct cpu_run *run,
                                                 const struct plan_step *step) {
    return &run->plan->graph->nodes[plan_fusion_of(run->plan, step)->node];
}

/* The engine for a fusion's products of bfloat16 operands: those of tokens and patches, where the
 * network has them; NULL: they are float32. And scratch memory for such a product. */
struct cpu_engine *cpu_op_narrow(const struct cpu_params *params, const struct plan_fusion *fusion);
size_t cpu_op_product_scratch(const struct plan *plan, const struct plan_fusion *fusion, size_t m,
                              size_t n, size_t k);

/* out[c] = the sum over rows of x, or of x times `factor`, rows of the
 * same shape, where that is not NULL. */
void cpu_column_sums(const struct cpu_row_shape *rows, const float *x, const float *factor,
                     float *out);

#endif
