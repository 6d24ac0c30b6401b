#include "dml/plugin.h"

#include "base/files.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

/* dlopen without a slash would search the library path instead of this folder. */
static void *open_object(const char *path) {
    char *local = strchr(path, '/') ? NULL : dml_path_join(".", path);
    void *object = dlopen(local ? local : path, RTLD_NOW | RTLD_LOCAL);
    free(local);
    return object;
}

static enum dml_status register_list(enum dml_kind kind, const void *list, const char *path) {
    const struct dml_method *const *methods = list; /* descriptors start with their method */
    for (; methods && *methods; methods++) {
        if (!(*methods)->name)
            return dml_fail(DML_ERROR_INPUT, "%s: has a %s without a name", path,
                            dml_kind_name(kind));
        if (dml_method_register(kind, *methods))
            return dml_fail_within(DML_ERROR_INPUT, "%s", path);
    }
    return DML_OK;
}

enum dml_status dml_plugin_load(const char *path) {
    if (!dml_path_exists(path))
        return dml_fail(DML_ERROR_INPUT, "%s: there is no such plugin", path);
    void *object = open_object(path);
    if (!object)
        return dml_fail(DML_ERROR_INPUT, "%s: cannot be loaded: %s", path, dlerror());
    const struct dml_plugin *plugin = dlsym(object, "dml_plugin");
    enum dml_status status = DML_OK;
    if (!plugin)
        status = dml_fail(DML_ERROR_INPUT, "%s: has no symbol dml_plugin", path);
    else if (plugin->interface != DML_PLUGIN_INTERFACE)
        status = dml_fail(DML_ERROR_INPUT,
                          "%s: was built for version %u of the plugin interface, this is %u", path,
                          plugin->interface, DML_PLUGIN_INTERFACE);
    if (status) {
        dlclose(object);
        return status;
    }
    /* From here on the object stays loaded: the registries may point into it. */
    status = register_list(DML_CRITERION, plugin->criteria, path);
    if (!status)
        status = register_list(DML_MINER, plugin->miners, path);
    if (!status)
        status = register_list(DML_SAMPLER, plugin->samplers, path);
    if (!status)
        status = register_list(DML_METRIC, plugin->metrics, path);
    return status;
}
