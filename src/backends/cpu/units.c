#include "backends/cpu/units.h"

#include "base/memory.h"

#include <stdlib.h>

struct fusion {
    const struct dml_graph *graph;
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

/* The node behind `node` if it is its only user, free and of kind `op`; else -1. */
static int next_of(const struct fusion *f, int node, enum dml_op op) {
    if (f->uses[node] != 1 || node == f->graph->output)
        return -1;
    int next = f->user[node];
    return f->graph->nodes[next].op == op && !f->taken[next] ? next : -1;
}

static void take(struct fusion *f, struct cpu_unit *unit, int node) {
    f->taken[node] = 1;
    unit->last_node = node;
}

static void take_relu(struct fusion *f, struct cpu_unit *unit) {
    int relu = next_of(f, unit->last_node, DML_OP_RELU);
    if (relu >= 0) {
        unit->relu = true;
        take(f, unit, relu);
    }
}

/* Lets the unit take over an add: its other input becomes the residual, a node until units are
 * linked. */
static void take_add(struct fusion *f, struct cpu_unit *unit) {
    int add = next_of(f, unit->last_node, DML_OP_ADD);
    if (add >= 0) {
        const int *inputs = f->graph->nodes[add].inputs;
        unit->residual = inputs[0] == unit->last_node ? inputs[1] : inputs[0];
        take(f, unit, add);
    }
}

/* And a relu behind it. */
static void take_add_and_relu(struct fusion *f, struct cpu_unit *unit) {
    take_add(f, unit);
    take_relu(f, unit);
}

static void fuse_conv(struct fusion *f, struct cpu_unit *unit) {
    int norm = f->fold ? next_of(f, unit->last_node, DML_OP_BATCH_NORM) : -1;
    if (norm >= 0) {
        unit->norm = norm;
        take(f, unit, norm);
    }
    take_add_and_relu(f, unit);
}

bool cpu_is_patches(const struct dml_graph *graph, int node) {
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

static enum cpu_unit_kind kind_of(const struct dml_graph *graph, int node, bool fold) {
    enum dml_op op = graph->nodes[node].op;
    switch (op) {
    case DML_OP_INPUT:
        return CPU_INPUT;
    case DML_OP_CONV:
        return cpu_is_patches(graph, node) ? CPU_PATCHES : CPU_CONV;
    case DML_OP_BATCH_NORM:
        return fold ? CPU_POINTWISE : CPU_NORM;
    case DML_OP_MAX_POOL:
        return CPU_MAX_POOL;
    case DML_OP_AVG_POOL:
        return CPU_AVG_POOL;
    case DML_OP_GLOBAL_AVG_POOL:
        return CPU_GLOBAL_AVG_POOL;
    case DML_OP_GLOBAL_MAX_POOL:
        return CPU_GLOBAL_MAX_POOL;
    case DML_OP_GLOBAL_GEM_POOL:
        return CPU_GLOBAL_GEM_POOL;
    case DML_OP_CONCAT:
        return CPU_CONCAT;
    case DML_OP_LINEAR:
        return CPU_LINEAR;
    case DML_OP_L2_NORMALIZE:
        return CPU_L2_NORMALIZE;
    case DML_OP_LAYER_NORM:
        return CPU_LAYER_NORM;
    case DML_OP_TOKENS:
        return CPU_TOKENS;
    case DML_OP_ATTENTION:
        return CPU_ATTENTION;
    case DML_OP_GELU:
    case DML_OP_QUICK_GELU:
        return CPU_GELU;
    case DML_OP_LAYER_SCALE:
        return CPU_LAYER_SCALE;
    case DML_OP_DROP_PATH:
        return CPU_DROP_PATH;
    case DML_OP_TOKEN_POOL:
        return CPU_TOKEN_POOL;
    case DML_OP_RELU:
    case DML_OP_ADD:
    case DML_OP_AFFINE:
        break;
    }
    return CPU_POINTWISE;
}

/* The unit that begins with `node`. Inputs and residual are nodes until units are linked. */
static struct cpu_unit unit_from(struct fusion *f, int node) {
    const struct dml_node *n = &f->graph->nodes[node];
    struct cpu_unit unit = {.kind = kind_of(f->graph, node, f->fold),
                            .node = node,
                            .norm = n->op == DML_OP_BATCH_NORM ? node : -1,
                            .affine = n->op == DML_OP_AFFINE ? node : -1,
                            .residual = -1,
                            .relu = n->op == DML_OP_RELU,
                            .input_count = n->input_count};
    for (int k = 0; k < n->input_count; k++)
        unit.inputs[k] = n->inputs[k];
    take(f, &unit, node);
    if (unit.kind == CPU_CONV) {
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
        unit.affine = next_of(f, node, DML_OP_AFFINE);
        if (unit.affine >= 0)
            take(f, &unit, unit.affine);
    }
    return unit;
}

static int by_last_node(const void *a, const void *b) {
    return ((const struct cpu_unit *)a)->last_node - ((const struct cpu_unit *)b)->last_node;
}

static void use(struct cpu_units *all, int user, int used) {
    all->units[used].consumers++;
    if (user > all->units[used].last_consumer)
        all->units[used].last_consumer = user;
    if (all->units[used].needs_grad)
        all->units[user].needs_grad = true;
}

/* What the unit's tensor is made of, when those of its inputs are known. */
static enum cpu_element element_of(const struct cpu_units *all, const struct cpu_unit *unit,
                                   enum cpu_element maps) {
    switch (unit->kind) {
    case CPU_INPUT:
    case CPU_CONV:
        return maps;
    case CPU_GLOBAL_AVG_POOL:
    case CPU_GLOBAL_MAX_POOL:
    case CPU_GLOBAL_GEM_POOL:
    case CPU_LINEAR:
    case CPU_L2_NORMALIZE:
    case CPU_LAYER_NORM:
    case CPU_TOKEN_POOL:
        return CPU_FLOAT32;
    default:
        return all->units[unit->inputs[0]].layout.element;
    }
}

/* With bfloat16 feature maps: whether a unit's inputs are of the kind that it takes. */
static bool elements_match(const struct cpu_units *all, const struct cpu_unit *unit) {
    bool pools = unit->kind == CPU_GLOBAL_AVG_POOL || unit->kind == CPU_GLOBAL_MAX_POOL ||
                 unit->kind == CPU_GLOBAL_GEM_POOL;
    for (int k = 0; k < unit->input_count && !pools; k++)
        if (all->units[unit->inputs[k]].layout.element != unit->layout.element)
            return false;
    return unit->residual < 0 || all->units[unit->residual].layout.element == unit->layout.element;
}

static enum dml_status check_elements(const struct dml_graph *graph, const struct cpu_units *all) {
    for (int u = 0; u < all->count; u++)
        if (!elements_match(all, &all->units[u]))
            return dml_fail(DML_ERROR_UNSUPPORTED,
                            "--precision bf16: node %d of the network joins bfloat16 feature maps "
                            "and float32 vectors",
                            all->units[u].node);
    if (all->units[all->output].layout.element != CPU_FLOAT32)
        return dml_fail(DML_ERROR_UNSUPPORTED,
                        "--precision bf16: the embedding (node %d) is a feature map; it must come "
                        "from a global pool or a linear layer",
                        graph->output);
    return DML_OK;
}

/* Replaces nodes by units in inputs, and works out layouts and uses. */
static enum dml_status connect(struct fusion *f, struct cpu_units *all, int block,
                               enum cpu_element element) {
    for (int u = 0; u < all->count; u++)
        f->unit_of[all->units[u].last_node] = u;
    for (int u = 0; u < all->count; u++) {
        struct cpu_unit *unit = &all->units[u];
        const struct dml_node *node = &f->graph->nodes[unit->node];
        unit->needs_grad = node->param_count > 0 || unit->norm >= 0;
        int own = block; /* of tokens, all channels side by side */
        for (int k = 0; k < unit->input_count; k++) {
            unit->inputs[k] = f->unit_of[unit->inputs[k]];
            use(all, u, unit->inputs[k]);
            int other = all->units[unit->inputs[k]].layout.block;
            if (unit->kind == CPU_CONCAT && k && own != other)
                return dml_fail(DML_ERROR_UNSUPPORTED,
                                "network graph: concat of the input image with feature maps");
            if (unit->kind != CPU_CONV && unit->kind != CPU_LINEAR && unit->kind != CPU_TOKEN_POOL)
                own = other;
        }
        if (unit->residual >= 0) {
            unit->residual = f->unit_of[unit->residual];
            use(all, u, unit->residual);
            if (!node->tokens && all->units[unit->residual].layout.block != own)
                return dml_fail(DML_ERROR_UNSUPPORTED,
                                "network graph: sum of the input image and feature maps");
        }
        if (unit->kind == CPU_INPUT)
            own = 1;
        if (node->tokens || unit->kind == CPU_PATCHES)
            own = node->channels;
        unit->layout = cpu_layout_make(node->channels, node->tokens ? node->tokens : node->height,
                                       node->width, own, element_of(all, unit, element));
    }
    all->output = f->unit_of[f->graph->output];
    all->units[all->output].consumers++;
    all->units[all->output].last_consumer = all->count;
    return element == CPU_BFLOAT16 ? check_elements(f->graph, all) : DML_OK;
}

enum dml_status cpu_units_make(const struct dml_graph *graph, bool fold, int block,
                               enum cpu_element element, struct cpu_units *out) {
    *out = (struct cpu_units){0};
    size_t count = (size_t)graph->node_count;
    int *memory = dml_alloc(4 * count, sizeof *memory);
    out->units = dml_alloc(count, sizeof *out->units);
    enum dml_status status = DML_ERROR_MEMORY;
    if (memory && out->units) {
        struct fusion f = {
            graph, fold, memory, memory + count, memory + 2 * count, memory + 3 * count};
        count_uses(&f);
        for (int i = 0; i < graph->node_count; i++)
            if (!f.taken[i])
                out->units[out->count++] = unit_from(&f, i);
        qsort(out->units, (size_t)out->count, sizeof *out->units, by_last_node);
        status = connect(&f, out, block, element);
    }
    free(memory);
    if (status != DML_OK)
        cpu_units_free(out);
    return status;
}

void cpu_units_free(struct cpu_units *units) {
    free(units->units);
    *units = (struct cpu_units){0};
}
