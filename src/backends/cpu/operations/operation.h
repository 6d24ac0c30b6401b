#ifndef DML_CPU_OPERATION_H
#define DML_CPU_OPERATION_H

#include "backends/cpu/run.h"
#include "base/half.h"

/* The operations of transformers, and linear layers: one file each. A sequence of tokens (n, T, C)
 * is contiguous in memory: its layout is one group of C channels with T "pixels". Tensors are
 * float32, but tokens between products may be bfloat16 (plan_narrows), and so are their
 * gradients. */
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

/* A tensor of tokens or vectors. */
struct cpu_values {
    void *at;
    enum plan_element element;
};

static inline struct cpu_values cpu_values_at(const struct cpu_run *run, struct plan_ref ref) {
    return (struct cpu_values){cpu_at(run, ref), ref.element};
}

/* Its `count` values from `first` on in float32: where they are, or widened into `room`. */
static inline const float *cpu_read(struct cpu_values x, size_t first, size_t count, float *room) {
    if (x.element == PLAN_FLOAT32)
        return (const float *)x.at + first;
    const uint16_t *from = (const uint16_t *)x.at + first;
#pragma omp simd
    for (size_t i = 0; i < count; i++)
        room[i] = dml_bfloat16_value(from[i]);
    return room;
}

/* Where to compute its values from `first` on: where they are to be, or in `room`; and what brings
 * `count` of them from there to where they are to be. */
static inline float *cpu_place(struct cpu_values x, size_t first, float *room) {
    return x.element == PLAN_FLOAT32 ? (float *)x.at + first : room;
}
static inline void cpu_write(struct cpu_values x, size_t first, size_t count, const float *placed) {
    if (x.element == PLAN_FLOAT32)
        return;
    uint16_t *to = (uint16_t *)x.at + first;
#pragma omp simd
    for (size_t i = 0; i < count; i++)
        to[i] = dml_bfloat16_bits(placed[i]);
}

/* The node of a step. */
static inline const struct dml_node *cpu_node_of(const struct cpu_run *run,
                                                 const struct plan_step *step) {
    return &run->plan->graph->nodes[plan_fusion_of(run->plan, step)->node];
}

/* How a fusion's products are computed: those of tokens and patches as the network says, others in
 * float32. And scratch memory for such a product. */
struct cpu_rounding cpu_op_rounding(const struct cpu_params *params,
                                    const struct plan_fusion *fusion);
size_t cpu_op_product_scratch(const struct plan *plan, const struct plan_fusion *fusion, size_t m,
                              size_t n, size_t k);

/* The gradients of a linear layer's weights (outputs, x_width) and, unless it is NULL, biases
 * (outputs): from those of its results, of the shape `rows`, and its inputs, the rows of x. */
enum dml_status cpu_op_parameter_grads(struct cpu_rounding rounding,
                                       const struct cpu_row_shape *rows, struct cpu_values grad,
                                       const struct cpu_matrix *x, size_t x_width,
                                       float *weight_grad, float *bias_grad, void *scratch);

/* out[c] = the sum over rows of x, or of x times `factor`, rows of the same shape, where that has
 * any. */
void cpu_column_sums(const struct cpu_row_shape *rows, struct cpu_values x,
                     struct cpu_values factor, float *out);

#endif
