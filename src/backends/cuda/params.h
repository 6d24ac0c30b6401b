#ifndef DML_CUDA_PARAMS_H
#define DML_CUDA_PARAMS_H

#include "backends/backend.h"
#include "backends/cuda/device.h"
#include "plan/plan.h"

/* Channels that the network's input is padded to. */
enum { CUDA_IMAGE_CHANNELS = 8 };

/* A card in use, and its functions. */
struct cuda_on {
    const struct cuda_api *api;
    const struct cuda_kernels *kernels;
    struct cuda_device *device;
    cuda_stream stream;
};

/* Waits for everything queued. DML_ERROR_IO: some of it failed, and the card is no longer
 * usable. */
enum dml_status cuda_finish(const struct cuda_on *on);

/* The parameters of a network on the card. Each kind of value is one array, in which parameter p
 * starts at items[p].offset: learnable parameters first, then running statistics. A convolution's
 * weights are (out, kernel_h, kernel_w, in / groups), those for the input image with the channels
 * that pad it, which stay 0; everything else is plain. */
struct cuda_param {
    size_t offset, count; /* stored floats */
    bool learnable, conv;
    size_t out, in, stored_in, taps; /* of a convolution's weight */
};

struct cuda_params {
    const struct cuda_on *on;
    const struct dml_graph *graph;
    struct cuda_param *items;
    size_t total, learnable; /* floats */
    float *values, *grads;
    float *states[DML_OPTIMISER_STATES]; /* NULL until they are used, then of `learnable` floats */
    float *average;                      /* NULL until it is used, then of `total` floats */
    float *piece;                        /* NULL, or the gradients of a piece of a batch */
    float *folded;   /* as the CPU backend's: weights, and biases at the batch norm's bias */
    float *scale;    /* of one norm: what weights are folded with */
    double *measure; /* (2), then CUDA_MEASURE_PARTS pairs */
    /* Where convolutions compute in bfloat16, `narrow` holds the copies of their parameters, at
     * their offsets. Master values, gradients and states are always float32. */
    enum plan_element element;
    char *narrow;
    bool narrow_products; /* products round their factors to bfloat16 */
    enum { CUDA_STALE, CUDA_PLAIN, CUDA_FOLDED } ready; /* which of them is up to date */
};

enum dml_status cuda_params_create(const struct dml_graph *graph, const struct cuda_on *on,
                                   enum plan_element element, struct cuda_params *out);
void cuda_params_destroy(struct cuda_params *params);

enum dml_status cuda_params_read(struct cuda_params *params, int index, enum dml_slot slot,
                                 float *values);
enum dml_status cuda_params_write(struct cuda_params *params, int index, enum dml_slot slot,
                                  const float *values);

/* optimise.c */
enum dml_status cuda_params_step(struct cuda_params *params, const struct dml_optimiser_step *step);
enum dml_status cuda_params_gradient_size(struct cuda_params *params, const struct dml_spans *spans,
                                          struct dml_gradient_size *size);
enum dml_status cuda_params_clip(struct cuda_params *params, const struct dml_spans *spans,
                                 double scale, double limit);
enum dml_status cuda_params_average(struct cuda_params *params, double decay);
enum dml_status cuda_params_exchange(struct cuda_params *params);

/* Values with their gradients and the optimiser's states, as long as each other. */
struct cuda_arrays {
    float *values, *grads, *states[DML_OPTIMISER_STATES];
};
/* One update of n values; on the host where the optimiser has no kernel. */
enum dml_status cuda_update_arrays(const struct cuda_on *on, const struct dml_optimiser *optimiser,
                                   const void *options, const struct dml_update *update,
                                   const struct cuda_arrays *arrays, size_t n);

/* Makes the first `count` states, or the averages, where they do not exist yet. */
enum dml_status cuda_params_states(struct cuda_params *params, size_t count);
enum dml_status cuda_params_averages(struct cuda_params *params);
/* Makes `piece`. */
enum dml_status cuda_params_pieces(struct cuda_params *params);

/* A node's values or gradients of that role; NULL where it has no such parameter. */
float *cuda_value(const struct cuda_params *params, int node, enum dml_param_role role);
float *cuda_grad(const struct cuda_params *params, int node, enum dml_param_role role);
/* A batch norm's parameters, for kernels. */
struct cuda_norm cuda_norm_of(const struct cuda_params *params, int node);

/* Brings `folded` and `narrow`, which the convolutions of these fusions compute with, up to
 * date. */
void cuda_params_prepare(struct cuda_params *params, const struct plan_fusions *fusions,
                         bool folds);

/* A convolution's weights and bias (NULL: none) as it computes with them: its own, or folded with a
 * norm (-1: none). */
const void *cuda_conv_values(const struct cuda_params *params, int node, int norm,
                             const void **bias);

/* Memory on the card, zeroed; NULL and an error that says how much was wanted. */
void *cuda_zeros(const struct cuda_on *on, size_t bytes, const char *what);

#endif
