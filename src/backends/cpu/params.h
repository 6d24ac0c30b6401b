#ifndef DML_CPU_PARAMS_H
#define DML_CPU_PARAMS_H

#include "backends/backend.h"
#include "backends/cpu/convolution.h"
#include "backends/cpu/products.h"
#include "plan/fold.h"
#include "plan/fusions.h"

/* The parameters of a network. Each kind of value is one array, in which parameter p starts at
 * items[p].offset: learnable parameters first, then running statistics. Convolution weights are
 * in the layout that the convolutions want, everything else is plain. */
struct cpu_param {
    size_t offset, count;        /* stored floats, padding included */
    struct cpu_weights *weights; /* of a convolution's weight, else NULL */
    size_t narrow;               /* bytes from cpu_params.narrow to its bfloat16 copy */
    bool learnable;
};

struct cpu_params {
    const struct dml_graph *graph;
    struct cpu_param *items;
    size_t total, learnable; /* floats */
    float *values, *grads;
    float *states[DML_OPTIMISER_STATES]; /* NULL until they are used, then of `learnable` floats */
    float *average;                      /* NULL until it is used, then of `total` floats */
    /* Weights with their batch norm folded in, at the weight's offset; the resulting bias at the
     * offset of the batch norm's bias. */
    float *folded;
    /* For bfloat16 convolutions: their own weights or the folded ones, as they read them; NULL in
     * float32. */
    char *narrow;
    enum plan_element element;    /* of feature maps */
    struct cpu_rounding rounding; /* how linear layers multiply bfloat16 operands; none: in float32
                                   */
    enum cpu_prepared { CPU_PREPARED_NOT, CPU_PREPARED_OWN, CPU_PREPARED_FOLDED } prepared;
};

enum dml_status cpu_params_create(const struct dml_graph *graph, struct cpu_engine *engine,
                                  size_t batch, int block, enum plan_element element,
                                  struct cpu_params *out);
void cpu_params_destroy(struct cpu_params *params);

enum dml_status cpu_params_read(struct cpu_params *params, int index, enum dml_slot slot,
                                float *values);
enum dml_status cpu_params_write(struct cpu_params *params, int index, enum dml_slot slot,
                                 const float *values);
enum dml_status cpu_params_step(struct cpu_params *params, const struct dml_optimiser_step *step);
struct dml_gradient_size cpu_params_gradient_size(const struct cpu_params *params,
                                                  const struct dml_spans *spans);
void cpu_params_clip(struct cpu_params *params, const struct dml_spans *spans, double scale,
                     double limit);
/* Makes the first `count` states, or the averages, where they do not exist yet. */
enum dml_status cpu_params_states(struct cpu_params *params, size_t count);
enum dml_status cpu_params_averages(struct cpu_params *params);
enum dml_status cpu_params_average(struct cpu_params *params, double decay);
enum dml_status cpu_params_exchange(struct cpu_params *params);

/* Where the learnable parameters of the graph from `param` on begin. */
size_t cpu_params_from(const struct cpu_params *params, int param);

/* A node's values or gradients of that role; NULL where it has no such parameter. */
static inline float *cpu_params_value(const struct cpu_params *params, int node,
                                      enum dml_param_role role) {
    int index = dml_graph_find_param(params->graph, node, role);
    return index < 0 ? NULL : params->values + params->items[index].offset;
}
static inline float *cpu_params_grad(const struct cpu_params *params, int node,
                                     enum dml_param_role role) {
    int index = dml_graph_find_param(params->graph, node, role);
    return index < 0 ? NULL : params->grads + params->items[index].offset;
}

/* The parameters of a batch norm, with its running statistics. */
struct plan_norm cpu_norm_of(const struct cpu_params *params, int node);

/* Brings `folded`, where the plan of these fusions folds batch norms into convolutions, and
 * `narrow` up to date. */
enum dml_status cpu_params_prepare(struct cpu_params *params, const struct plan_fusions *fusions,
                                   bool fold);

/* From the gradients of a convolution's effective weight and bias, those of its own parameters and
 * of the batch norm folded into it: dW = dW' g/s, the others as in plan/fold.h. */
void cpu_params_conv_grads(struct cpu_params *params, const struct plan_fusion *fusion,
                           const float *grad_weights, const float *grad_bias);

#endif
