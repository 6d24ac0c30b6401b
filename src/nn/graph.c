#include "nn/graph_build.h"

#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct dml_graph *dml_graph_new(void) {
    struct dml_graph *graph = dml_alloc(1, sizeof *graph);
    if (graph)
        for (int c = 0; c < 3; c++)
            graph->input.std[c] = 1.0f;
    return graph;
}

void dml_graph_set_input(struct dml_graph *graph, const struct dml_input_transform *transform) {
    graph->input = *transform;
}

void dml_graph_set_init(struct dml_graph *graph, enum dml_weight_init init) {
    graph->weight_init = init;
}

void dml_graph_block(struct dml_graph *graph) {
    if (graph->layers)
        dml_graph_refuse(graph, graph->node_count, "", "a block begins after the last layer");
    graph->layer++;
}

struct dml_shape dml_graph_shape(const struct dml_graph *graph, int node) {
    if (node < 0 || node >= graph->node_count)
        return (struct dml_shape){0};
    const struct dml_node *n = &graph->nodes[node];
    return (struct dml_shape){n->channels, n->height, n->width, n->tokens};
}

int dml_graph_fail(struct dml_graph *graph, enum dml_status status) {
    if (graph->failure == DML_OK)
        graph->failure = status;
    return -1;
}

void dml_graph_free(struct dml_graph *graph) {
    if (!graph)
        return;
    for (int i = 0; i < graph->node_count; i++) {
        free(graph->nodes[i].scale);
        free(graph->nodes[i].shift);
    }
    free(graph->nodes);
    free(graph->params);
    free(graph);
}

int dml_graph_refuse(struct dml_graph *graph, int node, const char *name, const char *why) {
    if (graph->failure == DML_OK)
        graph->failure = dml_fail(DML_ERROR_USAGE, "network graph: node %d%s%s: %s", node,
                                  *name ? " " : "", name, why);
    return -1;
}

/* Whether the operation takes a sequence of tokens. */
static bool takes_tokens(enum dml_op op) {
    switch (op) {
    case DML_OP_RELU:
    case DML_OP_ADD:
    case DML_OP_LINEAR:
    case DML_OP_LAYER_NORM:
    case DML_OP_ATTENTION:
    case DML_OP_GELU:
    case DML_OP_QUICK_GELU:
    case DML_OP_LAYER_SCALE:
    case DML_OP_DROP_PATH:
    case DML_OP_TOKEN_POOL:
        return true;
    default:
        return false;
    }
}

struct dml_node *dml_graph_append(struct dml_graph *graph, enum dml_op op, const char *name,
                                  const int *inputs, int count) {
    if (graph->failure)
        return NULL;
    if (!name) {
        dml_graph_refuse(graph, graph->node_count, "", "its name is NULL");
        return NULL;
    }
    for (int i = 0; i < count; i++)
        if (inputs[i] < 0 || inputs[i] >= graph->node_count) {
            dml_graph_refuse(graph, graph->node_count, name, "an input is not an earlier node");
            return NULL;
        } else if (graph->nodes[inputs[i]].tokens && !takes_tokens(op)) {
            dml_graph_refuse(graph, graph->node_count, name, "takes a feature map, not tokens");
            return NULL;
        }
    if (strlen(name) + sizeof ".running_mean" > DML_GRAPH_NAME) {
        dml_graph_refuse(graph, graph->node_count, name, "the name is too long");
        return NULL;
    }
    void *nodes = graph->nodes;
    if (dml_grow(&nodes, &graph->node_capacity, (size_t)graph->node_count + 1,
                 sizeof *graph->nodes) != DML_OK) {
        graph->failure = DML_ERROR_MEMORY;
        return NULL;
    }
    graph->nodes = nodes;
    struct dml_node *node = &graph->nodes[graph->node_count++];
    *node = (struct dml_node){.op = op, .input_count = count, .layer = graph->layer};
    snprintf(node->name, sizeof node->name, "%s", name);
    for (int i = 0; i < count; i++)
        node->inputs[i] = inputs[i];
    node->first_param = graph->param_count;
    if (count) {
        const struct dml_node *input = &graph->nodes[inputs[0]];
        node->channels = input->channels;
        node->height = input->height;
        node->width = input->width;
        node->tokens = input->tokens;
        node->prefix = input->prefix;
    }
    return node;
}

