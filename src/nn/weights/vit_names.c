#include "nn/weights/vit_names.h"

#include "base/memory.h"
#include "nn/weights/positions.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What a tensor of a file becomes. */
enum form {
    AS_IS,
    TOKEN,      /* (C) to (1, 1, C) */
    POSITIONS,  /* (T, C) to (1, T, C) */
    TRANSPOSED, /* (a, b) to (b, a) */
    QUERY,      /* the first, second and last third of attn.qkv */
    KEY,
    VALUE,
};

struct rule {
    const char *from, *to; /* what a name begins with */
    enum form form;
};

/* Names outside blocks. */
static const struct rule outer[] = {
    {"register_tokens", "reg_token", AS_IS},      /* DINOv2 */
    {"embeddings.cls_token", "cls_token", AS_IS}, /* transformers: ViT, Dinov2 */
    {"embeddings.register_tokens", "reg_token", AS_IS},
    {"embeddings.distillation_token", "dist_token", AS_IS}, /* transformers: DeiT */
    {"embeddings.position_embeddings", "pos_embed", AS_IS},
    {"embeddings.patch_embeddings.projection.", "patch_embed.proj.", AS_IS},
    {"layernorm.", "norm.", AS_IS},
    {"visual.class_embedding", "cls_token", TOKEN}, /* CLIP: OpenAI, open_clip */
    {"visual.positional_embedding", "pos_embed", POSITIONS},
    {"visual.conv1.", "patch_embed.proj.", AS_IS},
    {"visual.ln_pre.", "norm_pre.", AS_IS},
    {"visual.ln_post.", "norm.", AS_IS},
    {"visual.proj", "head.weight", TRANSPOSED},
    {"visual.head.proj.", "head.", AS_IS},
    {"embeddings.class_embedding", "cls_token", TOKEN}, /* transformers: CLIP */
    {"embeddings.position_embedding.weight", "pos_embed", POSITIONS},
    {"embeddings.patch_embedding.", "patch_embed.proj.", AS_IS},
    {"pre_layrnorm.", "norm_pre.", AS_IS},
    {"post_layernorm.", "norm.", AS_IS},
    {"visual_projection.", "head.", AS_IS},
};

/* What the names of blocks begin with, before their number. */
static const char *const block_names[] = {"blocks.", "encoder.layer.",
                                          "visual.transformer.resblocks.", "encoder.layers."};

/* Names inside a block. */
static const struct rule inner[] = {
    {"layernorm_before.", "norm1.", AS_IS}, /* transformers: ViT, Dinov2 */
    {"layernorm_after.", "norm2.", AS_IS},
    {"attention.attention.query.", "attn.qkv.", QUERY},
    {"attention.attention.key.", "attn.qkv.", KEY},
    {"attention.attention.value.", "attn.qkv.", VALUE},
    {"attention.output.dense.", "attn.proj.", AS_IS},
    {"intermediate.dense.", "mlp.fc1.", AS_IS},
    {"output.dense.", "mlp.fc2.", AS_IS},
    {"layer_scale1.lambda1", "ls1.gamma", AS_IS},
    {"layer_scale2.lambda1", "ls2.gamma", AS_IS},
    {"ln_1.", "norm1.", AS_IS}, /* CLIP: OpenAI, open_clip */
    {"ln_2.", "norm2.", AS_IS},
    {"attn.in_proj_", "attn.qkv.", AS_IS},
    {"attn.out_proj.", "attn.proj.", AS_IS},
    {"mlp.c_fc.", "mlp.fc1.", AS_IS},
    {"mlp.c_proj.", "mlp.fc2.", AS_IS},
    {"layer_norm1.", "norm1.", AS_IS}, /* transformers: CLIP */
    {"layer_norm2.", "norm2.", AS_IS},
    {"self_attn.q_proj.", "attn.qkv.", QUERY},
    {"self_attn.k_proj.", "attn.qkv.", KEY},
    {"self_attn.v_proj.", "attn.qkv.", VALUE},
    {"self_attn.out_proj.", "attn.proj.", AS_IS},
};

/* What training code and libraries put before all of that. */
static const char *const holders[] = {
    "module.",       "backbone.", "model.",        "teacher.",
    "vit.",          "deit.",     "dinov2.",       "dinov2_with_registers.",
    "visual.trunk.", "clip.",     "vision_model.",
};

#define COUNT(list) (sizeof(list) / sizeof *(list))

/* What is after `prefix` in `name`, or NULL. */
static const char *rest_after(const char *name, const char *prefix) {
    size_t length = strlen(prefix);
    return strncmp(name, prefix, length) == 0 ? name + length : NULL;
}

