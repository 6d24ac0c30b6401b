#include "plan/traits.h"

#include "base/memory.h"

#include <stdlib.h>

const char *plan_unit_name(enum plan_unit_kind kind) {
    static const char *const names[] = {
        [PLAN_UNIT_INPUT] = "input",
        [PLAN_UNIT_CONV] = "convolution",
        [PLAN_UNIT_NORM] = "batch norm",
        [PLAN_UNIT_POINTWISE] = "affine, add or relu",
        [PLAN_UNIT_MAX_POOL] = "max pool",
        [PLAN_UNIT_AVG_POOL] = "average pool",
        [PLAN_UNIT_GLOBAL_AVG_POOL] = "global average pool",
        [PLAN_UNIT_GLOBAL_MAX_POOL] = "global max pool",
        [PLAN_UNIT_GLOBAL_GEM_POOL] = "generalised mean pool",
        [PLAN_UNIT_CONCAT] = "concat",
        [PLAN_UNIT_L2_NORMALIZE] = "l2 normalize",
        [PLAN_UNIT_LINEAR] = "linear",
        [PLAN_UNIT_LAYER_NORM] = "layer norm",
        [PLAN_UNIT_PATCHES] = "patches",
        [PLAN_UNIT_TOKENS] = "tokens",
        [PLAN_UNIT_ATTENTION] = "attention",
        [PLAN_UNIT_GELU] = "gelu",
        [PLAN_UNIT_LAYER_SCALE] = "layer scale",
        [PLAN_UNIT_DROP_PATH] = "drop path",
        [PLAN_UNIT_TOKEN_POOL] = "token pool",
    };
    return names[kind];
}

struct fusion {
    const struct dml_graph *graph;
    const struct plan_traits *traits;
    bool fold;
    int *uses;    /* of each node's value */
    int *user;    /* a node that uses it; the only one where uses is 1 */
    int *taken;   /* node is part of a unit already */
    int *unit_of; /* the unit whose tensor is the node's value, or -1 */
};

