#ifndef DML_NN_GRAPH_H
#define DML_NN_GRAPH_H

#include "dml/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a network computes: nodes in topological order, shapes inferred, parameters named as
 * PyTorch names them. A graph computes nothing itself and knows no batch size; a backend turns it
 * into a plan (backends/backend.h). */
enum dml_op {
    DML_OP_INPUT,      /* images (3, height, width), normalised */
    DML_OP_CONV,       /* parameters: weight (out, in / groups, kh, kw), bias (out) if has_bias */
    DML_OP_BATCH_NORM, /* parameters: weight, bias, running_mean, running_var (channels) */
    DML_OP_RELU,
    DML_OP_MAX_POOL,
    DML_OP_AVG_POOL,        /* padding is counted in the mean where count_padding */
    DML_OP_GLOBAL_AVG_POOL, /* (c, h, w) -> (c, 1, 1) */
    DML_OP_GLOBAL_MAX_POOL,
    DML_OP_GLOBAL_GEM_POOL, /* parameter: p (1) */
    DML_OP_ADD,             /* two inputs of one shape */
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

/* How a sequence of tokens becomes a vector: its first token; the mean of the patches' tokens; one
 * after the other; the mean of the first two, DeiT's class and distillation tokens. */
enum dml_token_pool { DML_TOKENS_CLS, DML_TOKENS_AVG, DML_TOKENS_CLS_AVG, DML_TOKENS_DISTILLED };

/* How position embeddings of a weight file are resampled for another grid of patches; see
 * weights/positions.h. */
enum dml_position_rule { DML_POSITIONS_TIMM, DML_POSITIONS_DINO, DML_POSITIONS_PLAIN };

enum { DML_GRAPH_MAX_INPUTS = 8, DML_GRAPH_NAME = 96 };

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
    int groups;              /* conv: that inputs and outputs are divided into; 1: dense */
    float epsilon, momentum; /* batch norm; layer norm has epsilon alone */
    int heads;               /* attention */
    float rate;              /* drop path: the probability that an image's tensor is dropped */
    enum dml_token_pool pool;
    enum dml_position_rule positions; /* tokens */
    int grid_h, grid_w;               /* tokens: patches down and across */
    float token_deviation;            /* tokens: what the learned ones start with */
    float *scale, *shift;             /* affine: (channels), owned by the graph */
    int first_param, param_count;
    int layer; /* the graph's when it was appended, as that of its parameters */
};

enum dml_param_role {
    DML_ROLE_WEIGHT, /* learnable, decayed like PyTorch decays every parameter */
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
    bool fixed;   /* the architecture's options say that it does not learn */
};

/* Whether it has a gradient; the others are running statistics. */
bool dml_param_learnable(const struct dml_graph_param *param);

/* How the weights start when none are read, as the architecture's own PyTorch code does it. The
 * head starts as head_start says. */
enum dml_weight_init {
    DML_INIT_UNIFORM,        /* PyTorch's default: U(-1/sqrt(fan_in), 1/sqrt(fan_in)), biases too */
    DML_INIT_KAIMING_NORMAL, /* N(0, 2 / fan_out), fan_out = out * kh * kw; He et al. 2015 */
    DML_INIT_TRUNCATED_NORMAL, /* N(0, 0.01^2) cut at two standard deviations */
    DML_INIT_TRANSFORMER,      /* linear layers N(0, 0.02^2) and biases 0; convolutions uniform */
};

/* How the linear layers of the head start. */
enum dml_head_start {
    DML_HEAD_PYTORCH,    /* PyTorch's default of a linear layer */
    DML_HEAD_HE,         /* N(0, 2 / outputs), biases 0 */
    DML_HEAD_ORTHOGONAL, /* rows or columns, whichever are fewer, orthonormal, biases 0; Saxe et al.
                            2014, Exact solutions to the nonlinear dynamics of learning in deep
                            linear neural networks */
};

/* How 8-bit RGB images become the network's input: value = (pixel / 255 - mean) / std, per RGB
 * channel; then channels are reversed where bgr. */
