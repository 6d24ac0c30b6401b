#include "plan/traits.h"

#include "base/memory.h"

#include <stdlib.h>

const char *plan_fusion_name(enum plan_fusion_kind kind) {
    static const char *const names[] = {
        [PLAN_FUSION_INPUT] = "input",
        [PLAN_FUSION_CONV] = "convolution",
        [PLAN_FUSION_NORM] = "batch norm",
        [PLAN_FUSION_POINTWISE] = "affine, add or relu",
        [PLAN_FUSION_MAX_POOL] = "max pool",
        [PLAN_FUSION_AVG_POOL] = "average pool",
        [PLAN_FUSION_GLOBAL_AVG_POOL] = "global average pool",
        [PLAN_FUSION_GLOBAL_MAX_POOL] = "global max pool",
        [PLAN_FUSION_GLOBAL_GEM_POOL] = "generalised mean pool",
        [PLAN_FUSION_CONCAT] = "concat",
        [PLAN_FUSION_L2_NORMALIZE] = "l2 normalize",
        [PLAN_FUSION_LINEAR] = "linear",
        [PLAN_FUSION_LAYER_NORM] = "layer norm",
        [PLAN_FUSION_PATCHES] = "patches",
        [PLAN_FUSION_TOKENS] = "tokens",
        [PLAN_FUSION_ATTENTION] = "attention",
        [PLAN_FUSION_GELU] = "gelu",
        [PLAN_FUSION_LAYER_SCALE] = "layer scale",
        [PLAN_FUSION_DROP_PATH] = "drop path",
        [PLAN_FUSION_TOKEN_POOL] = "token pool",
    };
    return names[kind];
}

struct fusing {
    const struct dml_graph *graph;
    const struct plan_traits *traits;
    bool fold;
    int *uses;    /* of each node's value */
    int *user;    /* a node that uses it; the only one where uses is 1 */
    int *taken;   /* node is part of a fusion already */
    int *unit_of; /* the fusion whose tensor is the node's value, or -1 */
};

static void count_uses(struct fusing *f) {
    for (int i = 0; i < f->graph->node_count; i++) {
        const struct dml_node *node = &f->graph->nodes[i];
        f->unit_of[i] = -1;
        for (int k = 0; k < node->input_count; k++) {
            f->uses[node->inputs[k]]++;
            f->user[node->inputs[k]] = i;
        }
    }
    f->uses[f->graph->output]++;
}

/* The node after what the fusion is so far, if it is the only user, free, of kind `op`, and the
 * backend takes it in; else -1. */
static int next_of(const struct fusing *f, const struct plan_fusion *fusion, enum dml_op op) {
    int node = fusion->last_node;
    if (f->uses[node] != 1 || node == f->graph->output)
        return -1;
    int next = f->user[node];
    if (f->graph->nodes[next].op != op || f->taken[next])
        return -1;
    const struct plan_traits *traits = f->traits;
    return !traits->fuses || traits->fuses(traits->context, f->graph, fusion, op) ? next : -1;
}

static void take(struct fusing *f, struct plan_fusion *fusion, int node) {
    f->taken[node] = 1;
    fusion->last_node = node;
}

static void take_relu(struct fusing *f, struct plan_fusion *fusion) {
    int relu = next_of(f, fusion, DML_OP_RELU);
    if (relu >= 0) {
        fusion->relu = true;
        take(f, fusion, relu);
    }
}

/* Lets the fusion take over an add: its other input becomes the residual, a node until fusions are
 * linked. */
static void take_add(struct fusing *f, struct plan_fusion *fusion) {
    int add = next_of(f, fusion, DML_OP_ADD);
    if (add >= 0) {
        const int *inputs = f->graph->nodes[add].inputs;
        fusion->residual = inputs[0] == fusion->last_node ? inputs[1] : inputs[0];
        take(f, fusion, add);
    }
}

/* And a relu after it. */
static void take_add_and_relu(struct fusing *f, struct plan_fusion *fusion) {
    take_add(f, fusion);
    take_relu(f, fusion);
}

static void fuse_conv(struct fusing *f, struct plan_fusion *fusion) {
    int norm = f->fold ? next_of(f, fusion, DML_OP_BATCH_NORM) : -1;
    if (norm >= 0) {
        fusion->norm = norm;
        take(f, fusion, norm);
    }
    take_add_and_relu(f, fusion);
}

