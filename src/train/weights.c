#include "train/weights.h"

#include "base/memory.h"

#include <stdlib.h>

/* A network with its backend, as one pointer for callbacks. */
struct target {
    const struct dml_backend *backend;
    struct dml_network *network;
};

static enum dml_status put(void *data, int index, const float *values) {
    const struct target *target = data;
    return target->backend->write(target->network, index, DML_SLOT_VALUE, values);
}

static enum dml_status get(void *data, int index, float *values) {
    const struct target *target = data;
    return target->backend->read(target->network, index, DML_SLOT_VALUE, values);
}

enum dml_status dml_network_initialise(const struct dml_graph *graph,
                                       const struct dml_backend *backend,
                                       struct dml_network *network, uint64_t seed) {
    enum dml_status status = DML_OK;
    for (int i = 0; !status && i < graph->param_count; i++) {
        float *values = dml_alloc(graph->params[i].count, sizeof *values);
        if (!values)
            return DML_ERROR_MEMORY;
        dml_graph_init_param(graph, i, seed, values);
        status = backend->write(network, i, DML_SLOT_VALUE, values);
        free(values);
    }
    return status;
}

enum dml_status dml_network_load(const struct dml_graph *graph, const struct dml_backend *backend,
                                 struct dml_network *network, const struct dml_tensors *tensors,
                                 const char *file, bool head) {
    struct target target = {backend, network};
    return dml_weights_load(graph, tensors, file, head, put, &target);
}

enum dml_status dml_network_collect(const struct dml_graph *graph,
                                    const struct dml_backend *backend, struct dml_network *network,
                                    struct dml_tensors *out) {
    struct target target = {backend, network};
    return dml_weights_collect(graph, get, &target, out);
}
