#ifndef DML_GRAPH_H
#define DML_GRAPH_H

#include "dml/backbones.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a network computes is a graph of nodes in topological order, whose shapes follow from each
 * other and whose parameters are named as PyTorch names them. A backbone appends the nodes; any
 * backend computes them, with gradients. A graph has no batch size. All this is part of libdml:
 * libdml-core does not compute networks.
 *
 * Builders append one node and return its index, or -1 once something has failed, so a backbone
 * reads like its paper's table, and the first failure is reported once it has been built. `name` is
 * the prefix of the node's parameters ("layer1.0.conv1"), shorter than 80 characters; no two nodes
 * with parameters may share one. */
struct dml_graph;

enum { DML_GRAPH_NAME = 96 }; /* bytes of a node's or parameter's name, its final 0 included */

/* What a node makes of one image: a feature map (channels, height, width), or, where tokens is
 * above 0, a sequence (tokens, channels), whose height and width are 1. A vector is a map of one
 * pixel. */
struct dml_shape {
    int channels, height, width, tokens;
};

/* How 8-bit RGB images become the network's input: value = (pixel / 255 - mean) / std, per RGB
 * channel; then channels are reversed if bgr. */
struct dml_input_transform {
    float mean[3], std[3];
    bool bgr;
};

/* Mean and standard deviation of ImageNet's RGB values: the input of most backbones. */
#define DML_IMAGENET_INPUT                                                                         \
    (struct dml_input_transform) {                                                                 \
        {0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}, false                                  \
    }

/* How weights are initialised when none are loaded, as in the backbone's own PyTorch code. The head
 * starts as dml_head_start says. */
enum dml_weight_init {
    DML_INIT_UNIFORM,        /* PyTorch's default: U(-1/sqrt(fan_in), 1/sqrt(fan_in)), biases too */
    DML_INIT_KAIMING_NORMAL, /* N(0, 2 / fan_out), fan_out = out * kh * kw; He et al. 2015 */
    DML_INIT_TRUNCATED_NORMAL, /* N(0, 0.01^2) cut at two standard deviations */
    DML_INIT_TRANSFORMER,      /* linear layers N(0, 0.02^2) and biases 0; convolutions uniform */
};

/* Set both before anything else; the defaults are mean 0 and deviation 1, and uniform. */
DML_API void dml_graph_set_input(struct dml_graph *graph,
                                 const struct dml_input_transform *transform);
DML_API void dml_graph_set_init(struct dml_graph *graph, enum dml_weight_init init);

/* Begins a block: what --freeze_layers, --layer_decay and --recompute count. Nodes before the first
 * are the stem. */
DML_API void dml_graph_block(struct dml_graph *graph);
/* Begins the last layer: the head, and a norm before it where the backbone has one. Pooling and the
 * head begin it automatically. */
DML_API void dml_graph_last_layer(struct dml_graph *graph);

/* Batch norms use their running statistics, which do not change; with `affine`, their weights and
 * biases are not learnt either. Call this after the last of them. */
DML_API void dml_graph_freeze_norms(struct dml_graph *graph, bool affine);

/* The shape of a node, all 0 for -1. */
DML_API struct dml_shape dml_graph_shape(const struct dml_graph *graph, int node);

/* A failure of the backbone's own: `return dml_graph_fail(graph, dml_fail(DML_ERROR_USAGE, ...))`.
 * Returns -1. */
DML_API int dml_graph_fail(struct dml_graph *graph, enum dml_status status);

/* The images, (channels, height, width), normalised. */
DML_API int dml_graph_input(struct dml_graph *graph, int channels, int height, int width);

/* Parameters: weight (out, in, kernel, kernel), bias (out) if asked for. */
DML_API int dml_graph_conv(struct dml_graph *graph, int input, const char *name, int out_channels,
                           int kernel, int stride, int pad, bool bias);
DML_API int dml_graph_conv_rect(struct dml_graph *graph, int input, const char *name,
                                int out_channels, int kernel_h, int kernel_w, int stride, int pad_h,
                                int pad_w, bool bias);
/* Output group g, of out_channels / groups channels, is computed from input group g alone; weight
 * (out, in / groups, kernel, kernel). */
DML_API int dml_graph_conv_grouped(struct dml_graph *graph, int input, const char *name,
                                   int out_channels, int kernel, int stride, int pad, int groups,
                                   bool bias);
/* Parameters: weight, bias, running_mean, running_var (channels). `momentum` is the new batch's
 * share of the running statistics, as in PyTorch. Ioffe and Szegedy 2015. */