bool plan_is_patches(const struct dml_graph *graph, int node) {
    const struct dml_node *conv = &graph->nodes[node];
    if (conv->op != DML_OP_CONV || graph->nodes[conv->inputs[0]].op != DML_OP_INPUT ||
        conv->kernel_h != conv->kernel_w || conv->stride_h != conv->kernel_h ||
        conv->stride_w != conv->kernel_w || conv->pad_h || conv->pad_w)
        return false;
    bool tokens = false;
    for (int i = node + 1; i < graph->node_count; i++)
        for (int k = 0; k < graph->nodes[i].input_count; k++) {
            if (graph->nodes[i].inputs[k] != node)
                continue;
            if (graph->nodes[i].op != DML_OP_TOKENS)
                return false;
            tokens = true;
        }
    return tokens && graph->output != node;
}

static enum plan_fusion_kind kind_of(const struct fusing *f, int node) {
    switch (f->graph->nodes[node].op) {
    case DML_OP_INPUT:
        return PLAN_FUSION_INPUT;
    case DML_OP_CONV:
        return f->traits->patches && plan_is_patches(f->graph, node) ? PLAN_FUSION_PATCHES
                                                                     : PLAN_FUSION_CONV;
    case DML_OP_BATCH_NORM:
        return f->fold ? PLAN_FUSION_POINTWISE : PLAN_FUSION_NORM;
    case DML_OP_MAX_POOL:
        return PLAN_FUSION_MAX_POOL;
    case DML_OP_AVG_POOL:
        return PLAN_FUSION_AVG_POOL;
    case DML_OP_GLOBAL_AVG_POOL:
        return PLAN_FUSION_GLOBAL_AVG_POOL;
    case DML_OP_GLOBAL_MAX_POOL:
        return PLAN_FUSION_GLOBAL_MAX_POOL;
    case DML_OP_GLOBAL_GEM_POOL:
        return PLAN_FUSION_GLOBAL_GEM_POOL;
    case DML_OP_CONCAT:
        return PLAN_FUSION_CONCAT;
    case DML_OP_LINEAR:
        return PLAN_FUSION_LINEAR;
    case DML_OP_L2_NORMALIZE:
        return PLAN_FUSION_L2_NORMALIZE;
    case DML_OP_LAYER_NORM:
        return PLAN_FUSION_LAYER_NORM;
    case DML_OP_TOKENS:
        return PLAN_FUSION_TOKENS;
    case DML_OP_ATTENTION:
        return PLAN_FUSION_ATTENTION;
    case DML_OP_GELU:
    case DML_OP_QUICK_GELU:
        return PLAN_FUSION_GELU;
    case DML_OP_LAYER_SCALE:
        return PLAN_FUSION_LAYER_SCALE;
    case DML_OP_DROP_PATH:
        return PLAN_FUSION_DROP_PATH;
    case DML_OP_TOKEN_POOL:
        return PLAN_FUSION_TOKEN_POOL;
    case DML_OP_RELU:
    case DML_OP_ADD:
    case DML_OP_AFFINE:
        break;
    }
    return PLAN_FUSION_POINTWISE;
}

/* The fusion that begins with `node`. Inputs and residual are nodes until fusions are linked. */
static struct plan_fusion unit_from(struct fusing *f, int node) {
    const struct dml_node *n = &f->graph->nodes[node];
    struct plan_fusion fusion = {.kind = kind_of(f, node),
                                 .node = node,
                                 .norm = n->op == DML_OP_BATCH_NORM ? node : -1,
                                 .affine = n->op == DML_OP_AFFINE ? node : -1,
                                 .residual = -1,
                                 .relu = n->op == DML_OP_RELU,
                                 .input_count = n->input_count};
    for (int k = 0; k < n->input_count; k++)
        fusion.inputs[k] = n->inputs[k];
    take(f, &fusion, node);
    if (fusion.kind == PLAN_FUSION_CONV) {
        fuse_conv(f, &fusion);
    } else if (n->op == DML_OP_BATCH_NORM || n->op == DML_OP_AFFINE) {
        take_add_and_relu(f, &fusion);
    } else if (n->tokens && (n->op == DML_OP_LINEAR || n->op == DML_OP_LAYER_SCALE ||
                             n->op == DML_OP_DROP_PATH)) {
        take_add(f, &fusion);
    } else if (n->op == DML_OP_ADD) {
        fusion.residual = fusion.inputs[1];
        fusion.input_count = 1;
        take_relu(f, &fusion);
    } else if (n->op == DML_OP_INPUT) {
        fusion.affine = next_of(f, &fusion, DML_OP_AFFINE);
        if (fusion.affine >= 0)
            take(f, &fusion, fusion.affine);
    }
    return fusion;
}

static int by_last_node(const void *a, const void *b) {
    return ((const struct plan_fusion *)a)->last_node - ((const struct plan_fusion *)b)->last_node;
}

