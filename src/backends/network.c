#include "backends/network.h"

#include "base/memory.h"

#include <stdlib.h>

enum dml_status dml_network_open(const struct dml_backend *backend, struct dml_graph *graph,
                                 const struct dml_network_options *options,
                                 struct dml_network **out) {
    *out = NULL;
    enum dml_status status = backend->check(graph, options);
    if (!status)
        status = backend->create(graph, options, out);
    if (status)
        return status;
    (*out)->backend = backend;
    (*out)->graph = graph;
    return DML_OK;
}

void dml_network_close(struct dml_network *network) {
    if (!network)
        return;
    struct dml_graph *graph = network->graph;
    network->backend->destroy(network);
    dml_graph_free(graph);
}

static enum dml_status check_slot(const struct dml_graph *graph, int index, enum dml_slot slot) {
    if (index < 0 || index >= graph->param_count)
        return dml_fail(DML_ERROR_USAGE, "network: there is no parameter %d", index);
    if (slot != DML_SLOT_VALUE && slot != DML_SLOT_AVERAGE &&
        !dml_param_learnable(&graph->params[index]))
        return dml_fail(DML_ERROR_USAGE, "network: %s has no gradient or optimiser state",
                        graph->params[index].name);
    return DML_OK;
}

enum dml_status dml_network_read(struct dml_network *network, int index, enum dml_slot slot,
                                 float *values) {
    enum dml_status status = check_slot(network->graph, index, slot);
    return status ? status : network->backend->read(network, index, slot, values);
}

enum dml_status dml_network_write(struct dml_network *network, int index, enum dml_slot slot,
                                  const float *values) {
    enum dml_status status = check_slot(network->graph, index, slot);
    return status ? status : network->backend->write(network, index, slot, values);
}

static enum dml_status put(void *data, int index, const float *values) {
    return dml_network_write(data, index, DML_SLOT_VALUE, values);
}

static enum dml_status get(void *data, int index, float *values) {
    return dml_network_read(data, index, DML_SLOT_VALUE, values);
}

enum dml_status dml_network_initialise(struct dml_network *network, uint64_t seed) {
    const struct dml_graph *graph = network->graph;
    enum dml_status status = DML_OK;
    for (int i = 0; !status && i < graph->param_count; i++) {
        float *values = dml_alloc(graph->params[i].count, sizeof *values);
        if (!values)
            return DML_ERROR_MEMORY;
        dml_graph_init_param(graph, i, seed, values);
        status = dml_network_write(network, i, DML_SLOT_VALUE, values);
        free(values);
    }
    return status;
}

enum dml_status dml_network_load(struct dml_network *network, const struct dml_tensors *tensors,
                                 const char *file, bool head) {
    return dml_weights_load(network->graph, tensors, file, head, put, network);
}

enum dml_status dml_network_collect(struct dml_network *network, struct dml_tensors *out) {
    return dml_weights_collect(network->graph, get, network, out);
}