static const char *without_holders(const char *name) {
    for (size_t i = 0; i < COUNT(holders); i++) {
        const char *rest = rest_after(name, holders[i]);
        if (rest && *rest) {
            name = rest;
            i = (size_t)-1; /* from the first one again */
        }
    }
    return name;
}

static enum form apply(const struct rule *rules, size_t count, const char *head, const char *name,
                       char *out, size_t size) {
    for (size_t i = 0; i < count; i++) {
        const char *rest = rest_after(name, rules[i].from);
        size_t length = strlen(rules[i].from);
        bool whole = rules[i].from[length - 1] == '.' || rules[i].from[length - 1] == '_';
        if (!rest || (!whole && *rest))
            continue;
        snprintf(out, size, "%s%s%s", head, rules[i].to, rest);
        return rules[i].form;
    }
    snprintf(out, size, "%s%s", head, name);
    return AS_IS;
}

/* Our name for a tensor, and what to do with it. */
static enum form rename_tensor(const char *name, char *out, size_t size) {
    name = without_holders(name);
    for (size_t i = 0; i < COUNT(block_names); i++) {
        const char *number = rest_after(name, block_names[i]);
        size_t digits = number ? strspn(number, "0123456789") : 0;
        if (!digits || number[digits] != '.')
            continue;
        const char *inside = number + digits + 1; /* in chunks, as DINOv2 trains: blocks.0.11. */
        size_t more = strspn(inside, "0123456789");
        if (more && inside[more] == '.') {
            number = inside;
            digits = more;
        }
        char head[64];
        snprintf(head, sizeof head, "blocks.%.*s.", (int)(digits < 9 ? digits : 9), number);
        return apply(inner, COUNT(inner), head, number + digits + 1, out, size);
    }
    return apply(outer, COUNT(outer), "", name, out, size);
}

/* What is being translated. */
struct translation {
    const struct dml_graph *graph;
    const struct dml_node *tokens; /* its node with the position embeddings */
    const char *file;
    struct dml_tensors *out;
};

static enum dml_status add_view(struct translation *t, const char *name,
                                const struct dml_tensor *tensor, const size_t *dims, int count) {
    return dml_tensors_add_view(t->out, name, tensor->dtype, dims, count, tensor->data);
}

static enum dml_status add_transposed(struct translation *t, const char *name,
                                      const struct dml_tensor *tensor) {
    if (tensor->dim_count != 2)
        return add_view(t, name, tensor, tensor->dims, tensor->dim_count);
    size_t rows = tensor->dims[0], columns = tensor->dims[1];
    float *values = dml_alloc(tensor->count, sizeof *values);
    void *data = NULL;
    enum dml_status status = values ? DML_OK : DML_ERROR_MEMORY;
    if (!status)
        status = dml_tensors_add(t->out, name, DML_DTYPE_F32, (size_t[]){columns, rows}, 2, &data);
    if (!status) {
        dml_tensor_floats(tensor, values);
        float *out = data;
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < columns; c++)
                out[c * rows + r] = values[r * columns + c];
    }
    free(values);
    return status;
}

/* All three thirds are stacked when the query's turn comes; `name` is ours. */
static enum dml_status add_stacked(struct translation *t, const char *name,
                                   const struct dml_tensors *all, const struct dml_tensor *query) {
    static const char *const words[][3] = {{"query", "key", "value"},
                                           {"q_proj", "k_proj", "v_proj"}};
    const struct dml_tensor *parts[3] = {query};
    for (size_t w = 0; w < 2; w++) {
        const char *at = strstr(query->name, words[w][0]);
        for (int k = 1; at && k < 3; k++) {
            char other[512];
            snprintf(other, sizeof other, "%.*s%s%s", (int)(at - query->name), query->name,
                     words[w][k], at + strlen(words[w][0]));
            parts[k] = dml_tensors_find(all, other);
        }
    }
    for (int k = 1; k < 3; k++)
        if (!parts[k] || parts[k]->count != query->count)
            return dml_fail(DML_ERROR_INPUT, "%s: %s has no %s of its shape beside it", t->file,
                            query->name, k == 1 ? "key" : "value");
    size_t dims[DML_TENSOR_MAX_DIMS];
    void *data = NULL;
    memcpy(dims, query->dims, sizeof dims);
    dims[0] *= query->dim_count > 0 ? 3 : 1;
    if (query->dim_count == 0)
        return dml_fail(DML_ERROR_INPUT, "%s: %s is a single value", t->file, query->name);
    enum dml_status status =
        dml_tensors_add(t->out, name, DML_DTYPE_F32, dims, query->dim_count, &data);
    for (size_t k = 0; !status && k < 3; k++)
        dml_tensor_floats(parts[k], (float *)data + k * query->count);
    return status;
}

