#ifndef DML_CPU_TRAITS_H
#define DML_CPU_TRAITS_H

#include "backends/cpu/convolution.h"
#include "backends/cpu/params.h"
#include "plan/plan.h"

/* What the planner asks about the CPU: tensors in oneDNN's blocked layouts, convolutions as the
 * kernels of fusions (struct cpu_conv), everything supported and fused. */
struct cpu_planning {
    struct cpu_engine *engine;
    struct cpu_params *params;
};

/* `planning` is the traits' context and must outlive them. `block`: cpu_engine_block. */
struct plan_traits cpu_traits(struct cpu_planning *planning, int block);

/* Floats in the gradient of a convolution's weights, and where its bias gradient and oneDNN's
 * scratch memory begin in the step's scratch slot. */
size_t cpu_grad_bias_offset(const struct cpu_params *params, const struct plan_fusion *fusion);
size_t cpu_grad_scratch_offset(const struct cpu_params *params, const struct plan_fusion *fusion);

#endif
