#ifndef DML_CPU_PLAN_H
#define DML_CPU_PLAN_H

#include "backends/cpu/kernels.h"
#include "backends/cpu/params.h"

/* How a graph is computed for one batch size: a list of steps over slots of one piece of memory
 * (the arena), in which slots that are not alive at the same time share their place. */

enum cpu_plan_kind { CPU_PLAN_EMBED, CPU_PLAN_TRAIN };

enum cpu_step_kind {
    CPU_STEP_FORWARD,      /* of a unit */
    CPU_STEP_OUTPUT_GRAD,  /* dL/d(embeddings) comes in */
    CPU_STEP_COMBINE,      /* terms of a tensor's gradient become one; its relu's mask */
    CPU_STEP_CONV_WEIGHTS, /* gradients of a convolution's parameters */
    CPU_STEP_CONV_DATA,    /* gradient of its input */
    CPU_STEP_NORM,         /* backward of a batch norm with the batch's statistics */
    CPU_STEP_FROZEN_NORM,  /* parameter gradients of a frozen batch norm on its own */
    CPU_STEP_SCALE,        /* gradient times an affine's or frozen batch norm's scale */
    CPU_STEP_MAX_POOL,     /* backward, like those below */
    CPU_STEP_AVG_POOL,
    CPU_STEP_GLOBAL_MAX_POOL,
    CPU_STEP_GLOBAL_GEM_POOL,
    CPU_STEP_L2_NORMALIZE,
    CPU_STEP_OPERATION, /* of operations/ */
    CPU_STEP_SPLIT,     /* one input's channels of a concatenation's gradient */
};

/* A tensor, or some channels of one, in a slot. slot -1: none. */
struct cpu_ref {
    int slot;
    size_t offset; /* elements from the slot's start */
    size_t image;  /* elements from one image to the next */
    enum cpu_element element;
    bool broadcast;
    float scale;
};

enum { CPU_MAX_TERMS = 12 };

struct cpu_step {
    enum cpu_step_kind kind;
    int unit;
    struct cpu_ref in, out;
    struct cpu_ref other; /* forward: residual. backward: values needed, a mask */
    struct cpu_ref state; /* winners of a pool, statistics of a batch norm, norms */
    struct cpu_ref scratch;
    struct cpu_ref terms[CPU_MAX_TERMS]; /* inputs of a concatenation, terms of a gradient */
    int term_count;
    int input, channel; /* split: which input, and where it begins in the concatenation */
};

struct cpu_slot {
    size_t bytes, offset;
    int first, last; /* steps in which it is alive */
    int pending;     /* gradient terms in it that are yet to be used */
};

struct cpu_plan {
    enum cpu_plan_kind kind;
    size_t n;
    const struct dml_graph *graph;
    struct cpu_params *params;
    struct cpu_units units;
    struct cpu_conv **convs; /* per unit, NULL for other kinds */
    struct cpu_step *steps;
    size_t step_count, step_capacity, forward_steps;
    struct cpu_slot *slots;
    size_t slot_count, slot_capacity;
    bool failed; /* there was no memory for a slot or a step */
    size_t arena_bytes;
    struct cpu_ref embeddings, output_grad;
};

/* Frozen graphs and CPU_PLAN_EMBED fold batch norms. `params` must outlive the plan. */
enum dml_status cpu_plan_create(const struct dml_graph *graph, struct cpu_params *params,
                                struct cpu_engine *engine, int block, enum cpu_plan_kind kind,
                                size_t n, struct cpu_plan **out);
void cpu_plan_destroy(struct cpu_plan *plan);
static inline bool cpu_plan_folds(const struct cpu_plan *plan) {
    return plan->kind == CPU_PLAN_EMBED || plan->graph->frozen;
}

/* plan_backward.c: appends the steps of the backward pass; values[u] is where unit u's tensor
 * lies, states[u] what its forward pass kept beside. */
enum dml_status cpu_plan_backward_steps(struct cpu_plan *plan, const struct cpu_ref *values,
                                        const struct cpu_ref *states);

/* Whether a unit's relu is applied by the max pool behind it in the backward pass: where a
 * maximum is positive, so was the value that won, and nothing else gets a gradient. */
bool cpu_plan_masked_by_pool(const struct cpu_plan *plan, int unit);

/* For the two builders: a new slot, a reference to a whole tensor in a new slot, and a step (its
 * slots become alive in it). They return false or slot -1 without memory. */
int cpu_plan_slot(struct cpu_plan *plan, size_t bytes);
struct cpu_ref cpu_plan_tensor(struct cpu_plan *plan, const struct cpu_layout *layout);
struct cpu_ref cpu_plan_scratch(struct cpu_plan *plan, size_t bytes);
bool cpu_plan_step(struct cpu_plan *plan, const struct cpu_step *step);
struct cpu_step cpu_step_make(enum cpu_step_kind kind, int unit);

/* What a run of a plan works on. */
struct cpu_run {
    const struct cpu_plan *plan;
    char *arena;
    const struct dml_images *images;
    size_t first; /* image of the batch that the plan's first one is */
    bool accumulate;
};

/* run.c. Images to embeddings (n, embed_dim). */
enum dml_status cpu_run_forward(const struct cpu_run *run, float *embeddings);
/* After cpu_run_forward with the same arena: dL/d(embeddings) (n, embed_dim) to gradients. */
enum dml_status cpu_run_backward(const struct cpu_run *run, const float *grad);

static inline void *cpu_at(const struct cpu_run *run, struct cpu_ref ref) {
    if (ref.slot < 0)
        return NULL;
    return run->arena + run->plan->slots[ref.slot].offset +
           ref.offset * cpu_element_size(ref.element);
}

/* Floats in the gradient of a convolution's weights, and where its bias gradient and oneDNN's
 * scratch memory begin in the step's scratch slot. */
size_t cpu_grad_bias_offset(const struct cpu_plan *plan, int unit);
size_t cpu_grad_scratch_offset(const struct cpu_plan *plan, int unit);

#endif
