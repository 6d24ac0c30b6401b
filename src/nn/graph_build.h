#ifndef DML_NN_GRAPH_BUILD_H
#define DML_NN_GRAPH_BUILD_H

#include "nn/graph.h"

/* What builders of nodes share: graph.c and graph_tokens.c alone include it. */

/* Upper limits on the sides of an image, on channels, and on kernels, strides and padding, so that
 * their products fit into the types they are computed in. */
enum {
    DML_GRAPH_MOST_PIXELS = 1 << 14,
    DML_GRAPH_MOST_CHANNELS = 1 << 20,
    DML_GRAPH_MOST_KERNEL = 1 << 10,
};

static inline bool dml_graph_within(int value, int least, int most) {
    return value >= least && value <= most;
}

/* Marks the graph as failed; the message of the first failure stays. Returns -1. */
int dml_graph_refuse(struct dml_graph *graph, int node, const char *name, const char *why);

/* Appends a node with `count` inputs; NULL once the graph has failed. Its shape starts as that of
 * the first input. Tokens are refused where the operation takes none. */
struct dml_node *dml_graph_append(struct dml_graph *graph, enum dml_op op, const char *name,
                                  const int *inputs, int count);

/* Adds a parameter to the last node, "name.suffix", or "suffix" where the node has no name. */
void dml_graph_add_param(struct dml_graph *graph, const char *suffix, enum dml_param_role role,
                         const int *dims, int dim_count);

/* Index of the last node; -1 once the graph has failed. */
int dml_graph_last(const struct dml_graph *graph);

/* Whether a node's output is one vector. */
static inline bool dml_node_is_vector(const struct dml_node *node) {
    return node->tokens == 0 && node->height == 1 && node->width == 1;
}

#endif
