#include "nn/architectures/architectures.h"

#include "base/suggest.h"
#include "nn/architectures/vit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct dml_architecture *const architectures[] = {
    &dml_resnet18,
    &dml_resnet50,
    &dml_googlenet,
    &dml_bninception,
};

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

static enum dml_status unknown(const char *arch) {
    char name[64], known[512] = "";
    bool timm = strncmp(arch, "vit_", 4) == 0 || strncmp(arch, "deit_", 5) == 0;
    snprintf(name, sizeof name, "%.*s", timm ? 63 : (int)strcspn(arch, "_"), arch);
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

/* "droppath0.1": the number behind an option's name; false: it is another option. */
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

/* Sets what an option stands for. */
static void apply(const char *option, struct dml_architecture_options *o) {
    if (!strcmp(option, "frozen"))
        o->frozen = true;
    else if (!strcmp(option, "normalize"))
        o->normalize = true;
    else if (!strcmp(option, "double"))
        o->pool_double = true;
    else if (!strcmp(option, "he"))
        o->he_head = true;
    else if (!strcmp(option, "layernorm"))
        o->head_norm = DML_HEAD_NORM_AFFINE;
    else if (!strcmp(option, "plainnorm"))
        o->head_norm = DML_HEAD_NORM_PLAIN;
    else if (!strcmp(option, "avg"))
        o->token_pool = DML_POOL_AVG;
    else if (!strcmp(option, "clsavg"))
        o->token_pool = DML_POOL_CLS_AVG;
    else if (!strcmp(option, "dinorule"))
        o->positions = DML_POSITIONS_DINO;
    else if (!strcmp(option, "plainrule"))
        o->positions = DML_POSITIONS_PLAIN;
    else if (!strcmp(option, "noprojection"))
        o->no_projection = true;
}

/* Switches one option of --arch on, if the architecture has it. */
static enum dml_status set_option(const struct dml_architecture *architecture, const char *arch,
                                  const char *option, struct dml_architecture_options *o) {
    char known[256] = "";
    for (const char *const *own = architecture->options; *own; own++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s_%s", used ? ", " : "", *own);
        bool drop_path = strncmp(*own, "droppath", 8) == 0 && read_drop_path(option, &o->drop_path);
        if (!drop_path && strcmp(*own, option))
            continue;
        apply(option, o);
        return DML_OK;
    }
    return dml_fail(DML_ERROR_USAGE, "--arch %s: %s has no option '_%s' (%s)", arch,
                    architecture->name, option, known);
}

static enum dml_status parse_options(const struct dml_architecture *architecture, const char *arch,
                                     size_t name_length, struct dml_architecture_options *o) {
    const char *rest = arch + name_length;
    while (*rest) {
        char option[64];
        size_t length = strcspn(++rest, "_");
        snprintf(option, sizeof option, "%.*s", (int)length, rest);
        rest += length;
        enum dml_status status = set_option(architecture, arch, option, o);
        if (status != DML_OK)
            return status;
    }
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