void dml_graph_add_param(struct dml_graph *graph, const char *suffix, enum dml_param_role role,
                         const int *dims, int dim_count) {
    if (graph->failure)
        return;
    void *params = graph->params;
    if (dml_grow(&params, &graph->param_capacity, (size_t)graph->param_count + 1,
                 sizeof *graph->params) != DML_OK) {
        graph->failure = DML_ERROR_MEMORY;
        return;
    }
    graph->params = params;
    struct dml_node *node = &graph->nodes[graph->node_count - 1];
    struct dml_graph_param *param = &graph->params[graph->param_count++];
    *param = (struct dml_graph_param){.role = role,
                                      .node = graph->node_count - 1,
                                      .dim_count = dim_count,
                                      .count = 1,
                                      .layer = graph->layer};
    snprintf(param->name, sizeof param->name, "%.80s%s%s", node->name, *node->name ? "." : "",
             suffix);
    for (int i = 0; i < dim_count; i++) {
        param->dims[i] = dims[i];
        param->count *= (size_t)dims[i];
    }
    node->param_count++;
}

int dml_graph_find_param(const struct dml_graph *graph, int node, enum dml_param_role role) {
    const struct dml_node *n = &graph->nodes[node];
    for (int i = n->first_param; i < n->first_param + n->param_count; i++)
        if (graph->params[i].role == role)
            return i;
    return -1;
}

bool dml_param_learnable(const struct dml_graph_param *param) {
    return param->role != DML_ROLE_RUNNING_MEAN && param->role != DML_ROLE_RUNNING_VAR;
}

int dml_graph_last(const struct dml_graph *graph) {
    return graph->failure ? -1 : graph->node_count - 1;
}

/* Windows of a convolution or pool along one axis (PyTorch's rule): with ceil_mode, a last window
 * that begins inside the input or its left padding counts too. */
static int windows(int size, int kernel, int stride, int pad, bool ceil_mode) {
    int span = size + 2 * pad - kernel;
    if (span < 0)
        return 0;
    int count = (span + (ceil_mode ? stride - 1 : 0)) / stride + 1;
    if (ceil_mode && (count - 1) * stride >= size + pad)
        count--;
    return count;
}

/* Sets the window of a node and the shape that follows from it. */
static int slide(struct dml_graph *graph, struct dml_node *node, int kernel_h, int kernel_w,
                 int stride, int pad_h, int pad_w, bool ceil_mode) {
    if (!dml_graph_within(kernel_h, 1, DML_GRAPH_MOST_KERNEL) ||
        !dml_graph_within(kernel_w, 1, DML_GRAPH_MOST_KERNEL) ||
        !dml_graph_within(stride, 1, DML_GRAPH_MOST_KERNEL) ||
        !dml_graph_within(pad_h, 0, DML_GRAPH_MOST_KERNEL) ||
        !dml_graph_within(pad_w, 0, DML_GRAPH_MOST_KERNEL))
        return dml_graph_refuse(graph, dml_graph_last(graph), node->name,
                                "kernel, stride or padding out of range");
    if (node->op != DML_OP_CONV && (2 * pad_h > kernel_h || 2 * pad_w > kernel_w))
        return dml_graph_refuse(graph, dml_graph_last(graph), node->name,
                                "a pool's padding is at most half of its window");
    if (node->op != DML_OP_CONV && (kernel_h > 15 || kernel_w > 15))
        return dml_graph_refuse(graph, dml_graph_last(graph), node->name,
                                "a pool's window has at most 15 x 15 pixels");
    node->kernel_h = kernel_h;
    node->kernel_w = kernel_w;
    node->stride_h = node->stride_w = stride;
    node->pad_h = pad_h;
    node->pad_w = pad_w;
    node->ceil_mode = ceil_mode;
    node->height = windows(node->height, kernel_h, stride, pad_h, ceil_mode);
    node->width = windows(node->width, kernel_w, stride, pad_w, ceil_mode);
    if (node->height < 1 || node->width < 1)
        return dml_graph_refuse(graph, dml_graph_last(graph), node->name,
                                "the image is too small for its window");
    return dml_graph_last(graph);
}

int dml_graph_input(struct dml_graph *graph, int channels, int height, int width) {
    if (!dml_graph_within(channels, 1, DML_GRAPH_MOST_CHANNELS) ||
        !dml_graph_within(height, 1, DML_GRAPH_MOST_PIXELS) ||
        !dml_graph_within(width, 1, DML_GRAPH_MOST_PIXELS))
        return dml_graph_refuse(graph, graph->node_count, "input",
                                "sides or channels out of range");
    struct dml_node *node = dml_graph_append(graph, DML_OP_INPUT, "", NULL, 0);
    if (!node)
        return -1;
    node->channels = channels;
    node->height = height;
    node->width = width;
    return dml_graph_last(graph);
}