static void use(struct plan_fusions *all, int user, int used) {
    all->fusions[used].consumers++;
    if (user > all->fusions[used].last_consumer)
        all->fusions[used].last_consumer = user;
    if (all->fusions[used].needs_grad)
        all->fusions[user].needs_grad = true;
}

/* What makes such tokens, and what may read them. */
static bool works_on_narrow(enum plan_fusion_kind kind) {
    return kind == PLAN_FUSION_LINEAR || kind == PLAN_FUSION_ATTENTION ||
           kind == PLAN_FUSION_GELU || kind == PLAN_FUSION_LAYER_SCALE ||
           kind == PLAN_FUSION_DROP_PATH;
}

bool plan_narrows(const struct dml_graph *graph, const struct plan_fusions *all, int u) {
    const struct plan_fusion *fusion = &all->fusions[u];
    if (!graph->nodes[fusion->node].tokens || fusion->residual >= 0 || u == all->output ||
        !(works_on_narrow(fusion->kind) || fusion->kind == PLAN_FUSION_LAYER_NORM))
        return false;
    for (int v = u + 1; v <= fusion->last_consumer; v++) {
        const struct plan_fusion *user = &all->fusions[v];
        bool reads = user->residual == u;
        for (int k = 0; k < user->input_count; k++)
            reads |= user->inputs[k] == u;
        if (reads && (user->residual == u || !works_on_narrow(user->kind)))
            return false;
    }
    return true;
}

/* The element type of the fusion's tensor, once those of its inputs are known. */
static enum plan_element element_of(const struct fusing *f, const struct plan_fusions *all, int u) {
    const struct plan_fusion *fusion = &all->fusions[u];
    if (f->traits->tokens != PLAN_FLOAT32 && plan_narrows(f->graph, all, u))
        return f->traits->tokens;
    switch (fusion->kind) {
    case PLAN_FUSION_INPUT:
    case PLAN_FUSION_CONV:
        return f->traits->element;
    case PLAN_FUSION_GLOBAL_AVG_POOL:
    case PLAN_FUSION_GLOBAL_MAX_POOL:
    case PLAN_FUSION_GLOBAL_GEM_POOL:
    case PLAN_FUSION_LINEAR:
    case PLAN_FUSION_L2_NORMALIZE:
    case PLAN_FUSION_LAYER_NORM:
    case PLAN_FUSION_ATTENTION:
    case PLAN_FUSION_GELU:
    case PLAN_FUSION_LAYER_SCALE:
    case PLAN_FUSION_DROP_PATH:
    case PLAN_FUSION_TOKEN_POOL:
        return PLAN_FLOAT32;
    default:
        return all->fusions[fusion->inputs[0]].layout.element;
    }
}

/* With bfloat16 feature maps: whether a fusion's inputs have the element type that it takes. */
static bool elements_match(const struct plan_fusions *all, const struct plan_fusion *fusion) {
    bool pools = fusion->kind == PLAN_FUSION_GLOBAL_AVG_POOL ||
                 fusion->kind == PLAN_FUSION_GLOBAL_MAX_POOL ||
                 fusion->kind == PLAN_FUSION_GLOBAL_GEM_POOL;
    for (int k = 0; k < fusion->input_count && !pools; k++)
        if (all->fusions[fusion->inputs[k]].layout.element != fusion->layout.element)
            return false;
    return fusion->residual < 0 ||
           all->fusions[fusion->residual].layout.element == fusion->layout.element;
}

static enum dml_status check_elements(const struct dml_graph *graph,
                                      const struct plan_fusions *all) {
    for (int u = 0; u < all->count; u++)
        if (!elements_match(all, &all->fusions[u]))
            return dml_fail(DML_ERROR_UNSUPPORTED,
                            "--precision bf16: node %d of the network joins bfloat16 feature maps "
                            "and float32 vectors",
                            all->fusions[u].node);
    if (all->fusions[all->output].layout.element != PLAN_FLOAT32)
        return dml_fail(DML_ERROR_UNSUPPORTED,
                        "--precision bf16: the embedding (node %d) is a feature map; it must come "
                        "from a global pool or a linear layer",
                        graph->output);
    return DML_OK;
}

/* Whether the fusion's channels lie like its input's: true of what goes through a tensor as it
 * is. */
static bool keeps_grain(enum plan_fusion_kind kind) {
    return kind != PLAN_FUSION_CONV && kind != PLAN_FUSION_LINEAR && kind != PLAN_FUSION_TOKEN_POOL;
}

/* Replaces nodes by fusions in a fusion's inputs, and works out its grain and the uses of its
 * inputs.
 */