static void count_uses(struct fusion *f) {
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

/* The node after what the unit is so far, if it is the only user, free, of kind `op`, and the
 * backend takes it in; else -1. */
static int next_of(const struct fusion *f, const struct plan_unit *unit, enum dml_op op) {
    int node = unit->last_node;
    if (f->uses[node] != 1 || node == f->graph->output)
        return -1;
    int next = f->user[node];
    if (f->graph->nodes[next].op != op || f->taken[next])
        return -1;
    const struct plan_traits *traits = f->traits;
    return !traits->fuses || traits->fuses(traits->context, f->graph, unit, op) ? next : -1;
}

static void take(struct fusion *f, struct plan_unit *unit, int node) {
    f->taken[node] = 1;
    unit->last_node = node;
}

static void take_relu(struct fusion *f, struct plan_unit *unit) {
    int relu = next_of(f, unit, DML_OP_RELU);
    if (relu >= 0) {
        unit->relu = true;
        take(f, unit, relu);
    }
}

/* Lets the unit take over an add: its other input becomes the residual, a node until units are
 * linked. */
static void take_add(struct fusion *f, struct plan_unit *unit) {
    int add = next_of(f, unit, DML_OP_ADD);
    if (add >= 0) {
        const int *inputs = f->graph->nodes[add].inputs;
        unit->residual = inputs[0] == unit->last_node ? inputs[1] : inputs[0];
        take(f, unit, add);
    }
}

/* And a relu after it. */
static void take_add_and_relu(struct fusion *f, struct plan_unit *unit) {
    take_add(f, unit);
    take_relu(f, unit);
}

static void fuse_conv(struct fusion *f, struct plan_unit *unit) {
    int norm = f->fold ? next_of(f, unit, DML_OP_BATCH_NORM) : -1;
    if (norm >= 0) {
        unit->norm = norm;
        take(f, unit, norm);
    }
    take_add_and_relu(f, unit);
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

static enum plan_unit_kind kind_of(const struct fusion *f, int node) {
    switch (f->graph->nodes[node].op) {
    case DML_OP_INPUT:
        return PLAN_UNIT_INPUT;
    case DML_OP_CONV:
        return f->traits->patches && plan_is_patches(f->graph, node) ? PLAN_UNIT_PATCHES
                                                                     : PLAN_UNIT_CONV;
    case DML_OP_BATCH_NORM:
        return f->fold ? PLAN_UNIT_POINTWISE : PLAN_UNIT_NORM;
    case DML_OP_MAX_POOL:
        return PLAN_UNIT_MAX_POOL;
    case DML_OP_AVG_POOL:
        return PLAN_UNIT_AVG_POOL;
    case DML_OP_GLOBAL_AVG_POOL:
        return PLAN_UNIT_GLOBAL_AVG_POOL;
    case DML_OP_GLOBAL_MAX_POOL:
        return PLAN_UNIT_GLOBAL_MAX_POOL;
    case DML_OP_GLOBAL_GEM_POOL:
        return PLAN_UNIT_GLOBAL_GEM_POOL;
    case DML_OP_CONCAT:
        return PLAN_UNIT_CONCAT;
    case DML_OP_LINEAR:
        return PLAN_UNIT_LINEAR;
    case DML_OP_L2_NORMALIZE:
        return PLAN_UNIT_L2_NORMALIZE;
    case DML_OP_LAYER_NORM:
        return PLAN_UNIT_LAYER_NORM;
    case DML_OP_TOKENS:
        return PLAN_UNIT_TOKENS;
    case DML_OP_ATTENTION:
        return PLAN_UNIT_ATTENTION;
    case DML_OP_GELU:
    case DML_OP_QUICK_GELU:
        return PLAN_UNIT_GELU;
    case DML_OP_LAYER_SCALE:
        return PLAN_UNIT_LAYER_SCALE;
    case DML_OP_DROP_PATH:
        return PLAN_UNIT_DROP_PATH;
    case DML_OP_TOKEN_POOL:
        return PLAN_UNIT_TOKEN_POOL;
    case DML_OP_RELU:
    case DML_OP_ADD:
    case DML_OP_AFFINE:
        break;
    }
    return PLAN_UNIT_POINTWISE;
}

/* The unit that begins with `node`. Inputs and residual are nodes until units are linked. */
static struct plan_unit unit_from(struct fusion *f, int node) {
    const struct dml_node *n = &f->graph->nodes[node];
    struct plan_unit unit = {.kind = kind_of(f, node),
                             .node = node,
                             .norm = n->op == DML_OP_BATCH_NORM ? node : -1,
                             .affine = n->op == DML_OP_AFFINE ? node : -1,
                             .residual = -1,
                             .relu = n->op == DML_OP_RELU,
                             .input_count = n->input_count};
    for (int k = 0; k < n->input_count; k++)
        unit.inputs[k] = n->inputs[k];
    take(f, &unit, node);
    if (unit.kind == PLAN_UNIT_CONV) {
        fuse_conv(f, &unit);
    } else if (n->op == DML_OP_BATCH_NORM || n->op == DML_OP_AFFINE) {
        take_add_and_relu(f, &unit);
    } else if (n->tokens && (n->op == DML_OP_LINEAR || n->op == DML_OP_LAYER_SCALE ||
                             n->op == DML_OP_DROP_PATH)) {
        take_add(f, &unit);
    } else if (n->op == DML_OP_ADD) {
        unit.residual = unit.inputs[1];
        unit.input_count = 1;
        take_relu(f, &unit);
    } else if (n->op == DML_OP_INPUT) {
        unit.affine = next_of(f, &unit, DML_OP_AFFINE);
        if (unit.affine >= 0)
            take(f, &unit, unit.affine);
    }
    return unit;
}

static int by_last_node(const void *a, const void *b) {
    return ((const struct plan_unit *)a)->last_node - ((const struct plan_unit *)b)->last_node;
}

static void use(struct plan_units *all, int user, int used) {
    all->units[used].consumers++;
    if (user > all->units[used].last_consumer)
        all->units[used].last_consumer = user;
    if (all->units[used].needs_grad)
        all->units[user].needs_grad = true;
}

/* What the unit's tensor is made of, when those of its inputs are known. */
static enum plan_element element_of(const struct plan_units *all, const struct plan_unit *unit,
                                    enum plan_element maps) {
    switch (unit->kind) {
    case PLAN_UNIT_INPUT:
    case PLAN_UNIT_CONV:
        return maps;
    case PLAN_UNIT_GLOBAL_AVG_POOL:
    case PLAN_UNIT_GLOBAL_MAX_POOL:
    case PLAN_UNIT_GLOBAL_GEM_POOL:
    case PLAN_UNIT_LINEAR:
    case PLAN_UNIT_L2_NORMALIZE:
    case PLAN_UNIT_LAYER_NORM:
    case PLAN_UNIT_TOKEN_POOL:
        return PLAN_FLOAT32;
    default:
        return all->units[unit->inputs[0]].layout.element;
    }
}

/* With bfloat16 feature maps: whether a unit's inputs are of the kind that it takes. */
static bool elements_match(const struct plan_units *all, const struct plan_unit *unit) {
    bool pools = unit->kind == PLAN_UNIT_GLOBAL_AVG_POOL ||
                 unit->kind == PLAN_UNIT_GLOBAL_MAX_POOL || unit->kind == PLAN_UNIT_GLOBAL_GEM_POOL;
    for (int k = 0; k < unit->input_count && !pools; k++)
        if (all->units[unit->inputs[k]].layout.element != unit->layout.element)
            return false;
    return unit->residual < 0 || all->units[unit->residual].layout.element == unit->layout.element;
}

static enum dml_status check_elements(const struct dml_graph *graph, const struct plan_units *all) {
    for (int u = 0; u < all->count; u++)
        if (!elements_match(all, &all->units[u]))
            return dml_fail(DML_ERROR_UNSUPPORTED,
                            "--precision bf16: node %d of the network joins bfloat16 feature maps "
                            "and float32 vectors",
                            all->units[u].node);
    if (all->units[all->output].layout.element != PLAN_FLOAT32)
        return dml_fail(DML_ERROR_UNSUPPORTED,
                        "--precision bf16: the embedding (node %d) is a feature map; it must come "
                        "from a global pool or a linear layer",
                        graph->output);
    return DML_OK;
}

/* Whose channels the unit's own lie like: true of what goes through a tensor as it is. */
static bool keeps_grain(enum plan_unit_kind kind) {
    return kind != PLAN_UNIT_CONV && kind != PLAN_UNIT_LINEAR && kind != PLAN_UNIT_TOKEN_POOL;
}

/* Replaces nodes by units in a unit's inputs, and works out its grain and the uses of its inputs.
 */
static enum dml_status connect(struct fusion *f, struct plan_units *all, int u) {
    struct plan_unit *unit = &all->units[u];
    const struct dml_node *node = &f->graph->nodes[unit->node];
    unit->needs_grad = node->param_count > 0 || unit->norm >= 0;
    unit->grain = f->traits->block;
    for (int k = 0; k < unit->input_count; k++) {
        unit->inputs[k] = f->unit_of[unit->inputs[k]];
        use(all, u, unit->inputs[k]);
        int other = all->units[unit->inputs[k]].grain;
        if (unit->kind == PLAN_UNIT_CONCAT && k && unit->grain != other)
            return dml_fail(DML_ERROR_UNSUPPORTED,
                            "network graph: concat of the input image with feature maps");
        if (keeps_grain(unit->kind))
            unit->grain = other;
    }
    if (unit->residual >= 0) {
        unit->residual = f->unit_of[unit->residual];
        use(all, u, unit->residual);
        if (!node->tokens && all->units[unit->residual].grain != unit->grain)
            return dml_fail(DML_ERROR_UNSUPPORTED,
                            "network graph: sum of the input image and feature maps");
    }
    if (unit->kind == PLAN_UNIT_INPUT)
        unit->grain = f->traits->image_block;
    if (node->tokens || unit->kind == PLAN_UNIT_PATCHES) /* all channels side by side */
        unit->grain = node->channels;
    return DML_OK;
}

static struct plan_layout layout_of(const struct fusion *f, const struct plan_units *all,
                                    const struct plan_unit *unit) {
    const struct dml_node *node = &f->graph->nodes[unit->node];
    int block = unit->grain;
    if (f->traits->order == PLAN_CHANNELS_LAST)
        block = (node->channels + block - 1) / block * block;
    return plan_layout_make(node->channels, node->tokens ? node->tokens : node->height, node->width,
                            block, element_of(all, unit, f->traits->element));
}

static enum dml_status check_supported(const struct dml_graph *graph,
                                       const struct plan_traits *traits,
                                       const struct plan_units *all) {
    for (int u = 0; traits->supports && u < all->count; u++) {
        const struct plan_unit *unit = &all->units[u];
        const char *name = graph->nodes[unit->node].name;
        if (!traits->supports(traits->context, graph, unit))
            return dml_fail(DML_ERROR_UNSUPPORTED,
                            "--arch %s: the %s backend does not compute %s%s%s", graph->arch,
                            traits->backend, plan_unit_name(unit->kind),
                            *name ? ", as needed for " : "", name);
    }
    return DML_OK;
}

static enum dml_status connect_all(struct fusion *f, struct plan_units *all) {
    for (int u = 0; u < all->count; u++)
        f->unit_of[all->units[u].last_node] = u;
    for (int u = 0; u < all->count; u++) {
        enum dml_status status = connect(f, all, u);
        if (status != DML_OK)
            return status;
        all->units[u].layout = layout_of(f, all, &all->units[u]);
    }
    all->output = f->unit_of[f->graph->output];
    all->units[all->output].consumers++;
    all->units[all->output].last_consumer = all->count;
    enum dml_status status = check_supported(f->graph, f->traits, all);
    if (status == DML_OK && f->traits->element == PLAN_BFLOAT16)
        status = check_elements(f->graph, all);
    return status;
}

enum dml_status plan_units_make(const struct dml_graph *graph, bool fold,
                                const struct plan_traits *traits, struct plan_units *out) {
    *out = (struct plan_units){0};
    size_t count = (size_t)graph->node_count;
    int *memory = dml_alloc(4 * count, sizeof *memory);
    out->units = dml_alloc(count, sizeof *out->units);
    enum dml_status status = DML_ERROR_MEMORY;
    if (memory && out->units) {
        struct fusion f = {.graph = graph,
                           .traits = traits,
                           .fold = fold,
                           .uses = memory,
                           .user = memory + count,
                           .taken = memory + 2 * count,
                           .unit_of = memory + 3 * count};
        count_uses(&f);
        for (int i = 0; i < graph->node_count; i++)
            if (!f.taken[i])
                out->units[out->count++] = unit_from(&f, i);
        qsort(out->units, (size_t)out->count, sizeof *out->units, by_last_node);
        status = connect_all(&f, out);
    }
    free(memory);
    if (status != DML_OK)
        plan_units_free(out);
    return status;
}

void plan_units_free(struct plan_units *units) {
    free(units->units);
    *units = (struct plan_units){0};
}