static int conv(struct dml_graph *graph, int input, const char *name, int out_channels,
                int kernel_h, int kernel_w, int stride, int pad_h, int pad_w, int groups,
                bool bias) {
    struct dml_node *node = dml_graph_append(graph, DML_OP_CONV, name, &input, 1);
    if (!node)
        return -1;
    int in_channels = node->channels;
    if (!dml_graph_within(out_channels, 1, DML_GRAPH_MOST_CHANNELS))
        return dml_graph_refuse(graph, dml_graph_last(graph), name, "output channels out of range");
    if (groups < 1 || in_channels % groups || out_channels % groups)
        return dml_graph_refuse(graph, dml_graph_last(graph), name,
                                "the channels are not a multiple of the groups");
    if (slide(graph, node, kernel_h, kernel_w, stride, pad_h, pad_w, false) < 0)
        return -1;
    node->channels = out_channels;
    node->has_bias = bias;
    node->groups = groups;
    dml_graph_add_param(graph, "weight", DML_ROLE_WEIGHT,
                        (int[]){out_channels, in_channels / groups, kernel_h, kernel_w}, 4);
    if (bias)
        dml_graph_add_param(graph, "bias", DML_ROLE_BIAS, &out_channels, 1);
    return dml_graph_last(graph);
}

int dml_graph_conv(struct dml_graph *graph, int input, const char *name, int out_channels,
                   int kernel, int stride, int pad, bool bias) {
    return dml_graph_conv_rect(graph, input, name, out_channels, kernel, kernel, stride, pad, pad,
                               bias);
}

int dml_graph_conv_rect(struct dml_graph *graph, int input, const char *name, int out_channels,
                        int kernel_h, int kernel_w, int stride, int pad_h, int pad_w, bool bias) {
    return conv(graph, input, name, out_channels, kernel_h, kernel_w, stride, pad_h, pad_w, 1,
                bias);
}

int dml_graph_conv_grouped(struct dml_graph *graph, int input, const char *name, int out_channels,
                           int kernel, int stride, int pad, int groups, bool bias) {
    return conv(graph, input, name, out_channels, kernel, kernel, stride, pad, pad, groups, bias);
}

int dml_graph_batch_norm(struct dml_graph *graph, int input, const char *name, float epsilon,
                         float momentum) {
    struct dml_node *node = dml_graph_append(graph, DML_OP_BATCH_NORM, name, &input, 1);
    if (!node)
        return -1;
    if (!(epsilon > 0) || !(momentum > 0 && momentum <= 1))
        return dml_graph_refuse(graph, dml_graph_last(graph), name,
                                "a batch norm's epsilon and momentum must be above 0, and momentum "
                                "at most 1");
    node->epsilon = epsilon;
    node->momentum = momentum;
    int channels = node->channels;
    dml_graph_add_param(graph, "weight", DML_ROLE_NORM_WEIGHT, &channels, 1);
    dml_graph_add_param(graph, "bias", DML_ROLE_NORM_BIAS, &channels, 1);
    dml_graph_add_param(graph, "running_mean", DML_ROLE_RUNNING_MEAN, &channels, 1);
    dml_graph_add_param(graph, "running_var", DML_ROLE_RUNNING_VAR, &channels, 1);
    return dml_graph_last(graph);
}

int dml_graph_relu(struct dml_graph *graph, int input) {
    dml_graph_append(graph, DML_OP_RELU, "", &input, 1);
    return dml_graph_last(graph);
}

int dml_graph_max_pool(struct dml_graph *graph, int input, int kernel, int stride, int pad,
                       bool ceil_mode) {
    struct dml_node *node = dml_graph_append(graph, DML_OP_MAX_POOL, "", &input, 1);
    return node ? slide(graph, node, kernel, kernel, stride, pad, pad, ceil_mode) : -1;
}

int dml_graph_avg_pool(struct dml_graph *graph, int input, int kernel, int stride, int pad,
                       bool ceil_mode, bool count_padding) {
    struct dml_node *node = dml_graph_append(graph, DML_OP_AVG_POOL, "", &input, 1);
    if (!node)
        return -1;
    node->count_padding = count_padding;
    return slide(graph, node, kernel, kernel, stride, pad, pad, ceil_mode);
}

static int global_pool(struct dml_graph *graph, enum dml_op op, int input) {
    struct dml_node *node = dml_graph_append(graph, op, "", &input, 1);
    if (node)
        node->height = node->width = 1;
    return dml_graph_last(graph);
}

int dml_graph_global_avg_pool(struct dml_graph *graph, int input) {
    return global_pool(graph, DML_OP_GLOBAL_AVG_POOL, input);
}

int dml_graph_global_max_pool(struct dml_graph *graph, int input) {
    return global_pool(graph, DML_OP_GLOBAL_MAX_POOL, input);
}

