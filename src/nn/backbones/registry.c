#include "base/builtin.h"
#include "base/memory.h"
#include "base/suggest.h"
#include "nn/backbones/options.h"
#include "nn/graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Each family of backbones has its file; transformers are rows of vit_table.c. */
extern const struct dml_backbone dml_backbone_resnet18, dml_backbone_resnet34,
    dml_backbone_resnet50, dml_backbone_resnet101, dml_backbone_resnet152,
    dml_backbone_wide_resnet50_2, dml_backbone_wide_resnet101_2, dml_backbone_resnext50_32x4d,
    dml_backbone_resnext101_32x8d, dml_backbone_googlenet, dml_backbone_bninception,
    dml_backbone_vitt16, dml_backbone_vits16, dml_backbone_vitb16, dml_backbone_deits16,
    dml_backbone_dinos16, dml_backbone_dinob16, dml_backbone_dinov2s14, dml_backbone_dinov2b14,
    dml_backbone_dinov2s14_reg, dml_backbone_dinov2b14_reg, dml_backbone_clipb16;

const struct dml_method *const dml_builtin_backbones[] = {
    &dml_backbone_resnet18.method,
    &dml_backbone_resnet34.method,
    &dml_backbone_resnet50.method,
    &dml_backbone_resnet101.method,
    &dml_backbone_resnet152.method,
    &dml_backbone_wide_resnet50_2.method,
    &dml_backbone_wide_resnet101_2.method,
    &dml_backbone_resnext50_32x4d.method,
    &dml_backbone_resnext101_32x8d.method,
    &dml_backbone_googlenet.method,
    &dml_backbone_bninception.method,
    &dml_backbone_vitt16.method,
    &dml_backbone_vits16.method,
    &dml_backbone_vitb16.method,
    &dml_backbone_deits16.method,
    &dml_backbone_dinos16.method,
    &dml_backbone_dinob16.method,
    &dml_backbone_dinov2s14.method,
    &dml_backbone_dinov2b14.method,
    &dml_backbone_dinov2s14_reg.method,
    &dml_backbone_dinov2b14_reg.method,
    &dml_backbone_clipb16.method,
    NULL,
};

const struct dml_backbone *dml_backbone_at(size_t i) {
    return (const struct dml_backbone *)dml_method_at(DML_BACKBONE, i);
}

/* Bytes of `name` where it begins `arch` and an option or nothing follows, or 0. */
static size_t begins(const char *arch, const char *name) {
    size_t length = strlen(name);
    bool whole = strncmp(arch, name, length) == 0 && (!arch[length] || arch[length] == '_');
    return whole ? length : 0;
}

/* The backbone with the longest name or alias that begins `arch`; *length: of that name. */
static const struct dml_backbone *find(const char *arch, size_t *length) {
    const struct dml_backbone *found = NULL, *other;
    *length = 0;
    for (size_t i = 0; (other = dml_backbone_at(i)); i++) {
        size_t most = begins(arch, other->method.name);
        for (const char *const *alias = other->aliases; alias && *alias; alias++) {
            size_t more = begins(arch, *alias);
            most = more > most ? more : most;
        }
        if (most > *length) {
            *length = most;
            found = other;
        }
    }
    return found;
}

const struct dml_backbone *dml_backbone_find(const char *arch) {
    size_t length;
    return find(arch, &length);
}

/* Length of an unknown name: up to the first option of convolutional backbones. */
static size_t name_length(const char *arch) {
    for (const char *at = arch; (at = strchr(at, '_')); at++)
        if (dml_backbone_has_option(&dml_convolutional_params, at + 1, strcspn(at + 1, "_")))
            return (size_t)(at - arch);
    return strlen(arch);
}

static enum dml_status unknown(const char *arch) {
    char name[64], known[600] = "";
    snprintf(name, sizeof name, "%.*s", (int)name_length(arch), arch);
    struct dml_suggestion near = dml_suggestion_start(name);
    const struct dml_backbone *other;
    for (size_t i = 0; (other = dml_backbone_at(i)); i++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", other->method.name);
        dml_suggestion_offer(&near, other->method.name);
        for (const char *const *a = other->aliases; a && *a; a++)
            dml_suggestion_offer(&near, *a);
    }
    if (near.best)
        return dml_fail(DML_ERROR_USAGE,
                        "--arch %s: there is no backbone '%s'; did you mean '%s'? (%s)", arch, name,
                        near.best, known);
    return dml_fail(DML_ERROR_USAGE, "--arch %s: there is no backbone '%s' (%s)", arch, name,
                    known);
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(const struct dml_graph_param *const *)a)->name,
                  (*(const struct dml_graph_param *const *)b)->name);
}