static enum dml_status connect(struct fusing *f, struct plan_fusions *all, int u) {
    struct plan_fusion *fusion = &all->fusions[u];
    const struct dml_node *node = &f->graph->nodes[fusion->node];
    fusion->needs_grad = node->param_count > 0 || fusion->norm >= 0;
    fusion->grain = f->traits->block;
    for (int k = 0; k < fusion->input_count; k++) {
        fusion->inputs[k] = f->unit_of[fusion->inputs[k]];
        use(all, u, fusion->inputs[k]);
        int other = all->fusions[fusion->inputs[k]].grain;
        if (fusion->kind == PLAN_FUSION_CONCAT && k && fusion->grain != other)
            return dml_fail(DML_ERROR_UNSUPPORTED,
                            "network graph: concat of the input image with feature maps");
        if (keeps_grain(fusion->kind))
            fusion->grain = other;
    }
    if (fusion->residual >= 0) {
        fusion->residual = f->unit_of[fusion->residual];
        use(all, u, fusion->residual);
        if (!node->tokens && all->fusions[fusion->residual].grain != fusion->grain)
            return dml_fail(DML_ERROR_UNSUPPORTED,
                            "network graph: sum of the input image and feature maps");
    }
    if (fusion->kind == PLAN_FUSION_INPUT)
        fusion->grain = f->traits->image_block;
    if (node->tokens || fusion->kind == PLAN_FUSION_PATCHES) /* all channels side by side */
        fusion->grain = node->channels;
    return DML_OK;
}

static struct plan_layout layout_of(const struct fusing *f, const struct plan_fusions *all, int u) {
    const struct plan_fusion *fusion = &all->fusions[u];
    const struct dml_node *node = &f->graph->nodes[fusion->node];
    int block = fusion->grain;
    if (f->traits->order == PLAN_CHANNELS_LAST)
        block = (node->channels + block - 1) / block * block;
    return plan_layout_make(node->channels, node->tokens ? node->tokens : node->height, node->width,
                            block, element_of(f, all, u));
}

static enum dml_status check_supported(const struct dml_graph *graph,
                                       const struct plan_traits *traits,
                                       const struct plan_fusions *all) {
    for (int u = 0; traits->supports && u < all->count; u++) {
        const struct plan_fusion *fusion = &all->fusions[u];
        const char *name = graph->nodes[fusion->node].name;
        if (!traits->supports(traits->context, graph, fusion))
            return dml_fail(DML_ERROR_UNSUPPORTED,
                            "--arch %s: the %s backend does not compute %s%s%s", graph->arch,
                            traits->backend, plan_fusion_name(fusion->kind),
                            *name ? ", as needed for " : "", name);
    }
    return DML_OK;
}

static enum dml_status connect_all(struct fusing *f, struct plan_fusions *all) {
    for (int u = 0; u < all->count; u++)
        f->unit_of[all->fusions[u].last_node] = u;
    for (int u = 0; u < all->count; u++) {
        enum dml_status status = connect(f, all, u);
        if (status)
            return status;
    }
    all->output = f->unit_of[f->graph->output];
    for (int u = 0; u < all->count; u++)
        all->fusions[u].layout = layout_of(f, all, u);
    all->fusions[all->output].consumers++;
    all->fusions[all->output].last_consumer = all->count;
    enum dml_status status = check_supported(f->graph, f->traits, all);
    if (!status && f->traits->element == PLAN_BFLOAT16)
        status = check_elements(f->graph, all);
    return status;
}

enum dml_status plan_fusions_make(const struct dml_graph *graph, bool fold,
                                  const struct plan_traits *traits, struct plan_fusions *out) {
    *out = (struct plan_fusions){0};
    size_t count = (size_t)graph->node_count;
    int *memory = dml_alloc(4 * count, sizeof *memory);
    out->fusions = dml_alloc(count, sizeof *out->fusions);
    enum dml_status status = DML_ERROR_MEMORY;
    if (memory && out->fusions) {
        struct fusing f = {.graph = graph,
                           .traits = traits,
                           .fold = fold,
                           .uses = memory,
                           .user = memory + count,
                           .taken = memory + 2 * count,
                           .unit_of = memory + 3 * count};
        count_uses(&f);
        for (int i = 0; i < graph->node_count; i++)
            if (!f.taken[i])
                out->fusions[out->count++] = unit_from(&f, i);
        qsort(out->fusions, (size_t)out->count, sizeof *out->fusions, by_last_node);
        status = connect_all(&f, out);
    }
    free(memory);
    if (status)
        plan_fusions_free(out);
    return status;
}

void plan_fusions_free(struct plan_fusions *fusions) {
    free(fusions->fusions);
    *fusions = (struct plan_fusions){0};
}
