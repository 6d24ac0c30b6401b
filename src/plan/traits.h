#ifndef DML_PLAN_TRAITS_H
#define DML_PLAN_TRAITS_H

#include "plan/fusions.h"

/* What a backend tells the planner about itself: everything that differs from planning for another
 * backend. */
struct plan;
struct plan_step;

/* How the channels of feature maps lie; see plan_layout. */
enum plan_order {
    PLAN_BLOCKED,       /* in groups of `block` */
    PLAN_CHANNELS_LAST, /* all side by side, padded to a multiple of `block` */
};

struct plan_traits {
    const char *backend; /* its name, for messages */
    void *context;       /* handed to each callback */

    enum plan_order order;
    int block;                 /* of feature maps and vectors */
    int image_block;           /* of the network's input, and of what only scales it */
    enum plan_element element; /* of feature maps */
    enum plan_element tokens;  /* of tokens that lie between products: plan_narrows */
    size_t alignment;          /* of tensors and scratch memory, in bytes: a power of two */

    bool patches;             /* PLAN_FUSION_PATCHES is computed; else they are a convolution */
    bool overwrites_residual; /* a fusion may write its result over its residual */
    bool pool_masks;          /* a max pool's backward pass applies the relu before it */
    bool recompute;           /* only what leaves a block is kept; see plan_recomputes */

    /* Whether a fusion can be computed at all, in both passes. NULL: all of them. A graph with one
     * that cannot is refused with the operation's name. */
    bool (*supports)(void *context, const struct dml_graph *graph,
                     const struct plan_fusion *fusion);
    /* Whether the fusion, as it is made up so far, takes in the node of kind `op` after it: a batch
     * norm with running statistics, an affine, an add, a relu. NULL: always. */
    bool (*fuses)(void *context, const struct dml_graph *graph, const struct plan_fusion *fusion,
                  enum dml_op op);
    /* Whether the backward pass of an operation (plan_is_operation) reads its input. */
    bool (*reads_input)(void *context, const struct plan_fusion *fusion);

    /* What computes fusion `fusion` of the plan, whatever that is; may stay NULL. Made before the
     * steps, destroyed with the plan. Both NULL: nothing. */
    enum dml_status (*make_kernels)(void *context, const struct plan *plan, int fusion, void **out);
    void (*destroy_kernels)(void *kernels);

    /* Bytes that a fusion's forward pass keeps for its backward pass beside its tensor, and bytes
     * of scratch memory that a step wants; 0: none. */
    size_t (*state)(void *context, const struct plan *plan, int fusion);
    size_t (*scratch)(void *context, const struct plan *plan, const struct plan_step *step);
};

#endif