/* Refuses two parameters with the same name, which a checkpoint could not hold. */
static enum dml_status check_names(const struct dml_graph *graph) {
    size_t count = (size_t)graph->param_count;
    const struct dml_graph_param **sorted = dml_alloc(count + 1, sizeof *sorted);
    if (!sorted)
        return DML_ERROR_MEMORY;
    for (size_t i = 0; i < count; i++)
        sorted[i] = &graph->params[i];
    qsort(sorted, count, sizeof *sorted, by_name);
    enum dml_status status = DML_OK;
    for (size_t i = 1; i < count && !status; i++)
        if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0)
            status = dml_fail(DML_ERROR_USAGE, "network graph: two parameters are called %s",
                              sorted[i]->name);
    free(sorted);
    return status;
}

/* Refuses nodes that the embedding does not depend on. */
static enum dml_status check_use(const struct dml_graph *graph) {
    bool *used = dml_alloc((size_t)graph->node_count, sizeof *used);
    if (!used)
        return DML_ERROR_MEMORY;
    used[graph->output] = true;
    enum dml_status status = DML_OK;
    for (int i = graph->node_count - 1; i >= 0 && !status; i--) {
        const struct dml_node *node = &graph->nodes[i];
        if (!used[i])
            status = dml_fail(DML_ERROR_USAGE,
                              "network graph: node %d%s%s: the embedding does not depend on it", i,
                              *node->name ? " " : "", node->name);
        for (int k = 0; k < node->input_count; k++)
            used[node->inputs[k]] = true;
    }
    free(used);
    return status;
}

/* What a builder has to satisfy: see dml_backbone.build. */
static enum dml_status check(const struct dml_graph *graph, const struct dml_backbone_context *c) {
    const struct dml_node *first = &graph->nodes[0];
    if (first->op != DML_OP_INPUT || first->channels != 3 || first->height != c->image_size ||
        first->width != c->image_size)
        return dml_fail(DML_ERROR_USAGE,
                        "network graph: it does not begin with images of 3 x %d x %d",
                        c->image_size, c->image_size);
    for (int i = 1; i < graph->node_count; i++)
        if (graph->nodes[i].op == DML_OP_INPUT)
            return dml_fail(DML_ERROR_USAGE, "network graph: node %d: a second input", i);
    if (graph->layers == 0)
        return dml_fail(DML_ERROR_USAGE, "network graph: it has no head");
    if (c->embed_dim && graph->embed_dim != c->embed_dim)
        return dml_fail(DML_ERROR_USAGE,
                        "network graph: its embeddings have %d dimensions, not --embed_dim %d",
                        graph->embed_dim, c->embed_dim);
    enum dml_status status = check_use(graph);
    return status ? status : check_names(graph);
}

static enum dml_status build(const char *arch, const struct dml_backbone_context *c,
                             const char *options, struct dml_graph *graph) {
    struct dml_params *params = NULL;
    enum dml_status status = dml_backbone_read_options(
        c->backbone->method.name, c->backbone->method.params, options, &params);
    if (status)
        return dml_fail_within(status, "--arch %s", arch);
    const void *read = params ? dml_params_options(params, c->backbone->method.params) : NULL;
    status = dml_graph_finish(graph, c->backbone->build(graph, c, read));
    if (!status)
        status = check(graph, c);
    dml_params_free(params);
    return status ? dml_fail_within(status, "--arch %s at %d pixels", arch, c->image_size) : DML_OK;
}

enum dml_status dml_graph_build(const char *arch, int embed_dim, int image_size,
                                struct dml_graph **out) {
    *out = NULL;
    size_t length;
    const struct dml_backbone *backbone = find(arch, &length);
    if (!backbone)
        return unknown(arch);
    const struct dml_backbone_context c = {.backbone = backbone,
                                           .image_size = image_size ? image_size : backbone->crop,
                                           .embed_dim = embed_dim};
    struct dml_graph *graph = dml_graph_new();
    if (!graph)
        return DML_ERROR_MEMORY;
    snprintf(graph->arch, sizeof graph->arch, "%s", arch);
    enum dml_status status = build(arch, &c, arch + length, graph);
    if (status) {
        dml_graph_free(graph);
        return status;
    }
    *out = graph;
    return DML_OK;
}
