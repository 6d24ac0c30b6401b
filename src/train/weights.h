#ifndef DML_TRAIN_WEIGHTS_H
#define DML_TRAIN_WEIGHTS_H

#include "backends/backend.h"
#include "nn/weights/weights.h"

/* Values of a network's parameters: new, from a list of tensors, into one. */

/* Initial values for every parameter, keyed by seed. */
enum dml_status dml_network_initialise(const struct dml_graph *graph,
                                       const struct dml_backend *backend,
                                       struct dml_network *network, uint64_t seed);

/* From tensors of `file`; see dml_weights_load for `head` and errors. */
enum dml_status dml_network_load(const struct dml_graph *graph, const struct dml_backend *backend,
                                 struct dml_network *network, const struct dml_tensors *tensors,
                                 const char *file, bool head);

/* Appends all parameters, buffers included, under PyTorch's names. */
enum dml_status dml_network_collect(const struct dml_graph *graph,
                                    const struct dml_backend *backend, struct dml_network *network,
                                    struct dml_tensors *out);

#endif