struct dml_input_transform {
    float mean[3], std[3];
    bool bgr;
};

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

/* An empty graph for the builders below, for graphs that are not an architecture. Mean 0 and
 * standard deviation 1 in the input transform. NULL without memory. */
struct dml_graph *dml_graph_new(void);

/* Ends building: `output` (c, 1, 1) is the embedding. Fails when a builder has failed. */
enum dml_status dml_graph_finish(struct dml_graph *graph, int output);

/* Builders append a node and return its index, or -1 once the graph has failed, so an
 * architecture reads like its paper's table and checks once at the end. */
int dml_graph_input(struct dml_graph *graph, int channels, int height, int width);
int dml_graph_conv(struct dml_graph *graph, int input, const char *name, int out_channels,
                   int kernel, int stride, int pad, bool bias);
int dml_graph_conv_rect(struct dml_graph *graph, int input, const char *name, int out_channels,
                        int kernel_h, int kernel_w, int stride, int pad_h, int pad_w, bool bias);
/* Output group g, out_channels / groups of them, is computed from input group g alone. */
int dml_graph_conv_grouped(struct dml_graph *graph, int input, const char *name, int out_channels,
                           int kernel, int stride, int pad, int groups, bool bias);
int dml_graph_batch_norm(struct dml_graph *graph, int input, const char *name, float epsilon,
                         float momentum);
int dml_graph_relu(struct dml_graph *graph, int input);
int dml_graph_max_pool(struct dml_graph *graph, int input, int kernel, int stride, int pad,
                       bool ceil_mode);
int dml_graph_avg_pool(struct dml_graph *graph, int input, int kernel, int stride, int pad,
                       bool ceil_mode, bool count_padding);
int dml_graph_global_avg_pool(struct dml_graph *graph, int input);
int dml_graph_global_max_pool(struct dml_graph *graph, int input);
/* Generalised mean, parameter `name`.p: y = (mean of max(x, 1e-6)^p)^(1/p) over all pixels, p
 * learnt from 3 on. Radenovic, Tolias, Chum 2018, Fine-tuning CNN image retrieval with no human
 * annotation. */
int dml_graph_global_gem_pool(struct dml_graph *graph, int input, const char *name);
int dml_graph_add(struct dml_graph *graph, int a, int b);
int dml_graph_concat(struct dml_graph *graph, const int *inputs, int count);
int dml_graph_affine(struct dml_graph *graph, int input, const float *scale, const float *shift);
int dml_graph_linear(struct dml_graph *graph, int input, const char *name, int out_features);
int dml_graph_linear_bare(struct dml_graph *graph, int input, const char *name,
                          int out_features); /* without a bias */
int dml_graph_l2_normalize(struct dml_graph *graph, int input);

/* Builders for transformers (graph_tokens.c). */

/* What DML_OP_TOKENS makes: the class token, the distillation token where asked, registers, and
 * the patches. A position embedding is added to each; where there are registers, to the patches
 * alone. Parameters, in this order: cls_token (1, 1, C), dist_token (1, 1, C),
 * reg_token (1, registers, C), pos_embed (1, those with a position, C). */
struct dml_token_settings {
    bool distilled;
    int registers;
    float deviation; /* of the initial values of class token, distillation token and registers */
    enum dml_position_rule positions;
};
int dml_graph_tokens(struct dml_graph *graph, int input, const struct dml_token_settings *settings);
/* Of a vector or of each token; without weight and bias unless `affine`. Ba et al. 2016. */
int dml_graph_layer_norm(struct dml_graph *graph, int input, const char *name, float epsilon,
                         bool affine);
/* softmax(q k^T / sqrt(d)) v over all tokens, d channels a head; the input's channels are q, k and
 * v. Vaswani et al. 2017. */
