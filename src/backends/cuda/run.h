#ifndef DML_CUDA_RUN_H
#define DML_CUDA_RUN_H

#include "backends/cuda/images.h"
#include "backends/cuda/params.h"

/* What the planner asks about cards: feature maps (n, height, width, channels), convolutions as the
 * kernels of fusions (struct cuda_conv). `planning` is the traits' context and must outlive them.
 */
struct cuda_planning {
    const struct cuda_on *on;
    struct cuda_params *params;
};
struct plan_traits cuda_traits(struct cuda_planning *planning);

/* What running a plan works on. */
struct cuda_run {
    const struct plan *plan; /* the pass's */
    const struct dml_planned_pass *pass;
    struct cuda_params *params;
    const struct cuda_on *on;
    char *arena;
    struct cuda_images *images;
    const struct dml_batch_parts *parts; /* of the batch, where other processes have some of it; or
                                          * NULL */
};

/* Images to embeddings (n, embed_dim). */
enum dml_status cuda_run_forward(const struct cuda_run *run, float *embeddings);
/* After cuda_run_forward with the same arena: dL/d(embeddings) (n, embed_dim) to gradients. */
enum dml_status cuda_run_backward(const struct cuda_run *run, const float *grad);

/* operations.c: fusions for which plan_is_operation holds. */
void cuda_operation_forward(const struct cuda_run *run, const struct plan_step *step);
void cuda_operation_backward(const struct cuda_run *run, const struct plan_step *step);
size_t cuda_operation_state(const struct plan *plan, const struct plan_fusion *fusion);
size_t cuda_operation_scratch(const struct plan *plan, const struct plan_step *step);

static inline void *cuda_at(const struct cuda_run *run, struct plan_ref ref) {
    if (ref.slot < 0)
        return NULL;
    return run->arena + run->plan->slots[ref.slot].offset +
           ref.offset * plan_element_size(ref.element);
}

/* A fusion's tensor as rows of channels, padding included. */
static inline struct cuda_rows cuda_rows_of(const struct plan_layout *layout, size_t n) {
    size_t width = plan_layout_channels(layout);
    return (struct cuda_rows){n * layout->pixels, width, width, layout->element == PLAN_BFLOAT16};
}

/* Pieces of a step's scratch memory, one after the other. With memory NULL it only adds up their
 * sizes. */
struct cuda_carving {
    char *memory;
    size_t bytes;
};
void *cuda_carve(struct cuda_carving *carving, size_t bytes);

/* Room for sums over rows of `width` channels, and their result. */
struct cuda_summing {
    double *partial, *sums;
};
struct cuda_summing cuda_carve_sums(struct cuda_carving *carving, size_t width);
/* sums = those over the rows of x. */
void cuda_sum(const struct cuda_run *run, const struct cuda_summing *summing,
              const struct cuda_sums *sums);

/* What the gradients of a convolution's parameters are made of. */
struct cuda_conv_parts {
    void *weights; /* of the weights that it computes with, */
    float *shift;  /* and of the bias */
    double *dots;
    float *scale, *offset; /* of the batch norm that is folded in */
    struct cuda_summing summing;
    void *scratch;
    size_t bytes;
};
struct cuda_conv_parts cuda_conv_grads(const struct cuda_params *params,
                                       const struct plan_fusion *fusion, size_t scratch,
                                       struct cuda_carving carving);

#endif
