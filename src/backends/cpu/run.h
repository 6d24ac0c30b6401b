#ifndef DML_CPU_RUN_H
#define DML_CPU_RUN_H

#include "backends/cpu/align.h"
#include "backends/cpu/kernels.h"
#include "backends/cpu/params.h"
#include "plan/plan.h"

/* What running a plan works on. */
struct cpu_run {
    const struct plan *plan;
    struct cpu_params *params;
    char *arena;
    const struct dml_images *images;
    size_t first;                        /* index in the batch of the plan's first image */
    const struct dml_batch_parts *parts; /* that share batch norm's statistics, or NULL */
};

/* What wants to know, after each step of a backward pass, which gradients will change no more:
 * those of the graph's parameters from `param` on. */
struct cpu_settled {
    enum dml_status (*call)(void *data, int param);
    void *data;
};

/* Images to embeddings (n, embed_dim). */
enum dml_status cpu_run_forward(const struct cpu_run *run, float *embeddings);
/* After cpu_run_forward with the same arena: dL/d(embeddings) (n, embed_dim) to gradients. */
enum dml_status cpu_run_backward(const struct cpu_run *run, const float *grad,
                                 const struct cpu_settled *settled);

static inline void *cpu_at(const struct cpu_run *run, struct plan_ref ref) {
    if (ref.slot < 0)
        return NULL;
    return run->arena + run->plan->slots[ref.slot].offset +
           ref.offset * plan_element_size(ref.element);
}

#endif
