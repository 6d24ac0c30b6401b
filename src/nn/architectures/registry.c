#include "nn/architectures/architectures.h"

#include "base/suggest.h"

#include <stdio.h>
#include <string.h>

static const struct dml_architecture *const architectures[] = {
    &dml_resnet18,
    &dml_resnet50,
    &dml_googlenet,
    &dml_bninception,
};

const struct dml_architecture *dml_architecture_at(size_t i) {
    return i < sizeof architectures / sizeof *architectures ? architectures[i] : NULL;
}

/* "resnet50_frozen": the name ends at the first underscore. */
const struct dml_architecture *dml_architecture_find(const char *arch) {
    size_t length = strcspn(arch, "_");
    for (size_t i = 0; dml_architecture_at(i); i++) {
        const char *name = dml_architecture_at(i)->name;
        if (strlen(name) == length && !memcmp(name, arch, length))
            return dml_architecture_at(i);
    }
    return NULL;
}

static enum dml_status unknown(const char *arch) {
    char name[64], known[256] = "";
    snprintf(name, sizeof name, "%.*s", (int)strcspn(arch, "_"), arch);
    struct dml_suggestion near = dml_suggestion_start(name);
    for (size_t i = 0; dml_architecture_at(i); i++) {
        const char *other = dml_architecture_at(i)->name;
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", other);
        dml_suggestion_offer(&near, other);
    }
    if (near.best)
        return dml_fail(DML_ERROR_USAGE,
                        "--arch %s: there is no architecture '%s'; did you mean "
                        "'%s'? (%s)",
                        arch, name, near.best, known);
    return dml_fail(DML_ERROR_USAGE, "--arch %s: there is no architecture '%s' (%s)", arch, name,
                    known);
}

/* Switches one option of --arch on, if the architecture has it. */
static enum dml_status set_option(const struct dml_architecture *architecture, const char *arch,
                                  const char *option, struct dml_architecture_options *o) {
    char known[256] = "";
    for (const char *const *own = architecture->options; *own; own++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s_%s", used ? ", " : "", *own);
        if (strcmp(*own, option))
            continue;
        if (!strcmp(option, "frozen"))
            o->frozen = true;
        else if (!strcmp(option, "normalize"))
            o->normalize = true;
        else if (!strcmp(option, "double"))
            o->pool_double = true;
        else if (!strcmp(option, "he"))
            o->he_head = true;
        return DML_OK;
    }
    return dml_fail(DML_ERROR_USAGE, "--arch %s: %s has no option '_%s' (%s)", arch,
                    architecture->name, option, known);
}

static enum dml_status parse_options(const struct dml_architecture *architecture, const char *arch,
                                     struct dml_architecture_options *o) {
    const char *rest = arch + strlen(architecture->name);
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
    const struct dml_architecture *architecture = dml_architecture_find(arch);
    if (!architecture)
        return unknown(arch);
    struct dml_architecture_options o = {
        .embed_dim = embed_dim, .image_size = image_size ? image_size : architecture->crop};
    enum dml_status status = parse_options(architecture, arch, &o);
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
