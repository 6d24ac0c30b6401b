#include "nn/graph_build.h"

/* Builders of the parts of transformers. */

/* Adds a token parameter (1, count, channels). */
static void add_tokens(struct dml_graph *graph, const char *suffix, enum dml_param_role role,
                       int count, int channels) {
    dml_graph_add_param(graph, suffix, role, (int[]){1, count, channels}, 3);
}

int dml_graph_tokens(struct dml_graph *graph, int input,
                     const struct dml_token_settings *settings) {
    struct dml_node *node = dml_graph_append(graph, DML_OP_TOKENS, "", &input, 1);
    if (!node)
        return -1;
    if (!dml_graph_within(settings->registers, 0, 1 << 10))
        return dml_graph_refuse(graph, dml_graph_last(graph), "tokens", "registers out of range");
    if ((long)node->height * node->width > DML_GRAPH_MOST_PIXELS)
        return dml_graph_refuse(graph, dml_graph_last(graph), "tokens", "too many patches");
    int channels = node->channels;
    node->positions = settings->positions;
    node->token_deviation = settings->deviation;
    node->grid_h = node->height;
    node->grid_w = node->width;
    node->prefix = 1 + settings->distilled + settings->registers;
    node->tokens = node->prefix + node->grid_h * node->grid_w;
    node->height = node->width = 1;
    int positions = node->tokens - (settings->registers ? node->prefix : 0);
    add_tokens(graph, "cls_token", DML_ROLE_CLASS_TOKEN, 1, channels);
    if (settings->distilled)
        add_tokens(graph, "dist_token", DML_ROLE_DISTILLATION_TOKEN, 1, channels);
    if (settings->registers)
        add_tokens(graph, "reg_token", DML_ROLE_REGISTERS, settings->registers, channels);
    add_tokens(graph, "pos_embed", DML_ROLE_POSITIONS, positions, channels);
    return dml_graph_last(graph);
}

int dml_graph_layer_norm(struct dml_graph *graph, int input, const char *name, float epsilon,
                         bool affine) {
    struct dml_node *node = dml_graph_append(graph, DML_OP_LAYER_NORM, name, &input, 1);
    if (!node)
        return -1;
    if (node->height != 1 || node->width != 1)
        return dml_graph_refuse(graph, dml_graph_last(graph), name,
                                "a layer norm needs an input of one pixel, or tokens");
    if (!(epsilon > 0))
        return dml_graph_refuse(graph, dml_graph_last(graph), name,
                                "a layer norm's epsilon must be above 0");
    node->epsilon = epsilon;
    int channels = node->channels;
    if (affine) {
        dml_graph_add_param(graph, "weight", DML_ROLE_NORM_WEIGHT, &channels, 1);
        dml_graph_add_param(graph, "bias", DML_ROLE_NORM_BIAS, &channels, 1);
    }
    return dml_graph_last(graph);
}

/* Refuses the last node unless its input is a sequence of tokens. */
static bool is_tokens(struct dml_graph *graph, const struct dml_node *node, const char *name) {
    if (node->tokens == 0)
        dml_graph_refuse(graph, dml_graph_last(graph), name, "takes tokens");
    return node->tokens != 0;
}

int dml_graph_attention(struct dml_graph *graph, int input, int heads) {
    struct dml_node *node = dml_graph_append(graph, DML_OP_ATTENTION, "", &input, 1);
    if (!node || !is_tokens(graph, node, "attention"))
        return -1;
    if (heads < 1 || node->channels % 3 || node->channels / 3 % heads)
        return dml_graph_refuse(graph, dml_graph_last(graph), "attention",
                                "its input's channels are not 3 times a multiple of the heads");
    node->channels /= 3;
    node->heads = heads;
    return dml_graph_last(graph);
}

int dml_graph_gelu(struct dml_graph *graph, int input, bool quick) {
    struct dml_node *node =
        dml_graph_append(graph, quick ? DML_OP_QUICK_GELU : DML_OP_GELU, "", &input, 1);
    if (!node || !is_tokens(graph, node, "gelu"))
        return -1;
    return dml_graph_last(graph);
}

int dml_graph_layer_scale(struct dml_graph *graph, int input, const char *name) {
    struct dml_node *node = dml_graph_append(graph, DML_OP_LAYER_SCALE, name, &input, 1);
    if (!node || !is_tokens(graph, node, name))
        return -1;
    int channels = node->channels;
    dml_graph_add_param(graph, "gamma", DML_ROLE_LAYER_SCALE, &channels, 1);
    return dml_graph_last(graph);
}

int dml_graph_drop_path(struct dml_graph *graph, int input, float rate) {
    struct dml_node *node = dml_graph_append(graph, DML_OP_DROP_PATH, "", &input, 1);
    if (!node || !is_tokens(graph, node, "drop path"))
        return -1;
    if (!(rate >= 0 && rate < 1))
        return dml_graph_refuse(graph, dml_graph_last(graph), "drop path",
                                "its rate must be at least 0 and below 1");
    node->rate = rate;
    return dml_graph_last(graph);
}

int dml_graph_token_pool(struct dml_graph *graph, int input, enum dml_token_pool pool) {
    struct dml_node *node = dml_graph_append(graph, DML_OP_TOKEN_POOL, "", &input, 1);
    if (!node || !is_tokens(graph, node, "token pool"))
        return -1;
    bool patches = pool == DML_TOKENS_AVG || pool == DML_TOKENS_CLS_AVG;
    if ((patches && node->tokens == node->prefix) ||
        (pool == DML_TOKENS_DISTILLED && node->prefix < 2))
        return dml_graph_refuse(graph, dml_graph_last(graph), "token pool",
                                "the sequence does not have the tokens it pools");
    node->pool = pool;
    if (pool == DML_TOKENS_CLS_AVG)
        node->channels *= 2;
    node->tokens = node->prefix = 0;
    return dml_graph_last(graph);
}