DML_API int dml_graph_batch_norm(struct dml_graph *graph, int input, const char *name,
                                 float epsilon, float momentum);
DML_API int dml_graph_relu(struct dml_graph *graph, int input);

/* Windows of at most 15 x 15 pixels, padded by at most half of that. With ceil_mode, a last window
 * that begins inside the padded input counts; with count_padding, padding is part of the mean. */
DML_API int dml_graph_max_pool(struct dml_graph *graph, int input, int kernel, int stride, int pad,
                               bool ceil_mode);
DML_API int dml_graph_avg_pool(struct dml_graph *graph, int input, int kernel, int stride, int pad,
                               bool ceil_mode, bool count_padding);
/* (c, h, w) to (c, 1, 1). */
DML_API int dml_graph_global_avg_pool(struct dml_graph *graph, int input);
DML_API int dml_graph_global_max_pool(struct dml_graph *graph, int input);
/* Generalised mean, parameter `name`.p: y = (mean of max(x, 1e-6)^p)^(1/p) over all pixels; p is
 * learnt, starting at 3. Radenovic, Tolias, Chum 2018, Fine-tuning CNN image retrieval with no
 * human annotation. */
DML_API int dml_graph_global_gem_pool(struct dml_graph *graph, int input, const char *name);

/* The sum of two nodes of the same shape. */
DML_API int dml_graph_add(struct dml_graph *graph, int a, int b);
/* Along channels, for 1 to 8 nodes of the same height and width. */
DML_API int dml_graph_concat(struct dml_graph *graph, const int *inputs, int count);
/* Per channel y = scale[c] x + shift[c]: constants, which are copied. */
DML_API int dml_graph_affine(struct dml_graph *graph, int input, const float *scale,
                             const float *shift);
/* For a vector or each token; weight (out, in), bias (out), or without a bias. */
DML_API int dml_graph_linear(struct dml_graph *graph, int input, const char *name,
                             int out_features);
DML_API int dml_graph_linear_bare(struct dml_graph *graph, int input, const char *name,
                                  int out_features);
/* For a vector: x / max(||x||, 1e-12). */
DML_API int dml_graph_l2_normalize(struct dml_graph *graph, int input);

/* How a sequence of tokens becomes a vector: its first token; the mean of the patches' tokens; the
 * two concatenated; the mean of the first two tokens, DeiT's class and distillation tokens. */
enum dml_token_pool { DML_TOKENS_CLS, DML_TOKENS_AVG, DML_TOKENS_CLS_AVG, DML_TOKENS_DISTILLED };

/* How position embeddings of a weight file are resampled for another grid of patches: as timm does
 * it, as DINO's authors do, or without antialiasing and offsets. */
enum dml_position_rule { DML_POSITIONS_TIMM, DML_POSITIONS_DINO, DML_POSITIONS_PLAIN };

/* What dml_graph_tokens makes of a feature map, pixel by pixel: the class token, the distillation
 * token if asked for, registers, and the patches. A position embedding is added to each; where
 * there are registers, to the patches alone. Parameters, in this order: cls_token (1, 1, C),
 * dist_token (1, 1, C), reg_token (1, registers, C), pos_embed (1, those with a position, C). */
struct dml_token_settings {
    bool distilled;
    int registers;
    float deviation; /* of the initial values of class token, distillation token and registers */
    enum dml_position_rule positions;
};
DML_API int dml_graph_tokens(struct dml_graph *graph, int input,
                             const struct dml_token_settings *settings);
/* For a vector or each token, over channels; weight and bias (channels) where `affine`. Ba et al.
 * 2016. */
DML_API int dml_graph_layer_norm(struct dml_graph *graph, int input, const char *name,
                                 float epsilon, bool affine);
/* (T, 3 C) of q, k and v, each head by head, to (T, C): softmax(q k^T / sqrt(d)) v over all tokens,
 * d channels a head. Vaswani et al. 2017. */
DML_API int dml_graph_attention(struct dml_graph *graph, int input, int heads);
/* For tokens: x / 2 (1 + erf(x / sqrt 2)), or x / (1 + exp(-1.702 x)). Hendrycks, Gimpel 2016. */
DML_API int dml_graph_gelu(struct dml_graph *graph, int input, bool quick);
/* For tokens: y = gamma[c] x; parameter `name`.gamma (channels). Touvron et al. 2021. */
DML_API int dml_graph_layer_scale(struct dml_graph *graph, int input, const char *name);
/* For tokens, in training: an image's tensor is multiplied by 0, with probability `rate`, or by 1 /
 * (1 - rate). Huang et al. 2016. */
