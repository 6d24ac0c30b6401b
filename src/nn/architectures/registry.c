#include "nn/architectures/architectures.h"

#include "base/suggest.h"
#include "nn/architectures/vit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Each family of backbones has its file; transformers are rows of vit_table.c. */
extern const struct dml_architecture dml_resnet18, dml_resnet34, dml_resnet50, dml_resnet101,
    dml_resnet152, dml_wide_resnet50_2, dml_wide_resnet101_2, dml_resnext50_32x4d,
    dml_resnext101_32x8d, dml_googlenet, dml_bninception;

static const struct dml_architecture *const architectures[] = {
    &dml_resnet18,         &dml_resnet34,        &dml_resnet50,         &dml_resnet101,
    &dml_resnet152,        &dml_wide_resnet50_2, &dml_wide_resnet101_2, &dml_resnext50_32x4d,
    &dml_resnext101_32x8d, &dml_googlenet,       &dml_bninception,
};

const char *const dml_convolutional_options[] = {
    "frozen",    "affine",    "normalize", "avg", "max",        "double", "gem",
    "layernorm", "plainnorm", "mlp",       "he",  "orthogonal", NULL};

const struct dml_architecture *dml_architecture_at(size_t i) {
    const size_t count = sizeof architectures / sizeof *architectures;
    return i < count ? architectures[i] : dml_vit_at(i - count);
}

/* Bytes of `name` where it begins `arch` and an option or nothing follows, or 0. */
static size_t begins(const char *arch, const char *name) {
    size_t length = strlen(name);
    bool whole = strncmp(arch, name, length) == 0 && (!arch[length] || arch[length] == '_');
    return whole ? length : 0;
}