static enum dml_status add(struct translation *t, const struct dml_tensors *all,
                           const struct dml_tensor *tensor) {
    char name[512];
    enum form form = rename_tensor(tensor->name, name, sizeof name);
    if (form == KEY || form == VALUE || dml_tensors_find(t->out, name))
        return DML_OK;
    if (form == QUERY)
        return add_stacked(t, name, all, tensor);
    if (form == TRANSPOSED)
        return add_transposed(t, name, tensor);
    if (form == TOKEN && tensor->dim_count == 1)
        return add_view(t, name, tensor, (size_t[]){1, 1, tensor->dims[0]}, 3);
    if (form == POSITIONS && tensor->dim_count == 2)
        return add_view(t, name, tensor, (size_t[]){1, tensor->dims[0], tensor->dims[1]}, 3);
    return add_view(t, name, tensor, tensor->dims, tensor->dim_count);
}

static struct dml_tensor *find(struct dml_tensors *tensors, const char *name) {
    for (size_t i = 0; i < tensors->count; i++)
        if (strcmp(tensors->items[i].name, name) == 0)
            return &tensors->items[i];
    return NULL;
}

/* The parameter of that name, or NULL. */
static const struct dml_graph_param *find_param(const struct dml_graph *graph, const char *name) {
    for (int i = 0; i < graph->param_count; i++)
        if (strcmp(graph->params[i].name, name) == 0)
            return &graph->params[i];
    return NULL;
}

/* The final norm is called norm or, after the mean of the patches, fc_norm. */
static enum dml_status rename_norm(struct translation *t) {
    static const char *const names[][2] = {{"norm.weight", "fc_norm.weight"},
                                           {"norm.bias", "fc_norm.bias"}};
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 2; k++) {
            const char *wanted = names[i][k];
            struct dml_tensor *other = find(t->out, names[i][1 - k]);
            if (!find_param(t->graph, wanted) || find(t->out, wanted) || !other)
                continue;
            char *name = dml_strdup(wanted);
            if (!name)
                return DML_ERROR_MEMORY;
            free(other->name);
            other->name = name;
        }
    return DML_OK;
}

/* DINOv2's own files and transformers' keep a position for the class token where there are
 * registers; its value is part of the class token in ours. */
static enum dml_status add_to_class_token(struct translation *t, const float *row, size_t width) {
    struct dml_tensor *token = find(t->out, "cls_token");
    if (!token || token->count != width)
        return DML_OK;
    float *values = dml_alloc(width, sizeof *values);
    if (!values)
        return DML_ERROR_MEMORY;
    dml_tensor_floats(token, values);
    for (size_t c = 0; c < width; c++)
        values[c] += row[c];
    free(token->owned);
    token->data = token->owned = values;
    token->dtype = DML_DTYPE_F32;
    return DML_OK;
}

/* The side of a square of `count`, or 0. */
static size_t side_of(size_t count) {
    size_t side = (size_t)lround(sqrt((double)count));
    return side * side == count ? side : 0;
}

/* Replaces the position embeddings by those of the graph's grid. */
static enum dml_status resample(struct translation *t) {
    const struct dml_graph_param *param = find_param(t->graph, "pos_embed");
    struct dml_tensor *stored = find(t->out, "pos_embed");
    size_t width = (size_t)param->dims[2];
    if (!stored || stored->dim_count != 3 || stored->dims[0] != 1 || stored->dims[2] != width)
        return DML_OK; /* what is missing or misshapen is listed with all else */
    size_t rows = stored->dims[1], grid_h = (size_t)t->tokens->grid_h;
    size_t grid_w = (size_t)t->tokens->grid_w;
    size_t prefix = (size_t)param->dims[1] - grid_h * grid_w, skip = 0;
    if (prefix == 0 && rows > 1 && !side_of(rows) && side_of(rows - 1))
        skip = 1;
    size_t side = rows > prefix + skip ? side_of(rows - prefix - skip) : 0;
    if (!side)
        return dml_fail(DML_ERROR_INPUT,
                        "%s: its position embeddings have %zu rows, not %zu for tokens followed "
                        "by a square of patches",
                        t->file, rows, prefix);
    float *values = dml_alloc(stored->count, sizeof *values);
    float *made = dml_alloc(param->count, sizeof *made);
    enum dml_status status = values && made ? DML_OK : DML_ERROR_MEMORY;
    if (!status) {
        dml_tensor_floats(stored, values);
        if (skip)
            status = add_to_class_token(t, values, width);
    }
    if (!status)
        status = dml_positions_resample(t->tokens->positions, prefix, side, width,
                                        values + skip * width, grid_h, grid_w, made);
    if (status) {
        free(made);
    } else {
        free(stored->owned);
        stored->data = stored->owned = made;
        stored->dtype = DML_DTYPE_F32;
        stored->dims[1] = (size_t)param->dims[1];
        stored->count = param->count;
    }
    free(values);
    return status;
}

