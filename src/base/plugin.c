#include "dml/plugin.h"

#include "base/files.h"
#include "base/memory.h"

#include <ctype.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* The i-th method of a kind; NULL after the last. */
static const struct dml_method *entry(const struct dml_plugin *plugin, enum dml_kind kind,
                                      size_t i) {
    switch (kind) {
    case DML_CRITERION:
        return plugin->criteria && plugin->criteria[i] ? &plugin->criteria[i]->method : NULL;
    case DML_MINER:
        return plugin->miners && plugin->miners[i] ? &plugin->miners[i]->method : NULL;
    case DML_SAMPLER:
        return plugin->samplers && plugin->samplers[i] ? &plugin->samplers[i]->method : NULL;
    case DML_METRIC:
        return plugin->metrics && plugin->metrics[i] ? &plugin->metrics[i]->method : NULL;
    case DML_OPTIMISER:
        return plugin->optimisers && plugin->optimisers[i] ? &plugin->optimisers[i]->method : NULL;
    case DML_SCHEDULE:
        return plugin->schedules && plugin->schedules[i] ? &plugin->schedules[i]->method : NULL;
    case DML_BACKBONE:
        return plugin->backbones && plugin->backbones[i] ? &plugin->backbones[i]->method : NULL;
    case DML_KIND_COUNT:
        break;
    }
    return NULL;
}

/* A metric computes its value in one of four ways. */
static bool has_value(const struct dml_metric *metric) {
    return metric->compute || metric->of_query || metric->compute_at || metric->ratio_at;
}

/* The function that a method of this kind cannot do without, if it is missing; else NULL. */
static const char *missing_function(const struct dml_method *method, enum dml_kind kind) {
    switch (kind) {
    case DML_CRITERION:
        return ((const struct dml_criterion *)method)->forward_backward ? NULL : "forward_backward";
    case DML_MINER:
        return ((const struct dml_miner *)method)->mine ? NULL : "mine";
    case DML_SAMPLER:
        return ((const struct dml_sampler *)method)->plan ? NULL : "plan";
    case DML_METRIC:
        return has_value((const struct dml_metric *)method) ? NULL : "compute";
    case DML_OPTIMISER:
        return ((const struct dml_optimiser *)method)->update ? NULL : "update";
    case DML_SCHEDULE:
        return ((const struct dml_schedule *)method)->rate ? NULL : "rate";
    case DML_BACKBONE:
        return ((const struct dml_backbone *)method)->build ? NULL : "build";
    case DML_KIND_COUNT:
        break;
    }
    return NULL;
}