int dml_graph_global_gem_pool(struct dml_graph *graph, int input, const char *name) {
    struct dml_node *node = dml_graph_append(graph, DML_OP_GLOBAL_GEM_POOL, name, &input, 1);
    if (!node)
        return -1;
    node->height = node->width = 1;
    dml_graph_add_param(graph, "p", DML_ROLE_POOL_POWER, (int[]){1}, 1);
    return dml_graph_last(graph);
}

int dml_graph_add(struct dml_graph *graph, int a, int b) {
    struct dml_node *node = dml_graph_append(graph, DML_OP_ADD, "", (int[]){a, b}, 2);
    if (!node)
        return -1;
    const struct dml_node *x = &graph->nodes[a], *y = &graph->nodes[b];
    if (x->channels != y->channels || x->height != y->height || x->width != y->width ||
        x->tokens != y->tokens)
        return dml_graph_refuse(graph, dml_graph_last(graph), "add",
                                "the two inputs differ in shape");
    return dml_graph_last(graph);
}

int dml_graph_concat(struct dml_graph *graph, const int *inputs, int count) {
    if (count < 1 || count > DML_GRAPH_MAX_INPUTS)
        return dml_graph_refuse(graph, graph->node_count, "concat", "needs 1 to 8 inputs");
    struct dml_node *node = dml_graph_append(graph, DML_OP_CONCAT, "", inputs, count);
    if (!node)
        return -1;
    for (int i = 1; i < count; i++) {
        const struct dml_node *input = &graph->nodes[inputs[i]];
        if (input->height != node->height || input->width != node->width)
            return dml_graph_refuse(graph, dml_graph_last(graph), "concat",
                                    "the inputs differ in height or width");
        node->channels += input->channels;
        if (node->channels > DML_GRAPH_MOST_CHANNELS)
            return dml_graph_refuse(graph, dml_graph_last(graph), "concat", "too many channels");
    }
    return dml_graph_last(graph);
}

int dml_graph_affine(struct dml_graph *graph, int input, const float *scale, const float *shift) {
    struct dml_node *node = dml_graph_append(graph, DML_OP_AFFINE, "", &input, 1);
    if (!node)
        return -1;
    size_t channels = (size_t)node->channels;
    node->scale = dml_alloc(channels, sizeof *scale);
    node->shift = dml_alloc(channels, sizeof *shift);
    if (!node->scale || !node->shift) {
        graph->failure = DML_ERROR_MEMORY;
        return -1;
    }
    memcpy(node->scale, scale, channels * sizeof *scale);
    memcpy(node->shift, shift, channels * sizeof *shift);
    return dml_graph_last(graph);
}

static int linear(struct dml_graph *graph, int input, const char *name, int out_features,
                  bool bias) {
    struct dml_node *node = dml_graph_append(graph, DML_OP_LINEAR, name, &input, 1);
    if (!node)
        return -1;
    int in_features = node->channels;
    if (node->height != 1 || node->width != 1)
        return dml_graph_refuse(graph, dml_graph_last(graph), name,
                                "a linear layer needs an input of one pixel, or tokens");
    if (!dml_graph_within(out_features, 1, DML_GRAPH_MOST_CHANNELS))
        return dml_graph_refuse(graph, dml_graph_last(graph), name, "output features out of range");
    node->channels = out_features;
    node->has_bias = bias;
    dml_graph_add_param(graph, "weight", DML_ROLE_WEIGHT, (int[]){out_features, in_features}, 2);
    if (bias)
        dml_graph_add_param(graph, "bias", DML_ROLE_BIAS, &out_features, 1);
    return dml_graph_last(graph);
}

int dml_graph_linear(struct dml_graph *graph, int input, const char *name, int out_features) {
    return linear(graph, input, name, out_features, true);
}

int dml_graph_linear_bare(struct dml_graph *graph, int input, const char *name, int out_features) {
    return linear(graph, input, name, out_features, false);
}

int dml_graph_l2_normalize(struct dml_graph *graph, int input) {
    struct dml_node *node = dml_graph_append(graph, DML_OP_L2_NORMALIZE, "", &input, 1);
    if (node && (node->height != 1 || node->width != 1))
        return dml_graph_refuse(graph, dml_graph_last(graph), "l2_normalize",
                                "needs an input of one pixel");
    return dml_graph_last(graph);
}

enum dml_status dml_graph_finish(struct dml_graph *graph, int output) {
    if (graph->failure)
        return graph->failure;
    if (output < 0 || output >= graph->node_count) {
        dml_graph_refuse(graph, output, "output", "is not a node");
        return graph->failure;
    }
    const struct dml_node *node = &graph->nodes[output];
    if (!dml_node_is_vector(node)) {
        dml_graph_refuse(graph, output, "output", "is not a vector");
        return graph->failure;
    }
    graph->output = output;
    graph->embed_dim = node->channels;
    return DML_OK;
}