/* One more than the highest number of a block. */
static long count_blocks(const struct dml_tensors *tensors) {
    long count = 0;
    for (size_t i = 0; i < tensors->count; i++) {
        const char *number = rest_after(tensors->items[i].name, "blocks.");
        long index = number ? strtol(number, NULL, 10) : -1;
        count = index + 1 > count ? index + 1 : count;
    }
    return count;
}

static long graph_blocks(const struct dml_graph *graph) {
    long count = 0;
    char name[64];
    do
        snprintf(name, sizeof name, "blocks.%ld.norm1.weight", count++);
    while (find_param(graph, name));
    return count - 1;
}

/* A bias after CLIP's projection, which has none. timm writes zeros. */
static enum dml_status check_projection(const struct translation *t) {
    const struct dml_tensor *bias = find(t->out, "head.bias");
    if (!bias || !find_param(t->graph, "head.weight"))
        return DML_OK;
    float *values = dml_alloc(bias->count + 1, sizeof *values);
    if (!values)
        return DML_ERROR_MEMORY;
    dml_tensor_floats(bias, values);
    bool zero = true;
    for (size_t i = 0; i < bias->count; i++)
        zero &= values[i] == 0;
    free(values);
    return zero ? DML_OK
                : dml_fail(DML_ERROR_INPUT,
                           "%s: head.bias is not 0: the projection of %s has no bias", t->file,
                           t->graph->arch);
}

static bool any_begins(const struct dml_tensors *tensors, const char *prefix) {
    for (size_t i = 0; i < tensors->count; i++)
        if (rest_after(tensors->items[i].name, prefix))
            return true;
    return false;
}

/* What a file has and the graph does not would be silently left out. */
static enum dml_status check_parts(const struct translation *t) {
    static const char *const parts[] = {"dist_token", "reg_token", "norm_pre.weight",
                                        "blocks.0.ls1.gamma"};
    static const char *const text_towers[] = {"token_embedding.", "text_model.", "text.",
                                              "transformer.resblocks.", "text_projection"};
    bool image = find(t->out, "cls_token") || find(t->out, "patch_embed.proj.weight");
    bool text = false;
    for (size_t i = 0; i < COUNT(text_towers); i++)
        text |= any_begins(t->out, text_towers[i]);
    if (!image && text)
        return dml_fail(DML_ERROR_INPUT,
                        "%s: holds the text tower of CLIP alone; %s is an image tower", t->file,
                        t->graph->arch);
    for (size_t i = 0; i < COUNT(parts); i++)
        if (find(t->out, parts[i]) && !find_param(t->graph, parts[i]))
            return dml_fail(DML_ERROR_INPUT, "%s: has %s, which %s does not: another backbone",
                            t->file, parts[i], t->graph->arch);
    long blocks = count_blocks(t->out), wanted = graph_blocks(t->graph);
    if (blocks > 0 && blocks != wanted)
        return dml_fail(DML_ERROR_INPUT, "%s: has %ld blocks; %s has %ld", t->file, blocks,
                        t->graph->arch, wanted);
    return check_projection(t);
}

static const struct dml_node *tokens_of(const struct dml_graph *graph) {
    for (int i = 0; i < graph->node_count; i++)
        if (graph->nodes[i].op == DML_OP_TOKENS)
            return &graph->nodes[i];
    return NULL;
}

bool dml_vit_is(const struct dml_graph *graph) {
    return tokens_of(graph) != NULL;
}

enum dml_status dml_vit_translate(const struct dml_graph *graph, const struct dml_tensors *tensors,
                                  const char *file, struct dml_tensors *out) {
    struct translation t = {graph, tokens_of(graph), file, out};
    *out = (struct dml_tensors){0};
    bool teacher = any_begins(tensors, "teacher.");
    enum dml_status status = DML_OK;
    for (size_t i = 0; !status && i < tensors->count; i++)
        if (!teacher || !rest_after(tensors->items[i].name, "student."))
            status = add(&t, tensors, &tensors->items[i]);
    if (!status)
        status = check_parts(&t);
    if (!status)
        status = rename_norm(&t);
    if (!status)
        status = resample(&t);
    if (status)
        dml_tensors_free(out);
    return status;
}
