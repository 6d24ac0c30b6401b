#ifndef DML_BACKENDS_NETWORK_H
#define DML_BACKENDS_NETWORK_H

#include "backends/backend.h"
#include "nn/weights/weights.h"

/* A network: what it computes (network->graph), its parameters, and what computes it, as one
 * handle. Here are the functions of backend.h on it, and what is done with parameters on any
 * backend. */

/* Takes over the graph where it succeeds. Parameters start uninitialised. DML_ERROR_UNSUPPORTED: a
 * precision or option that this machine or graph does not allow. */
enum dml_status dml_network_open(const struct dml_backend *backend, struct dml_graph *graph,
                                 const struct dml_network_options *options,
                                 struct dml_network **out);
void dml_network_close(struct dml_network *network); /* may be NULL */

/* Floats of an embedding. */
static inline size_t dml_network_dim(const struct dml_network *network) {
    return (size_t)network->graph->embed_dim;
}

/* DML_ERROR_USAGE: there is no such parameter, or it has no such slot. */
enum dml_status dml_network_read(struct dml_network *network, int index, enum dml_slot slot,
                                 float *values);
enum dml_status dml_network_write(struct dml_network *network, int index, enum dml_slot slot,
                                  const float *values);

static inline enum dml_status
dml_network_embed(struct dml_network *network, const struct dml_images *images, float *embeddings) {
    return network->backend->embed(network, images, embeddings);
}
static inline enum dml_status dml_network_forward(struct dml_network *network,
                                                  const struct dml_images *images,
                                                  float *embeddings) {
    return network->backend->forward(network, images, embeddings);
}
static inline enum dml_status dml_network_backward(struct dml_network *network, const float *grad) {
    return network->backend->backward(network, grad);
}
static inline void dml_network_announce(struct dml_network *network,
                                        const struct dml_images *images) {
    if (network->backend->announce)
        network->backend->announce(network, images);
}
static inline enum dml_status dml_network_gradient_size(struct dml_network *network,
                                                        const struct dml_spans *spans,
                                                        struct dml_gradient_size *size) {
    return network->backend->gradient_size(network, spans, size);
}
static inline enum dml_status dml_network_clip(struct dml_network *network,
                                               const struct dml_spans *spans, double scale,
                                               double limit) {
    return network->backend->clip(network, spans, scale, limit);
}
static inline enum dml_status dml_network_step(struct dml_network *network,
                                               const struct dml_optimiser_step *step) {
    return network->backend->step(network, step);
}
static inline enum dml_status dml_network_average(struct dml_network *network, double decay) {
    return network->backend->average(network, decay);
}
static inline enum dml_status dml_network_exchange(struct dml_network *network) {
    return network->backend->exchange(network);
}
static inline void dml_network_describe(const struct dml_network *network, char *text,
                                        size_t size) {
    network->backend->describe(network, text, size);
}
static inline size_t dml_network_memory(const struct dml_network *network) {
    return network->backend->memory(network);
}

static inline struct dml_memory_source dml_network_image_memory(struct dml_network *network) {
    return network->backend->image_memory ? network->backend->image_memory(network)
                                          : (struct dml_memory_source){0};
}

/* Initial values for every parameter, keyed by seed. */
enum dml_status dml_network_initialise(struct dml_network *network, uint64_t seed);

/* From tensors of `file`; see dml_weights_load for `head` and errors. */
enum dml_status dml_network_load(struct dml_network *network, const struct dml_tensors *tensors,
                                 const char *file, bool head);

/* Appends all parameters, buffers included, under PyTorch's names. */
enum dml_status dml_network_collect(struct dml_network *network, struct dml_tensors *out);

#endif