/* The architecture with the longest name or alias that begins `arch`; *length: of that name. */
static const struct dml_architecture *find(const char *arch, size_t *length) {
    const struct dml_architecture *found = NULL, *other;
    *length = 0;
    for (size_t i = 0; (other = dml_architecture_at(i)); i++) {
        size_t most = begins(arch, other->name);
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

const struct dml_architecture *dml_architecture_find(const char *arch) {
    size_t length;
    return find(arch, &length);
}

/* Characters of an unknown name: up to the first option of convolutional backbones. */
static size_t name_length(const char *arch) {
    for (const char *at = arch; (at = strchr(at, '_')); at++)
        for (const char *const *option = dml_convolutional_options; *option; option++) {
            size_t length = strlen(*option);
            if (!strncmp(at + 1, *option, length) && (!at[1 + length] || at[1 + length] == '_'))
                return (size_t)(at - arch);
        }
    return strlen(arch);
}

static enum dml_status unknown(const char *arch) {
    char name[64], known[512] = "";
    snprintf(name, sizeof name, "%.*s", (int)name_length(arch), arch);
    struct dml_suggestion near = dml_suggestion_start(name);
    for (size_t i = 0; dml_architecture_at(i); i++) {
        const char *other = dml_architecture_at(i)->name;
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", other);
        dml_suggestion_offer(&near, other);
        for (const char *const *a = dml_architecture_at(i)->aliases; a && *a; a++)
            dml_suggestion_offer(&near, *a);
    }
    if (near.best)
        return dml_fail(DML_ERROR_USAGE,
                        "--arch %s: there is no architecture '%s'; did you mean "
                        "'%s'? (%s)",
                        arch, name, near.best, known);
    return dml_fail(DML_ERROR_USAGE, "--arch %s: there is no architecture '%s' (%s)", arch, name,
                    known);
}

/* "droppath0.1": the number after an option's name; false: it is another option. */
static bool read_drop_path(const char *option, float *rate) {
    static const char name[] = "droppath";
    const size_t length = sizeof name - 1;
    if (strncmp(option, name, length) != 0)
        return false;
    char *end;
    double value = strtod(option + length, &end);
    if (end == option + length || *end || !(value >= 0 && value < 1))
        return false;
    *rate = (float)value;
    return true;
}

/* "mlp", or "mlp512" with the width of the hidden layer. */
static bool read_hidden(const char *option, int *width) {
    static const char name[] = "mlp";
    const size_t length = sizeof name - 1;
    if (strncmp(option, name, length) != 0)
        return false;
    *width = DML_HIDDEN_AS_FEATURE;
    if (!option[length])
        return true;
    char *end;
    long value = strtol(option + length, &end, 10);
    if (option[length] < '1' || option[length] > '9' || *end || value > 65536)
        return false;
    *width = (int)value;
    return true;
}

static const char *const poolings[] = {[DML_POOL_AVG] = "avg",
                                       [DML_POOL_MAX] = "max",
                                       [DML_POOL_DOUBLE] = "double",
                                       [DML_POOL_GEM] = "gem"};
enum { POOLINGS = sizeof poolings / sizeof *poolings };

/* An architecture's options as they are read. */
struct reading {
    struct dml_architecture_options *o;
    bool pool_chosen;
};

static enum dml_status choose_pool(const char *arch, enum dml_pooling pool,
                                   struct reading *reading) {
    if (reading->pool_chosen && reading->o->pool != pool)
        return dml_fail(DML_ERROR_USAGE, "--arch %s: two poolings, _%s and _%s (--pool adds one)",
                        arch, poolings[reading->o->pool], poolings[pool]);
    reading->o->pool = pool;
    reading->pool_chosen = true;
    return DML_OK;
}

static enum dml_status choose_start(const char *arch, enum dml_head_start start,
                                    struct dml_architecture_options *o) {
    if (o->head_start && o->head_start != start)
        return dml_fail(DML_ERROR_USAGE,
                        "--arch %s: the head starts in one way, _he or _orthogonal "
                        "(--head_start adds one)",
                        arch);
    o->head_start = start;
    return DML_OK;
}

static enum dml_status choose_norm(const char *arch, enum dml_head_norm norm,
                                   struct dml_architecture_options *o) {
    if (o->head_norm && o->head_norm != norm)
        return dml_fail(DML_ERROR_USAGE,
                        "--arch %s: the head has one norm, _layernorm or _plainnorm "
                        "(--head_norm adds one)",
                        arch);
    o->head_norm = norm;
    return DML_OK;
}

static enum dml_status choose_hidden(const char *arch, int width,
                                     struct dml_architecture_options *o) {
    if (o->hidden && o->hidden != width)
        return dml_fail(DML_ERROR_USAGE,
                        "--arch %s: the head has one hidden layer, whose width is given once "
                        "(--head_hidden adds _mlp)",
                        arch);
    o->hidden = width;
    return DML_OK;
}

/* Sets what an option that the architecture has asks for. */
static enum dml_status apply(const char *arch, const char *option, struct reading *reading) {
    if (!strcmp(option, "avg")) /* of a transformer's tokens */
        reading->o->token_pool = DML_TOKENS_AVG;
    for (int i = 0; i < POOLINGS; i++)
        if (!strcmp(option, poolings[i]))
            return choose_pool(arch, (enum dml_pooling)i, reading);
    if (!strcmp(option, "frozen"))
        reading->o->frozen = true;
    else if (!strcmp(option, "affine"))
        reading->o->affine_frozen = true;
    else if (!strcmp(option, "normalize"))
        reading->o->normalize = true;
    else if (!strcmp(option, "he"))
        return choose_start(arch, DML_HEAD_HE, reading->o);
    else if (!strcmp(option, "orthogonal"))
        return choose_start(arch, DML_HEAD_ORTHOGONAL, reading->o);
    else if (!strcmp(option, "layernorm"))
        return choose_norm(arch, DML_HEAD_NORM_AFFINE, reading->o);
    else if (!strcmp(option, "plainnorm"))
        return choose_norm(arch, DML_HEAD_NORM_PLAIN, reading->o);
    else if (!strcmp(option, "clsavg"))
        reading->o->token_pool = DML_TOKENS_CLS_AVG;
    else if (!strcmp(option, "dinorule"))
        reading->o->positions = DML_POSITIONS_DINO;
    else if (!strcmp(option, "plainrule"))
        reading->o->positions = DML_POSITIONS_PLAIN;
    else if (!strcmp(option, "noprojection"))
        reading->o->no_projection = true;
    return DML_OK;
}

/* Switches one option of --arch on, if the architecture has it. */
static enum dml_status set_option(const struct dml_architecture *architecture, const char *arch,
                                  const char *option, struct reading *reading) {
    char known[256] = "";
    for (const char *const *own = architecture->options; *own; own++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s_%s", used ? ", " : "", *own);
        bool drop_path =
            strncmp(*own, "droppath", 8) == 0 && read_drop_path(option, &reading->o->drop_path);
        int width;
        if (!strcmp(*own, "mlp") && read_hidden(option, &width))
            return choose_hidden(arch, width, reading->o);
        if (!drop_path && strcmp(*own, option))
            continue;
        return drop_path ? DML_OK : apply(arch, option, reading);
    }
    return dml_fail(DML_ERROR_USAGE, "--arch %s: %s has no option '_%s' (%s)", arch,
                    architecture->name, option, known);
}

static enum dml_status parse_options(const struct dml_architecture *architecture, const char *arch,
                                     size_t name_length, struct dml_architecture_options *o) {
    const char *rest = arch + name_length;
    struct reading reading = {o, false};
    while (*rest) {
        char option[64];
        size_t length = strcspn(++rest, "_");
        snprintf(option, sizeof option, "%.*s", (int)length, rest);
        rest += length;
        enum dml_status status = set_option(architecture, arch, option, &reading);
        if (status != DML_OK)
            return status;
    }
    if (o->affine_frozen && !o->frozen)
        return dml_fail(DML_ERROR_USAGE,
                        "--arch %s: _affine freezes weights and biases of frozen batch norms too: "
                        "_frozen_affine",
                        arch);
    return DML_OK;
}

enum dml_status dml_graph_build(const char *arch, int embed_dim, int image_size,
                                struct dml_graph **out) {
    *out = NULL;
    size_t length;
    const struct dml_architecture *architecture = find(arch, &length);
    if (!architecture)
        return unknown(arch);
    struct dml_architecture_options o = {.architecture = architecture,
                                         .embed_dim = embed_dim,
                                         .image_size =
                                             image_size ? image_size : architecture->crop};
    enum dml_status status = parse_options(architecture, arch, length, &o);
    if (status != DML_OK)
        return status;
    struct dml_graph *graph = dml_graph_new();
    if (!graph)
        return DML_ERROR_MEMORY;
    snprintf(graph->arch, sizeof graph->arch, "%s", arch);
    status = dml_graph_finish(graph, architecture->build(graph, &o));
    if (status != DML_OK) {
        dml_graph_free(graph);
        return dml_fail_within(status, "--arch %s at %d pixels", arch, o.image_size);
    }
    *out = graph;
    return DML_OK;
}
