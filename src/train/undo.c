#include "train/undo.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

enum { MOST = 16 * DML_OBJECTIVE_TERMS };

/* Frozen statistics do not change. */
static bool changes(const struct dml_graph *graph, int param) {
    return !graph->frozen && !dml_param_learnable(&graph->params[param]);
}

static size_t bytes_of(const struct dml_criterion_buffer *buffer) {
    return buffer->dims[0] * buffer->dims[1] * (buffer->floats ? sizeof(float) : sizeof(int32_t));
}

enum dml_status dml_undo_open(const struct dml_experiment *e, struct dml_undo *out) {
    const struct dml_graph *graph = e->network->graph;
    struct dml_criterion_buffer buffers[MOST];
    size_t floats = 0, bytes = 0, count;
    *out = (struct dml_undo){.open = e->comm->size > 1 && e->comm->rank == 0};
    if (!out->open)
        return DML_OK;
    for (int i = 0; i < graph->param_count; i++)
        floats += changes(graph, i) ? graph->params[i].count : 0;
    count = dml_objective_buffers(e->terms.objective, buffers, MOST);
    for (size_t i = 0; i < count; i++)
        bytes += bytes_of(&buffers[i]);
    out->statistics = dml_alloc(floats + 1, sizeof *out->statistics);
    out->buffers = dml_alloc(bytes + 1, 1);
    return out->statistics && out->buffers ? DML_OK : DML_ERROR_MEMORY;
}

void dml_undo_close(struct dml_undo *undo) {
    free(undo->statistics);
    free(undo->buffers);
    *undo = (struct dml_undo){.open = false};
}

/* Copies between what is noted and what is in use. */
static enum dml_status copy(const struct dml_experiment *e, const struct dml_undo *undo,
                            bool back) {
    const struct dml_graph *graph = e->network->graph;
    struct dml_criterion_buffer buffers[MOST];
    enum dml_status status = DML_OK;
    size_t at = 0, count;
    if (!undo->open)
        return DML_OK;
    for (int i = 0; !status && i < graph->param_count; i++) {
        if (!changes(graph, i))
            continue;
        float *values = undo->statistics + at;
        status = back ? dml_network_write(e->network, i, DML_SLOT_VALUE, values)
                      : dml_network_read(e->network, i, DML_SLOT_VALUE, values);
        at += graph->params[i].count;
    }
    at = 0;
    count = dml_objective_buffers(e->terms.objective, buffers, MOST);
    for (size_t i = 0; !status && i < count; i++) {
        void *own = buffers[i].floats ? (void *)buffers[i].floats : buffers[i].ints;
        void *noted = undo->buffers + at;
        memcpy(back ? own : noted, back ? noted : own, bytes_of(&buffers[i]));
        at += bytes_of(&buffers[i]);
    }
    return status;
}

enum dml_status dml_undo_note(const struct dml_experiment *e, struct dml_undo *undo) {
    return copy(e, undo, false);
}

enum dml_status dml_undo_back(const struct dml_experiment *e, const struct dml_undo *undo) {
    return copy(e, undo, true);
}
