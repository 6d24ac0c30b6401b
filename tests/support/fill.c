#include "support/fill.h"

#include "nn/weights/positions.h"
#include "support/golden.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint64_t fnv1a(const char *text) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
    return hash;
}

static double uniform(uint64_t stream, size_t i) {
    uint64_t z = stream + (i + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-53;
}

double fill_uniform(const char *name, size_t i) {
    return uniform(fnv1a(name), i);
}

void fill_signed(const char *name, double scale, float *values, size_t count) {
    uint64_t stream = fnv1a(name);
    for (size_t i = 0; i < count; i++)
        values[i] = (float)((2.0 * uniform(stream, i) - 1.0) * scale);
}

void fill_param(const struct dml_graph_param *param, float *values) {
    const char *name = param->name;
    if (param->dim_count == 3) { /* tokens and position embeddings */
        fill_signed(name, 0.5, values, param->count);
    } else if (param->dim_count >= 2) {
        double fan_in = (double)param->count / param->dims[0];
        fill_signed(name, sqrt(6.0 / fan_in) * 0.7, values, param->count);
    } else if (param->role == DML_ROLE_NORM_WEIGHT || param->role == DML_ROLE_RUNNING_VAR) {
        for (size_t i = 0; i < param->count; i++)
            values[i] = (float)(0.5 + fill_uniform(name, i));
    } else if (param->role == DML_ROLE_POOL_POWER) {
        values[0] = 3.0f;
    } else {
        fill_signed(name, 0.2, values, param->count);
    }
}

void fill_positions(const struct dml_graph *graph, int param, size_t grid, float *values) {
    const struct dml_graph_param *p = &graph->params[param];
    const struct dml_node *node = &graph->nodes[p->node];
    size_t channels = (size_t)p->dims[2], patches = (size_t)(node->grid_h * node->grid_w);
    size_t prefix = (size_t)p->dims[1] - patches, count = (prefix + grid * grid) * channels;
    float *stored = malloc(count * sizeof *stored);
    assert_non_null(stored);
    fill_signed(p->name, 0.5, stored, count);
    assert_ok(dml_positions_resample(node->positions, prefix, grid, channels, stored,
                                     (size_t)node->grid_h, (size_t)node->grid_w, values));
    free(stored);
}

void fill_network_stored(struct dml_network *network, size_t grid) {
    const struct dml_graph *graph = network->graph;
    for (int p = 0; p < graph->param_count; p++) {
        float *values = malloc(graph->params[p].count * sizeof *values);
        assert_non_null(values);
        if (grid && graph->params[p].role == DML_ROLE_POSITIONS)
            fill_positions(graph, p, grid, values);
        else
            fill_param(&graph->params[p], values);
        assert_ok(dml_network_write(network, p, DML_SLOT_VALUE, values));
        free(values);
    }
}

void fill_network(struct dml_network *network) {
    fill_network_stored(network, 0);
}