/* A backbone's name is part of --arch and of folder names. */
static bool is_backbone_name(const char *name) {
    static const char fine[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    return strlen(name) <= 64 && isalnum((unsigned char)*name) && !name[strspn(name, fine)];
}

static enum dml_status check_backbone(const struct dml_backbone *backbone) {
    const char *name = backbone->method.name;
    const struct dml_param_table *table = backbone->method.params;
    if (!is_backbone_name(name))
        return dml_fail(
            DML_ERROR_INPUT,
            "its backbone '%s': a name consists of at most 64 letters, digits, '.', '-' and "
            "'_'",
            name);
    if (backbone->crop < 1)
        return dml_fail(DML_ERROR_INPUT, "its backbone '%s' has a crop of %d pixels", name,
                        backbone->crop);
    for (size_t i = 0; table && i < table->count; i++)
        if (table->params[i].type == DML_PARAM_STRING || table->params[i].type >= DML_PARAM_INTS)
            return dml_fail(DML_ERROR_INPUT,
                            "its backbone '%s': the option '%s' is neither switch, number nor "
                            "choice",
                            name, table->params[i].name);
    const struct dml_backbone *other;
    for (size_t i = 0; (other = (const struct dml_backbone *)dml_method_at(DML_BACKBONE, i)); i++)
        for (const char *const *alias = other->aliases; alias && *alias; alias++)
            if (strcmp(*alias, name) == 0)
                return dml_fail(DML_ERROR_INPUT, "there is already a backbone called '%s'", name);
    return DML_OK;
}

static enum dml_status check_method(const struct dml_plugin *plugin, enum dml_kind kind, size_t i) {
    const struct dml_method *method = entry(plugin, kind, i);
    const char *kind_name = dml_kind_name(kind);
    if (!method->name || !*method->name)
        return dml_fail(DML_ERROR_INPUT, "its %s %zu has no name", kind_name, i + 1);
    const char *missing = missing_function(method, kind);
    if (missing)
        return dml_fail(DML_ERROR_INPUT, "its %s '%s' has no function '%s'", kind_name,
                        method->name, missing);
    if (kind == DML_OPTIMISER &&
        ((const struct dml_optimiser *)method)->states > DML_OPTIMISER_STATES)
        return dml_fail(DML_ERROR_INPUT, "its optimiser '%s' keeps %zu states, more than %d",
                        method->name, ((const struct dml_optimiser *)method)->states,
                        DML_OPTIMISER_STATES);
    if (kind == DML_BACKBONE) {
        enum dml_status status = check_backbone((const struct dml_backbone *)method);
        if (status)
            return status;
    }
    bool taken = dml_method_find(kind, method->name) != NULL;
    for (size_t before = 0; before < i; before++)
        taken |= strcmp(entry(plugin, kind, before)->name, method->name) == 0;
    if (taken)
        return dml_fail(DML_ERROR_INPUT, "there is already a %s called '%s'", kind_name,
                        method->name);
    return DML_OK;
}

/* One plugin is loaded at a time: its names stay free between check and registration. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Whether it was built with this program's structs. */
static enum dml_status check_built(const struct dml_plugin *plugin) {
    static const unsigned sizes[] = DML_PLUGIN_SIZES;
    static const char *const names[] = {"plugin",   "method",  "param",  "param_table", "criterion",
                                        "miner",    "sampler", "metric", "optimiser",   "schedule",
                                        "backbone", "batch",   "tuples"};
    _Static_assert(sizeof sizes / sizeof *sizes == DML_PLUGIN_STRUCTS &&
                       sizeof names / sizeof *names == DML_PLUGIN_STRUCTS,
                   "each struct has a size and a name");
    if (plugin->interface != DML_PLUGIN_INTERFACE)
        return dml_fail(DML_ERROR_INPUT,
                        "was built for plugin interface %u, this program has %u: build it again "
                        "with this program's headers",
                        plugin->interface, (unsigned)DML_PLUGIN_INTERFACE);
    for (int i = 0; i < DML_PLUGIN_STRUCTS; i++)
        if (plugin->sizes[i] != sizes[i])
            return dml_fail(DML_ERROR_INPUT,
                            "its struct dml_%s has %u bytes, this program's %u: begin dml_plugin "
                            "with DML_PLUGIN_BUILT and build it again with this program's headers",
                            names[i], plugin->sizes[i], sizes[i]);
    return DML_OK;
}

/* All are checked before the first is registered, so that a plugin is registered whole or not at
 * all. */
static enum dml_status register_all(const struct dml_plugin *plugin) {
    size_t count = 0;
    for (enum dml_kind kind = 0; kind < DML_KIND_COUNT; kind++)
        for (size_t i = 0; entry(plugin, kind, i); i++, count++) {
            enum dml_status status = check_method(plugin, kind, i);
            if (status)
                return status;
        }
    if (count == 0)
        return dml_fail(DML_ERROR_INPUT, "holds no method");
    for (enum dml_kind kind = 0; kind < DML_KIND_COUNT; kind++)
        for (size_t i = 0; entry(plugin, kind, i); i++) {
            enum dml_status status = dml_method_register(kind, entry(plugin, kind, i));
            if (status)
                return status;
        }
    return DML_OK;
}

/* What the loader said, without the path that it puts first. */
static const char *loader_error(const char *path) {
    const char *said = dlerror();
    size_t length = strlen(path);
    if (!said)
        return "cannot be loaded";
    return strncmp(said, path, length) == 0 && strncmp(said + length, ": ", 2) == 0
               ? said + length + 2
               : said;
}

/* A name without a slash would be looked for where the system keeps its libraries. */
static char *locate(const char *path) {
    return strchr(path, '/') ? dml_strdup(path) : dml_format("./%s", path);
}

enum dml_status dml_plugin_load(const char *path) {
    if (!dml_path_exists(path))
        return dml_fail(DML_ERROR_INPUT, "%s: there is no such file", path);
    if (dml_is_folder(path))
        return dml_fail(DML_ERROR_INPUT, "%s: is a folder, not a shared object", path);
    char *located = locate(path);
    if (!located)
        return DML_ERROR_MEMORY;
    enum dml_status status;
    pthread_mutex_lock(&lock);
    void *object = dlopen(located, RTLD_NOW | RTLD_LOCAL);
    const struct dml_plugin *plugin = object ? dlsym(object, "dml_plugin") : NULL;
    if (!object)
        status = dml_fail(DML_ERROR_INPUT, "%s: is not a plugin: %s", path, loader_error(located));
    else if (!plugin)
        status =
            dml_fail(DML_ERROR_INPUT, "%s: is not a plugin: it has no symbol 'dml_plugin'", path);
    else if ((status = check_built(plugin)) || (status = register_all(plugin)))
        status = dml_fail_within(status, "%s", path);
    free(located);
    /* A plugin that was only partly registered, for lack of memory, is in use too. */
    if (status && status != DML_ERROR_MEMORY && object)
        dlclose(object);
    pthread_mutex_unlock(&lock);
    return status;
}

static enum dml_status load_once(const char *path) {
    char *located = locate(path);
    if (!located)
        return DML_ERROR_MEMORY;
    void *object = dlopen(located, RTLD_NOW | RTLD_NOLOAD); /* NULL: it is not there yet */
    free(located);
    if (!object)
        return dml_plugin_load(path);
    dlclose(object);
    return DML_OK;
}

enum dml_status dml_plugin_load_flags(int argc, char *const *argv) {
    static const char flag[] = "--plugin", with_value[] = "--plugin=";
    enum dml_status status = DML_OK;
    for (int i = 0; !status && i < argc; i++) {
        if (strncmp(argv[i], with_value, strlen(with_value)) == 0)
            status = load_once(argv[i] + strlen(with_value));
        if (strcmp(argv[i], flag) != 0)
            continue;
        while (!status && i + 1 < argc && strncmp(argv[i + 1], "--", 2) != 0)
            status = load_once(argv[++i]);
    }
    return status;
}
