#include "nn/weights/tensors.h"

#include <string.h>

/* What holds a network puts its own name before those of the network's tensors: DataParallel and
 * averages of weights, torch.compile, and the modules of training code. */
static const char *const wrappers[] = {
    "module",       "_orig_mod",         "model",      "net",
    "network",      "backbone",          "encoder",    "trunk",
    "embedder",     "teacher",           "student",    "base_model",
    "base_network", "feature_extractor", "state_dict",
};
enum { WRAPPER_COUNT = sizeof wrappers / sizeof wrappers[0] };

/* Segments that are never a network's own, wherever they stand in a name. */
static const char *const inserted[] = {"_orig_mod.", "_fsdp_wrapped_module.",
                                       "_checkpoint_wrapped_module."};

size_t dml_tensor_wrapper(const char *name) {
    size_t length = strcspn(name, ".");
    if (!name[length] || !name[length + 1])
        return 0;
    for (size_t i = 0; i < WRAPPER_COUNT; i++)
        if (strlen(wrappers[i]) == length && memcmp(name, wrappers[i], length) == 0)
            return length + 1;
    return 0;
}

static void cut(char *at, size_t length) {
    memmove(at, at + length, strlen(at + length) + 1);
}

static void remove_inserted(char *name) {
    for (size_t i = 0; i < sizeof inserted / sizeof inserted[0]; i++) {
        char *at = name;
        size_t length = strlen(inserted[i]);
        while ((at = strstr(at, inserted[i])))
            if ((at == name || at[-1] == '.') && at[length])
                cut(at, length);
            else
                at += length;
    }
}

static bool has_axes(const struct dml_tensors *tensors) {
    for (size_t i = 0; i < tensors->count; i++)
        if (tensors->items[i].dim_count > 0)
            return true;
    return false;
}

/* A name that begins, as all do, with a wrapper's name of *length bytes, or NULL. Single values do
 * not count, since some are a wrapper's own (n_averaged), unless there is nothing else. */
static const char *shared_wrapper(const struct dml_tensors *tensors, size_t *length) {
    const char *first = NULL;
    bool axes = has_axes(tensors);
    for (size_t i = 0; i < tensors->count; i++) {
        const struct dml_tensor *tensor = &tensors->items[i];
        if (axes && tensor->dim_count == 0)
            continue;
        if (!first) {
            first = tensor->name;
            *length = dml_tensor_wrapper(first);
        }
        if (*length == 0 || strncmp(tensor->name, first, *length) != 0 || !tensor->name[*length])
            return NULL;
    }
    return first;
}

void dml_tensors_unwrap(struct dml_tensors *tensors) {
    for (size_t i = 0; i < tensors->count; i++)
        remove_inserted(tensors->items[i].name);
    const char *found;
    for (size_t length = 0; (found = shared_wrapper(tensors, &length));) {
        char wrapper[64];
        memcpy(wrapper, found, length);
        for (size_t i = 0; i < tensors->count; i++)
            if (strncmp(tensors->items[i].name, wrapper, length) == 0 &&
                tensors->items[i].name[length])
                cut(tensors->items[i].name, length);
    }
}