DML_API int dml_graph_drop_path(struct dml_graph *graph, int input, float rate);
DML_API int dml_graph_token_pool(struct dml_graph *graph, int input, enum dml_token_pool pool);

/* The head, which is the same for all backbones. */
enum dml_head_norm { DML_HEAD_NORM_NONE, DML_HEAD_NORM_AFFINE, DML_HEAD_NORM_PLAIN };

/* How its linear layers start. */
enum dml_head_start {
    DML_HEAD_PYTORCH,    /* PyTorch's default for a linear layer */
    DML_HEAD_HE,         /* N(0, 2 / outputs), biases 0 */
    DML_HEAD_ORTHOGONAL, /* rows or columns, whichever are fewer, orthonormal, biases 0; Saxe et al.
                            2014, Exact solutions to the nonlinear dynamics of learning in deep
                            linear neural networks */
};

enum { DML_HIDDEN_AS_FEATURE = -1 };
struct dml_head_options {
    enum dml_head_norm norm; /* a layer norm before everything else */
    enum dml_head_start start;
    int64_t hidden; /* width of a hidden layer; DML_HIDDEN_AS_FEATURE; 0: it has none */
    bool normalize; /* embeddings of length 1 */
};

/* The rows of a table of parameters for the `member` of a struct `of`, a struct dml_head_options:
 * _normalize, _layernorm, _plainnorm, _mlp and _mlp512, _he, _orthogonal. */
#define DML_HEAD_PARAMS(of, member)                                                                \
    {.name = "normalize",                                                                          \
     .type = DML_PARAM_FLAG,                                                                       \
     .offset = offsetof(of, member.normalize),                                                     \
     .help = "Embeddings of length 1."},                                                           \
        {.name = "head_norm",                                                                      \
         .type = DML_PARAM_CHOICE,                                                                 \
         .offset = offsetof(of, member.norm),                                                      \
         .fallback = "none",                                                                       \
         .choices = dml_head_norms,                                                                \
         .help = "A layer norm before the last linear layer, or one without weight and bias."},    \
        {.name = "mlp",                                                                            \
         .type = DML_PARAM_INT,                                                                    \
         .offset = offsetof(of, member.hidden),                                                    \
         .fallback = "0",                                                                          \
         .min = DML_HIDDEN_AS_FEATURE,                                                             \
         .max = 65536,                                                                             \
         .help = "A hidden layer of this width and a relu before the last linear layer; without "  \
                 "a number, as wide as the feature."},                                             \
    {                                                                                              \
        .name = "head_start", .type = DML_PARAM_CHOICE, .offset = offsetof(of, member.start),      \
        .fallback = "own", .choices = dml_head_starts,                                             \
        .help = "How the head's linear layers start: N(0, 2 / outputs) or orthonormal rows, "      \
                "biases 0; own: PyTorch's default."                                                \
    }
extern DML_API const char *const dml_head_norms[];
extern DML_API const char *const dml_head_starts[];

/* The end of a backbone: a layer norm if asked for, a hidden layer and its relu if asked for, the
 * linear layer `name` to embed_dim (none where that is 0: the embedding is the feature itself), and
 * l2_normalize if asked for. These layers are initialised anew in every run and learn at --fc_lr.
 */
DML_API int dml_graph_head(struct dml_graph *graph, int input, const char *name, int embed_dim,
                           const struct dml_head_options *o);

/* For a backbone that ends with a feature map. */
enum dml_pooling {
    DML_POOL_OWN, /* average */
    DML_POOL_AVG,
    DML_POOL_MAX,
    DML_POOL_DOUBLE, /* average plus maximum */
    DML_POOL_GEM,    /* generalised mean */
};

/* The options of the built-in convolutional backbones: _frozen, _affine, _normalize, _avg and so
 * on. A custom backbone may use the same table. */
struct dml_convolutional_options {
    struct dml_head_options head;
    enum dml_pooling pool;
    bool frozen;        /* batch norms use their running statistics, which do not change */
    bool affine_frozen; /* weights and biases of batch norms do not learn */
};
extern DML_API const struct dml_param_table dml_convolutional_params;

/* A feature map's pooling, then the head; does what the options say about batch norms. */
DML_API int dml_graph_pooled_head(struct dml_graph *graph, int input, const char *name,
                                  int embed_dim, const struct dml_convolutional_options *o);

#ifdef __cplusplus
}
#endif
#endif
