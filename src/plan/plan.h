#ifndef DML_PLAN_PLAN_H
#define DML_PLAN_PLAN_H

#include "plan/traits.h"

/* How a graph is computed for one batch size, by any backend: a list of steps over slots of one
 * piece of memory (the arena), in which slots that are not alive at the same time share their
 * place. A backend supplies its traits and runs the steps. */

enum plan_kind { PLAN_EMBED, PLAN_TRAIN };

enum plan_step_kind {
    PLAN_STEP_FORWARD,      /* of a fusion */
    PLAN_STEP_OUTPUT_GRAD,  /* dL/d(embeddings) comes in */
    PLAN_STEP_COMBINE,      /* terms of a tensor's gradient become one; its relu's mask */
    PLAN_STEP_CONV_WEIGHTS, /* gradients of a convolution's parameters */
    PLAN_STEP_CONV_DATA,    /* gradient of its input */
    PLAN_STEP_NORM,         /* backward of a batch norm with the batch's statistics */
    PLAN_STEP_FROZEN_NORM,  /* parameter gradients of a frozen batch norm on its own */
    PLAN_STEP_SCALE,        /* gradient times an affine's or frozen batch norm's scale */
    PLAN_STEP_MAX_POOL,     /* backward, like those below */
    PLAN_STEP_AVG_POOL,
    PLAN_STEP_GLOBAL_MAX_POOL,
    PLAN_STEP_GLOBAL_GEM_POOL,
    PLAN_STEP_L2_NORMALIZE,
    PLAN_STEP_OPERATION, /* of a fusion for which plan_is_operation holds */
    PLAN_STEP_SPLIT,     /* one input's channels of a concatenation's gradient */
};

/* A tensor, or some channels of one, in a slot. slot -1: none. */
struct plan_ref {
    int slot;
    size_t offset; /* elements from the slot's start */
    size_t image;  /* elements from one image to the next */
    size_t pixel;  /* elements from one pixel to the next in a group of channels */
    enum plan_element element;
    bool broadcast; /* one value per channel, the same for each pixel, times `scale` */
    float scale;
};

enum { PLAN_MAX_TERMS = 12 };

struct plan_step {
    enum plan_step_kind kind;
    int fusion;
    struct plan_ref in, out;
    struct plan_ref other; /* forward: residual. backward: values needed, a mask */
    struct plan_ref state; /* winners of a pool, statistics of a batch norm, norms */
    struct plan_ref scratch;
    struct plan_ref terms[PLAN_MAX_TERMS]; /* inputs of a concatenation, terms of a gradient */
    int term_count;
    int input, channel; /* split: which input, and where it begins in the concatenation */
    int settled; /* backward: no later step changes gradients of the graph's parameters from this
                    one on */
};

struct plan_slot {
    size_t bytes, offset;
    int first, last; /* steps in which it is alive; first -1: in none */
    int pending;     /* gradient terms in it that are yet to be used */
};

struct plan {
    enum plan_kind kind;
    size_t n;
    const struct dml_graph *graph;
    const struct plan_traits *traits;
    struct plan_fusions fusions;
    void **kernels; /* per fusion: what traits->make_kernels gave */
    struct plan_step *steps;
    size_t step_count, step_capacity, forward_steps;
    struct plan_slot *slots;
    size_t slot_count, slot_capacity;
    bool failed; /* there was no memory for a slot or a step */
    size_t arena_bytes;
    struct plan_ref embeddings, output_grad;
};

/* Frozen graphs and PLAN_EMBED fold batch norms. `graph` and `traits` must outlive the plan. */
enum dml_status plan_create(const struct dml_graph *graph, const struct plan_traits *traits,
                            enum plan_kind kind, size_t n, struct plan **out);
void plan_destroy(struct plan *plan);

static inline bool plan_folds(const struct plan *plan) {
    return plan->kind == PLAN_EMBED || plan->graph->frozen;
}

/* Bytes that a fusion that is not an operation keeps from a forward pass. */
size_t plan_fusion_state(const struct plan *plan, const struct plan_fusion *fusion);

/* The fusion of a step, and a fusion's first input. */
static inline const struct plan_fusion *plan_fusion_of(const struct plan *plan,
                                                       const struct plan_step *step) {
    return &plan->fusions.fusions[step->fusion];
}
static inline const struct plan_fusion *plan_input_of(const struct plan *plan,
                                                      const struct plan_fusion *fusion) {
    return &plan->fusions.fusions[fusion->inputs[0]];
}

#endif
