/* A folder per class: cub200, cars196 and any other data set laid out like them. The first half
 * of the classes trains, the second half tests. */
#include "base/files.h"
#include "base/memory.h"
#include "data/layout.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct names {
    size_t count, capacity;
    char **items;
};

static void free_names(struct names *names) {
    for (size_t i = 0; i < names->count; i++)
        free(names->items[i]);
    free(names->items);
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static enum dml_status add_name(struct names *names, const char *name) {
    void *items = names->items;
    enum dml_status status =
        dml_grow(&items, &names->capacity, names->count + 1, sizeof *names->items);
    names->items = items;
    if (status)
        return status;
    char *copy = dml_strdup(name);
    if (!copy)
        return DML_ERROR_MEMORY;
    names->items[names->count++] = copy;
    return DML_OK;
}

/* Names in a folder, sorted, without hidden ones: "._x" are macOS's shadows of files. */
static enum dml_status list_folder(const char *path, struct names *out) {
    enum dml_status status = DML_OK;
    DIR *folder = opendir(path);
    if (!folder)
        return dml_fail(DML_ERROR_INPUT, "%s: cannot be listed: %s", path, strerror(errno));
    struct dirent *entry;
    while (!status && (errno = 0, entry = readdir(folder)))
        if (entry->d_name[0] != '.')
            status = add_name(out, entry->d_name);
    if (!status && errno)
        status = dml_fail(DML_ERROR_IO, "%s: cannot be listed: %s", path, strerror(errno));
    closedir(folder);
    if (!status && out->count)
        qsort(out->items, out->count, sizeof *out->items, by_text);
    return status;
}

static enum dml_status read_class(const char *folder, const char *name,
                                  struct dml_class_list *classes) {
    struct names files = {0, 0, NULL};
    struct dml_class_images *class;
    char *path = dml_path_join(folder, name);
    enum dml_status status = path ? DML_OK : DML_ERROR_MEMORY;
    if (status || !dml_is_folder(path)) /* a readme beside the classes */
        goto out;
    status = list_folder(path, &files);
    if (!status && files.count == 0)
        status = dml_fail(DML_ERROR_INPUT, "%s: a class without images", path);
    if (!status)
        status = dml_class_list_add(classes, name, &class);
    for (size_t i = 0; !status && i < files.count; i++)
        status = dml_class_add(class, dml_path_join(path, files.items[i]));
out:
    free(path);
    free_names(&files);
    return status;
}

/* Moves the second half of the classes. */
static enum dml_status halve(struct dml_class_list *first, struct dml_class_list *second) {
    size_t keep = first->count / 2, moved = first->count - keep;
    void *items = second->items;
    enum dml_status status = dml_grow(&items, &second->capacity, moved, sizeof *second->items);
    second->items = items;
    if (status)
        return status;
    memcpy(second->items, first->items + keep, moved * sizeof *second->items);
    second->count = moved;
    first->count = keep;
    return DML_OK;
}

enum dml_status dml_layout_folders(const char *folder, struct dml_layout *out) {
    struct names names = {0, 0, NULL};
    char *images = dml_path_join(folder, "images");
    enum dml_status status = images ? DML_OK : DML_ERROR_MEMORY;
    const char *root = images && dml_is_folder(images) ? images : folder;
    if (!status)
        status = list_folder(root, &names);
    for (size_t i = 0; !status && i < names.count; i++)
        status = read_class(root, names.items[i], &out->training);
    if (!status && out->training.count < 2)
        status = dml_fail(DML_ERROR_INPUT,
                          "%s: %zu folders of classes; at least two are needed, half of them "
                          "train and half test",
                          root, out->training.count);
    if (!status) {
        dml_class_list_sort(&out->training);
        status = halve(&out->training, &out->testing);
    }
    free(images);
    free_names(&names);
    return status;
}

static bool is_image_name(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot && (strcasecmp(dot, ".jpg") == 0 || strcasecmp(dot, ".jpeg") == 0 ||
                   strcasecmp(dot, ".png") == 0);
}

static bool holds_image(const char *folder) {
    struct names names = {0, 0, NULL};
    bool found = false;
    if (dml_is_folder(folder) && list_folder(folder, &names) == DML_OK)
        for (size_t i = 0; i < names.count && !found; i++)
            found = is_image_name(names.items[i]);
    free_names(&names);
    return found;
}

bool dml_layout_has_images(const char *folder) {
    struct names names = {0, 0, NULL};
    char *images = dml_path_join(folder, "images");
    bool found = images && dml_is_folder(images);
    if (!found && list_folder(folder, &names) == DML_OK)
        for (size_t i = 0; i < names.count && !found; i++) {
            char *path = dml_path_join(folder, names.items[i]);
            found = path && holds_image(path);
            free(path);
        }
    free(images);
    free_names(&names);
    return found;
}
