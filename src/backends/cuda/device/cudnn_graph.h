#ifndef DML_CUDNN_GRAPH_H
#define DML_CUDNN_GRAPH_H

#include "backends/cuda/device.h"

#include <cudnn.h>

/* Convolutions by cuDNN's graph API: a pass becomes a graph of operations, for which heuristics
 * propose engines; each that is allowed and supported is a plan. */

/* What plans are made for: a card in use, or one that a JSON text describes (cuDNN 9.11 and later),
 * for which plans are made but cannot be run. */
struct cudnn_target {
    cudnnHandle_t handle;               /* NULL: a described one */
    cudnnBackendDescriptor_t described; /* NULL: that of the handle */
    enum cuda_math math;
};
bool cudnn_describe(const char *json, struct cudnn_target *out, char *reason);
void cudnn_undescribe(struct cudnn_target *target);

/* Plans for `pass`, at most `most`, those that heuristics rank best first; returns how many. None
 * computes with less than the target's math or gives different bits when repeated. `fused`:
 * residual, bias and relu of the shape are part of a forward pass. */
struct cudnn_plan {
    cudnnBackendDescriptor_t plan;
    size_t scratch; /* bytes */
};
enum { CUDNN_MOST_PLANS = 8 };
int cudnn_plans(const struct cudnn_target *target, const struct cuda_conv_shape *shape,
                enum cuda_pass pass, bool fused, struct cudnn_plan *plans, int most, char *reason);
void cudnn_plan_destroy(struct cudnn_plan *plan);

/* Whether one plan of a pass serves both shapes: the backward passes do not see what is fused, nor
 * each other. */
bool cudnn_same(const struct cuda_conv_shape *a, const struct cuda_conv_shape *b, bool fused);

/* What a plan reads and writes; NULL for tensors that its pass does not have. */
struct cudnn_operands {
    const void *x, *weights, *bias, *residual;
    void *y; /* the output; in the backward passes its gradient, which they read */
};
cudnnStatus_t cudnn_run(cudnnHandle_t handle, const struct cudnn_plan *plan,
                        const struct cudnn_operands *operands, void *scratch);

#endif
