#include "card_bound.h"

#include <math.h>

/* Values of a node's output. */
static double values_of(const struct dml_node *node) {
    double rows = node->tokens ? node->tokens : (double)node->height * node->width;
    return rows * node->channels;
}

/* Multiplications and additions of its forward pass. */
static double products_of(const struct dml_node *node, const struct dml_node *input) {
    double values = values_of(node);
    switch (node->op) {
    case DML_OP_CONV:
        return 2 * values * input->channels / node->groups * node->kernel_h * node->kernel_w;
    case DML_OP_LINEAR:
        return 2 * values * input->channels;
    case DML_OP_ATTENTION:
        return 4 * values * node->tokens;
    default:
        return 0;
    }
}

/* How many values pass through memory, forward and, in training, backward. */
static double traffic_of(const struct dml_graph *graph, const struct dml_node *node,
                         const struct dml_node *input, bool training) {
    double out = values_of(node), in = values_of(input);
    switch (node->op) {
    case DML_OP_CONV:
    case DML_OP_LINEAR: /* of the image there is no gradient */
        return (in + out) * (!training ? 1 : input->op == DML_OP_INPUT ? 2 : 3);
    case DML_OP_BATCH_NORM: /* mean, variance, normalising; two sums, and the input's gradient */
        return graph->frozen || !training ? 0 : 9 * out;
    case DML_OP_ADD:
        return training ? 2 * out : out;
    case DML_OP_ATTENTION: /* scores are written, normalised and read */
        return (in + out + 4.0 * node->heads * node->tokens * node->tokens) * (training ? 3 : 1);
    case DML_OP_GELU:
    case DML_OP_QUICK_GELU:
    case DML_OP_LAYER_NORM:
        return training ? 5 * out : 2 * out;
    case DML_OP_MAX_POOL:
    case DML_OP_AVG_POOL:
        return (in + out) * (training ? 2 : 1);
    default:
        return 0;
    }
}

struct card_bound card_bound_of(const struct dml_graph *graph, bool training, double element,
                                double batch, double peak, double bandwidth) {
    struct card_bound sum = {0};
    double weights = 0;
    for (int i = 0; i < graph->param_count; i++)
        weights += (double)graph->params[i].count;
    for (int i = 0; i < graph->node_count; i++) {
        const struct dml_node *node = &graph->nodes[i];
        if (node->input_count == 0)
            continue;
        const struct dml_node *input = &graph->nodes[node->inputs[0]];
        double flops = products_of(node, input) * (!training                   ? 1
                                                   : input->op == DML_OP_INPUT ? 2
                                                                               : 3);
        double bytes = traffic_of(graph, node, input, training) * (node->tokens ? 4 : element);
        sum.flops += flops;
        sum.bytes += bytes;
        sum.seconds += fmax(flops / peak, bytes / bandwidth);
    }
    /* Adam reads and writes values and two states, and reads gradients, which are written before.
     */
    double bytes = weights * ((training ? 2 : 1) * element + (training ? 32 : 0)) / batch;
    sum.bytes += bytes;
    sum.seconds += bytes / bandwidth;
    return sum;
}