int dml_graph_attention(struct dml_graph *graph, int input, int heads);
int dml_graph_gelu(struct dml_graph *graph, int input, bool quick); /* Hendrycks, Gimpel 2016 */
int dml_graph_layer_scale(struct dml_graph *graph, int input, const char *name);
int dml_graph_drop_path(struct dml_graph *graph, int input, float rate); /* Huang et al. 2016 */
int dml_graph_token_pool(struct dml_graph *graph, int input, enum dml_token_pool pool);

/* Begins the last layer: the head, and a norm before it where the architecture has one. */
void dml_graph_last_layer(struct dml_graph *graph);

void dml_graph_free(struct dml_graph *graph);

/* An architecture builds the graph of one backbone: one file in nn/architectures/, one line in
 * its registry. Options are substrings of --arch after the name: "resnet50_frozen_normalize". */
enum dml_pooling {
    DML_POOL_AVG,
    DML_POOL_MAX,
    DML_POOL_DOUBLE, /* average plus maximum */
    DML_POOL_GEM,    /* generalised mean */
};
enum { DML_HIDDEN_AS_FEATURE = -1 };
struct dml_architecture_options {
    const struct dml_architecture *architecture;
    int image_size; /* height and width of the input */
    int embed_dim;  /* 0: the feature itself, without a linear layer */
    bool frozen, normalize;
    enum dml_head_start head_start;
    bool affine_frozen; /* weights and biases of batch norms do not learn */
    enum dml_pooling pool;
    enum dml_head_norm { DML_HEAD_NORM_NONE, DML_HEAD_NORM_AFFINE, DML_HEAD_NORM_PLAIN } head_norm;
    int hidden; /* width of the head's hidden layer; DML_HIDDEN_AS_FEATURE; 0: it has none */
    enum dml_token_pool token_pool;
    enum dml_position_rule positions;
    bool no_projection; /* CLIP without its own last layer */
    float drop_path;    /* of the last block; it grows in a line from 0 in the first */
};

/* A feature map to a vector, as o->pool says. Begins the last layer. */
int dml_graph_pool(struct dml_graph *graph, int input, const struct dml_architecture_options *o);

/* The end of every architecture: a layer norm where asked, a hidden layer and its relu where asked,
 * the linear layer `name` to o->embed_dim (none where that is 0: the embedding is the feature
 * itself), and l2_normalize where asked. Marks these layers as the head and takes over what else
 * the options say. */
int dml_graph_head(struct dml_graph *graph, int input, const char *name,
                   const struct dml_architecture_options *o);

struct dml_architecture {
    const char *name; /* "resnet50" */
    const char *summary;
    const char *paper;
    const char *weights_file; /* file name looked up in $DML_WEIGHTS: "resnet50.pth" */
    const char *weights_from; /* where it is published, for the error message */
    const char *timm;         /* its name with these weights in timm, or NULL */
    int crop;                 /* side of the crop at the study's setting: 224, googlenet 227 */
    /* Appends the nodes, the last one made by dml_graph_head, whose index it returns; sets
     * input and weight_init. */
    int (*build)(struct dml_graph *graph, const struct dml_architecture_options *o);
    const char *const *options; /* substrings it understands, NULL-terminated */
    const char *const *aliases; /* other names of it, NULL-terminated, or NULL */
    const struct dml_vit *vit;  /* of vision transformers: architectures/vit.h */
};

const struct dml_architecture *dml_architecture_at(size_t i); /* NULL after the last */

/* Builds the graph of `arch` as typed: name, or another name of it, and options. `image_size` 0
 * takes the architecture's own crop. DML_ERROR_USAGE for an unknown name or option. Caller frees
 * with dml_graph_free. */
enum dml_status dml_graph_build(const char *arch, int embed_dim, int image_size,
                                struct dml_graph **out);
const struct dml_architecture *dml_architecture_find(const char *arch);

/* Initial values of parameter `index` into `values` (its count), as PyTorch initialises the
 * layer; keyed by seed and parameter index. Batch norm: 1, 0, mean 0, variance 1. */
void dml_graph_init_param(const struct dml_graph *graph, int index, uint64_t seed, float *values);

#endif
