#include "nn/graph_build.h"

/* The end of all backbones. */

const char *const dml_head_norms[] = {[DML_HEAD_NORM_NONE] = "none",
                                      [DML_HEAD_NORM_AFFINE] = "layernorm",
                                      [DML_HEAD_NORM_PLAIN] = "plainnorm",
                                      NULL};
const char *const dml_head_starts[] = {
    [DML_HEAD_PYTORCH] = "own", [DML_HEAD_HE] = "he", [DML_HEAD_ORTHOGONAL] = "orthogonal", NULL};

#define AT(field) offsetof(struct dml_convolutional_options, field)
static const char *const pools[] = {
    [DML_POOL_OWN] = "own",       [DML_POOL_AVG] = "avg", [DML_POOL_MAX] = "max",
    [DML_POOL_DOUBLE] = "double", [DML_POOL_GEM] = "gem", NULL};
static const struct dml_param params[] = {
    {.name = "frozen",
     .type = DML_PARAM_FLAG,
     .offset = AT(frozen),
     .help = "Batch norms keep their running statistics."},
    {.name = "affine",
     .type = DML_PARAM_FLAG,
     .offset = AT(affine_frozen),
     .help = "Weights and biases of frozen batch norms do not learn either."},
    {.name = "pool",
     .type = DML_PARAM_CHOICE,
     .offset = AT(pool),
     .fallback = "own",
     .choices = pools,
     .help = "Pooling of the last feature map: average, maximum, their sum (double), or a "
             "generalised mean whose power learns; own: average."},
    DML_HEAD_PARAMS(struct dml_convolutional_options, head),
};
#undef AT
const struct dml_param_table dml_convolutional_params =
    DML_PARAM_TABLE("Options of convolutional backbones", struct dml_convolutional_options, params);

void dml_graph_last_layer(struct dml_graph *graph) {
    if (graph->layers == 0)
        graph->layers = ++graph->layer;
}

static int pool(struct dml_graph *graph, int input, enum dml_pooling pooling) {
    switch (pooling) {
    case DML_POOL_OWN:
    case DML_POOL_AVG:
        return dml_graph_global_avg_pool(graph, input);
    case DML_POOL_MAX:
        return dml_graph_global_max_pool(graph, input);
    case DML_POOL_DOUBLE: {
        int average = dml_graph_global_avg_pool(graph, input);
        return dml_graph_add(graph, average, dml_graph_global_max_pool(graph, input));
    }
    case DML_POOL_GEM: {
        int x = dml_graph_global_gem_pool(graph, input, "pool");
        if (x >= 0) /* no published file has it */
            graph->params[graph->nodes[x].first_param].fresh = true;
        return x;
    }
    }
    return -1;
}

void dml_graph_freeze_norms(struct dml_graph *graph, bool affine) {
    graph->frozen = true;
    for (int i = 0; affine && i < graph->param_count; i++) {
        struct dml_graph_param *param = &graph->params[i];
        if (graph->nodes[param->node].op == DML_OP_BATCH_NORM && dml_param_learnable(param))
            param->fixed = true;
    }
}

int dml_graph_head(struct dml_graph *graph, int input, const char *name, int embed_dim,
                   const struct dml_head_options *o) {
    dml_graph_last_layer(graph);
    int x = input, first = graph->param_count;
    if (o->norm != DML_HEAD_NORM_NONE)
        x = dml_graph_layer_norm(graph, x, "layer_norm", 1e-5f, o->norm == DML_HEAD_NORM_AFFINE);
    if (o->hidden && embed_dim == 0)
        return dml_graph_refuse(graph, x, name,
                                "a hidden layer (_mlp) needs an embedding width above 0");
    if (o->hidden && x >= 0) {
        int width = o->hidden == DML_HIDDEN_AS_FEATURE ? graph->nodes[x].channels : (int)o->hidden;
        x = dml_graph_relu(graph, dml_graph_linear(graph, x, "hidden_linear", width));
    }
    if (embed_dim != 0)
        x = dml_graph_linear(graph, x, name, embed_dim);
    if (x < 0)
        return -1;
    for (int i = first; i < graph->param_count; i++)
        graph->params[i].head = graph->params[i].fresh = true;
    graph->normalize = o->normalize;
    graph->head_start = o->start;
    return o->normalize ? dml_graph_l2_normalize(graph, x) : x;
}

int dml_graph_pooled_head(struct dml_graph *graph, int input, const char *name, int embed_dim,
                          const struct dml_convolutional_options *o) {
    if (input >= 0 && o->affine_frozen && !o->frozen)
        return dml_graph_fail(graph, dml_fail(DML_ERROR_USAGE,
                                              "_affine freezes weights and biases of frozen batch "
                                              "norms too: _frozen_affine"));
    dml_graph_last_layer(graph);
    int x = pool(graph, input, o->pool);
    if (o->frozen)
        dml_graph_freeze_norms(graph, o->affine_frozen);
    return dml_graph_head(graph, x, name, embed_dim, &o->head);
}
