#include "base/memory.h"
#include "nn/weights/weights.h"

#include <stdlib.h>
#include <string.h>

/* What files of an architecture are called. */
struct names {
    char safetensors[128], published[128], timm[128]; /* timm: empty where it has none */
};

static struct names names_of(const struct dml_architecture *architecture) {
    struct names names;
    const char *dot = strrchr(architecture->weights_file, '.');
    const char *slash = strrchr(architecture->weights_from, '/');
    size_t stem =
        dot ? (size_t)(dot - architecture->weights_file) : strlen(architecture->weights_file);
    snprintf(names.safetensors, sizeof names.safetensors, "%.*s.safetensors", (int)stem,
             architecture->weights_file);
    snprintf(names.published, sizeof names.published, "%s",
             slash ? slash + 1 : architecture->weights_from);
    names.timm[0] = 0;
    if (architecture->timm)
        snprintf(names.timm, sizeof names.timm, "%s.safetensors", architecture->timm);
    return names;
}

/* The first of the names that exists in the folder, or NULL; `*status` fails without memory. */
static char *look_in(const char *folder, const struct dml_architecture *architecture,
                     const struct names *names, enum dml_status *status) {
    const char *const tried[] = {architecture->weights_file, names->safetensors, names->published,
                                 names->timm};
    for (size_t i = 0; i < sizeof tried / sizeof tried[0]; i++) {
        if (!*tried[i])
            continue;
        char *path = dml_path_join(folder, tried[i]);
        if (!path)
            *status = DML_ERROR_MEMORY;
        if (!path || dml_path_exists(path))
            return path;
        free(path);
    }
    return NULL;
}

static char *cache_folder(void) {
    const char *home = getenv("HOME");
    return dml_path_join(home && *home ? home : ".", ".cache/dml");
}

enum dml_status dml_weights_find(const struct dml_architecture *architecture, const char *flag,
                                 char **path) {
    enum dml_status status = DML_OK;
    *path = NULL;
    if (flag && *flag) {
        if (!dml_path_exists(flag))
            return dml_fail(DML_ERROR_INPUT, "%s: no such file (--weights)", flag);
        *path = dml_strdup(flag);
        return *path ? DML_OK : DML_ERROR_MEMORY;
    }
    struct names names = names_of(architecture);
    const char *chosen = getenv("DML_WEIGHTS");
    char *cache = cache_folder();
    if (!cache)
        return DML_ERROR_MEMORY;
    if (chosen && *chosen)
        *path = look_in(chosen, architecture, &names, &status);
    if (!*path && !status)
        *path = look_in(cache, architecture, &names, &status);
    if (!*path && !status)
        status = dml_fail(
            DML_ERROR_INPUT,
            "no ImageNet weights for %s: expected %s (or %s, or %s%s%s) in %s or %s; "
            "published at %s; "
            "--weights FILE names another file; training starts without any by --not_pretrained",
            architecture->name, architecture->weights_file, names.safetensors, names.published,
            *names.timm ? ", or " : "", names.timm,
            chosen && *chosen ? chosen : "$DML_WEIGHTS (not set)", cache,
            architecture->weights_from);
    free(cache);
    return status;
}
