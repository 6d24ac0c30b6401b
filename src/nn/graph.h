#ifndef DML_NN_GRAPH_H
#define DML_NN_GRAPH_H

#include "dml/graph.h"

/* What a network computes. A graph computes nothing itself; a backend turns it into a plan
 * (backends/backend.h). */
enum dml_op {
    DML_OP_INPUT,      /* images (3, height, width), normalised */
    DML_OP_CONV,       /* parameters: weight (out, in / groups, kh, kw), bias (out) if has_bias */
    DML_OP_BATCH_NORM, /* parameters: weight, bias, running_mean, running_var (channels) */
    DML_OP_RELU,
    DML_OP_MAX_POOL,
    DML_OP_AVG_POOL,        /* padding counts in the mean if count_padding */
    DML_OP_GLOBAL_AVG_POOL, /* (c, h, w) -> (c, 1, 1) */
    DML_OP_GLOBAL_MAX_POOL,
    DML_OP_GLOBAL_GEM_POOL, /* parameter: p (1) */
    DML_OP_ADD,             /* two inputs of the same shape */
    DML_OP_CONCAT,          /* along channels */
    DML_OP_AFFINE,          /* per channel y = scale[c] * x + shift[c]; constants, no parameters */
    DML_OP_LINEAR, /* of a vector or of each token; weight (out, in), bias (out) if has_bias */
    DML_OP_L2_NORMALIZE, /* x / max(||x||, 1e-12) over channels */
    DML_OP_LAYER_NORM,   /* of a vector or of each token, over channels; weight and bias, or none */
    DML_OP_TOKENS,       /* a feature map's pixels, row by row, after learned tokens; see below */
    DML_OP_ATTENTION,    /* (T, 3 C) of q, k and v, each head by head -> (T, C) */
    DML_OP_GELU,         /* x / 2 (1 + erf(x / sqrt 2)) */
    DML_OP_QUICK_GELU,   /* x / (1 + exp(-1.702 x)) */
    DML_OP_LAYER_SCALE,  /* parameter: gamma (channels); y = gamma[c] * x */
    DML_OP_DROP_PATH,    /* in training, an image's tensor times 0 or 1 / (1 - rate) */
    DML_OP_TOKEN_POOL,   /* tokens to one vector */
};

enum { DML_GRAPH_MAX_INPUTS = 8 };

struct dml_node {
    enum dml_op op;
    char name[DML_GRAPH_NAME];        /* prefix of its parameters: "layer1.0.conv1" */
    int inputs[DML_GRAPH_MAX_INPUTS]; /* indices of earlier nodes */
    int input_count;
    /* Shape of the output, one image: a feature map (channels, height, width), or, where tokens is
     * above 0, a sequence (tokens, channels), whose height and width are 1. The first `prefix`
     * tokens are learned ones, the others patches. */
    int channels, height, width, tokens, prefix;

    int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w; /* conv and pools */
    bool ceil_mode;          /* pools: a last window that begins inside the padded input counts */
    bool count_padding;      /* avg pool */
    bool has_bias;           /* conv, linear */
    int groups;              /* conv: groups of inputs and outputs; 1: dense */
    float epsilon, momentum; /* batch norm; layer norm has epsilon alone */
    int heads;               /* attention */
    float rate;              /* drop path: the probability that an image's tensor is dropped */
    enum dml_token_pool pool;
    enum dml_position_rule positions; /* tokens */
    int grid_h, grid_w;               /* tokens: patches down and across */
    float token_deviation;            /* tokens: what the learned ones start with */
    float *scale, *shift;             /* affine: (channels), owned by the graph */
    int first_param, param_count;
    int layer; /* the graph's when it was appended; its parameters have the same */
};

enum dml_param_role {
    DML_ROLE_WEIGHT, /* learnable, decayed, as PyTorch decays every parameter */
    DML_ROLE_BIAS,
    DML_ROLE_NORM_WEIGHT,
    DML_ROLE_NORM_BIAS,
    DML_ROLE_CLASS_TOKEN, /* tokens and position embeddings: (1, count, channels) */
    DML_ROLE_DISTILLATION_TOKEN,
    DML_ROLE_REGISTERS,
    DML_ROLE_POSITIONS,
    DML_ROLE_LAYER_SCALE,
    DML_ROLE_RUNNING_MEAN, /* buffers: not learnable */
    DML_ROLE_RUNNING_VAR,
    DML_ROLE_POOL_POWER, /* p of a generalised mean */
};

struct dml_graph_param {
    char name[DML_GRAPH_NAME]; /* "layer1.0.conv1.weight" */
    enum dml_param_role role;
    int node;
    int dims[4], dim_count;
    size_t count; /* elements */
    int layer;    /* depth for layer-wise rates: 0 for the stem, then block by block */
    bool head;    /* of the last linear layer, or the norm or hidden layer before it: --fc_lr */
    bool fresh;   /* new when a backbone's weights are loaded: the head, and what files lack */
    bool fixed;   /* the options of the backbone say that it does not learn */
};

/* Whether it has a gradient; the others are running statistics. */
bool dml_param_learnable(const struct dml_graph_param *param);

struct dml_graph {
    char arch[128];
    struct dml_node *nodes;
    int node_count;
    struct dml_graph_param *params;
    int param_count;
    int output; /* the node that gives the embedding (embed_dim, 1, 1) */
    int embed_dim;
    bool frozen;    /* batch norm uses its running statistics, which do not change */
    bool normalize; /* the last node is L2_NORMALIZE */
    struct dml_input_transform input;
    enum dml_weight_init weight_init;
    enum dml_head_start head_start;
    int layer;               /* of the parameters that builders add now; a block begins with ++ */
    int layers;              /* the last layer, which the head is in; 0 until it begins */
    enum dml_status failure; /* of the first builder that failed; dml_graph_finish returns it */
    size_t node_capacity, param_capacity;
};

/* Index of a node's parameter with a role, or -1. */
int dml_graph_find_param(const struct dml_graph *graph, int node, enum dml_param_role role);

/* An empty graph for the builders of dml/graph.h, for graphs that are not backbones. Mean 0 and
 * standard deviation 1 in the input transform. NULL without memory. */
struct dml_graph *dml_graph_new(void);

/* Ends building: `output` (c, 1, 1) is the embedding. Fails when a builder has failed. */
enum dml_status dml_graph_finish(struct dml_graph *graph, int output);

void dml_graph_free(struct dml_graph *graph);

/* Built-in backbones, then those of plugins; NULL after the last. */
const struct dml_backbone *dml_backbone_at(size_t i);

/* The backbone that `arch` begins with, by its name or an alias, or NULL. */
const struct dml_backbone *dml_backbone_find(const char *arch);

/* Builds the graph of `arch` as typed: name or alias, and options. `image_size` 0 takes the
 * backbone's own crop. DML_ERROR_USAGE for an unknown name or option, and for a graph that makes no
 * sense. Caller frees with dml_graph_free. */
enum dml_status dml_graph_build(const char *arch, int embed_dim, int image_size,
                                struct dml_graph **out);

/* Initial values of parameter `index` into `values` (its count), as PyTorch initialises the
 * layer; keyed by seed and parameter index. Batch norm: 1, 0, mean 0, variance 1. */
void dml_graph_init_param(const struct dml_graph *graph, int index, uint64_t seed, float *values);

#endif
