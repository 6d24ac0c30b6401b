#include "base/memory.h"
#include "nn/weights/weights.h"

#include <stdlib.h>
#include <string.h>

/* What a backbone's files are called. */
struct names {
    char safetensors[128], published[128], timm[128]; /* timm: empty where it has none */
};

static struct names names_of(const struct dml_backbone *backbone) {
    struct names names;
    const char *dot = strrchr(backbone->weights_file, '.');
    const char *from = backbone->weights_from ? backbone->weights_from : "";
    const char *slash = strrchr(from, '/');
    size_t stem = dot ? (size_t)(dot - backbone->weights_file) : strlen(backbone->weights_file);
    snprintf(names.safetensors, sizeof names.safetensors, "%.*s.safetensors", (int)stem,
             backbone->weights_file);
    snprintf(names.published, sizeof names.published, "%s", slash ? slash + 1 : from);
    names.timm[0] = 0;
    if (backbone->timm)
        snprintf(names.timm, sizeof names.timm, "%s.safetensors", backbone->timm);
    return names;
}

/* The first of the names that exists in the folder, or NULL; `*status` fails without memory. */
static char *look_in(const char *folder, const struct dml_backbone *backbone,
                     const struct names *names, enum dml_status *status) {
    const char *const tried[] = {backbone->weights_file, names->safetensors, names->published,
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

enum dml_status dml_weights_find(const struct dml_backbone *backbone, const char *flag,
                                 char **path) {
    enum dml_status status = DML_OK;
    *path = NULL;
    if (flag && *flag) {
        if (!dml_path_exists(flag))
            return dml_fail(DML_ERROR_INPUT, "%s: no such file (--weights)", flag);
        *path = dml_strdup(flag);
        return *path ? DML_OK : DML_ERROR_MEMORY;
    }
    if (!backbone->weights_file)
        return dml_fail(
            DML_ERROR_INPUT,
            "no weights of %s are published; --weights FILE names a file; --not_pretrained "
            "starts training without any",
            backbone->method.name);
    struct names names = names_of(backbone);
    const char *chosen = getenv("DML_WEIGHTS");
    char *cache = cache_folder();
    if (!cache)
        return DML_ERROR_MEMORY;
    if (chosen && *chosen)
        *path = look_in(chosen, backbone, &names, &status);
    if (!*path && !status)
        *path = look_in(cache, backbone, &names, &status);
    if (!*path && !status)
        status = dml_fail(DML_ERROR_INPUT,
                          "no ImageNet weights for %s: expected %s (or %s, or %s%s%s) in %s or %s; "
                          "published at %s; "
                          "--weights FILE names another file; --not_pretrained starts training "
                          "without any",
                          backbone->method.name, backbone->weights_file, names.safetensors,
                          names.published, *names.timm ? ", or " : "", names.timm,
                          chosen && *chosen ? chosen : "$DML_WEIGHTS (not set)", cache,
                          backbone->weights_from ? backbone->weights_from : "no address");
    free(cache);
    return status;
}
