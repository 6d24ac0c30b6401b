/* A folder per class: cub200, cars196 and any other data set laid out like them. The first half
 * of the classes trains, the second half tests. */
#include "base/files.h"
#include "base/memory.h"
#include "data/layouts/layouts.h"
#include "data/layouts/lists.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

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
    enum dml_status status =
        dml_grow(&names->items, &names->capacity, names->count + 1, sizeof *names->items);
    if (status)
        return status;
    char *copy = dml_strdup(name);
    if (!copy)
        return DML_ERROR_MEMORY;
    names->items[names->count++] = copy;
    return DML_OK;
}

/* Names in a folder, sorted, without clutter. */
static enum dml_status list_folder(const char *path, struct names *out) {
    enum dml_status status = DML_OK;
    DIR *folder = opendir(path);
    if (!folder)
        return dml_fail(DML_ERROR_INPUT, "%s: cannot be listed: %s", path, strerror(errno));
    struct dirent *entry;
    while (!status && (errno = 0, entry = readdir(folder)))
        if (!dml_is_clutter(entry->d_name))
            status = add_name(out, entry->d_name);
    if (!status && errno)
        status = dml_fail(DML_ERROR_IO, "%s: cannot be listed: %s", path, strerror(errno));
    closedir(folder);
    if (!status && out->count)
        qsort(out->items, out->count, sizeof *out->items, by_text);
    return status;
}

/* Folders seen so far, to find one that a link makes appear a second time. */
struct visited {
    struct place {
        dev_t device;
        ino_t node;
        char *path; /* owned */
    } * items;
    size_t count, capacity;
};

static enum dml_status visit(struct visited *visited, const char *path) {
    struct stat info;
    if (stat(path, &info) != 0)
        return dml_fail(DML_ERROR_IO, "%s: %s", path, strerror(errno));
    enum dml_status status =
        dml_grow(&visited->items, &visited->capacity, visited->count + 1, sizeof *visited->items);
    char *copy = status ? NULL : dml_strdup(path);
    if (!copy)
        return DML_ERROR_MEMORY;
    visited->items[visited->count++] = (struct place){info.st_dev, info.st_ino, copy};
    return DML_OK;
}

static int by_node(const void *a, const void *b) {
    const struct place *x = a, *y = b;
    if (x->device != y->device)
        return x->device < y->device ? -1 : 1;
    if (x->node != y->node)
        return x->node < y->node ? -1 : 1;
    return strcmp(x->path, y->path);
}

static enum dml_status check_visited(struct visited *visited) {
    if (visited->count)
        qsort(visited->items, visited->count, sizeof *visited->items, by_node);
    for (size_t i = 1; i < visited->count; i++) {
        const struct place *place = &visited->items[i];
        if (place->device == place[-1].device && place->node == place[-1].node)
            return dml_fail(DML_ERROR_INPUT, "%s: is the same folder as %s, by a link", place->path,
                            place[-1].path);
    }
    return DML_OK;
}

static void free_visited(struct visited *visited) {
    for (size_t i = 0; i < visited->count; i++)
        free(visited->items[i].path);
    free(visited->items);
}

static enum dml_status read_class(const char *folder, const char *name,
                                  struct dml_class_list *classes, struct visited *visited) {
    struct names files = {0, 0, NULL};
    struct dml_class_images *class;
    char *path = dml_path_join(folder, name);
    enum dml_status status = path ? DML_OK : DML_ERROR_MEMORY;
    if (status || !dml_is_folder(path)) /* a readme beside the classes */
        goto out;
    status = visit(visited, path);
    if (!status)
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

enum dml_status dml_folders_read(const char *folder, struct dml_class_list *classes) {
    struct names names = {0, 0, NULL};
    struct visited visited = {.items = NULL};
    enum dml_status status = visit(&visited, folder);
    if (!status)
        status = list_folder(folder, &names);
    for (size_t i = 0; !status && i < names.count; i++)
        status = read_class(folder, names.items[i], classes, &visited);
    if (!status)
        status = check_visited(&visited);
    if (!status)
        dml_class_list_sort(classes);
    free_names(&names);
    free_visited(&visited);
    return status;
}

/* "train", "cars_test", "bounding_box_train": parts of a data set rather than classes. */
static bool is_part_name(const char *name) {
    static const char *const parts[] = {"train", "training", "test",  "testing",
                                        "val",   "valid",    "query", "gallery"};
    const char *last = name + strlen(name);
    while (last > name && !strchr("_- ", last[-1]))
        last--;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strcasecmp(last, parts[i]) == 0)
            return true;
    return false;
}

/* A few such names among many are classes: emoji have a bullet-train and a high-speed-train. */
static enum dml_status check_names(const char *root, const struct dml_class_list *classes) {
    const char *parts[2] = {NULL, NULL};
    size_t count = 0;
    for (size_t c = 0; c < classes->count; c++)
        if (is_part_name(classes->items[c].name)) {
            parts[count > 0] = classes->items[c].name;
            count++;
        }
    if (count >= 2 && count * 4 >= classes->count)
        return dml_fail(DML_ERROR_INPUT,
                        "%s: its folders %s and %s look like parts of a data set, not classes; the "
                        "lists or annotations that give the classes are missing",
                        root, parts[0], parts[1]);
    return DML_OK;
}

static enum dml_status read(const struct dml_layout_source *source, struct dml_layout *out) {
    bool within = dml_has_folder(source->folder, "images");
    char *root = within ? dml_path_join(source->folder, "images") : dml_strdup(source->folder);
    enum dml_status status = root ? dml_folders_read(root, &out->training) : DML_ERROR_MEMORY;
    if (!status && out->training.count < 2)
        status = dml_fail(
            DML_ERROR_INPUT,
            "%s: %zu folders of classes; at least two are needed: half of them train and half test",
            root, out->training.count);
    if (!status)
        status = check_names(root, &out->training);
    if (!status)
        status = dml_class_list_halve(&out->training, &out->testing);
    free(root);
    return status;
}

static bool is_image_name(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot && (strcasecmp(dot, ".jpg") == 0 || strcasecmp(dot, ".jpeg") == 0 ||
                   strcasecmp(dot, ".png") == 0);
}

/* Whether a folder has an entry for which that is so; allocates nothing, as that could fail. */
static bool has_entry(const char *folder, bool (*is_so)(const char *folder, const char *name)) {
    DIR *entries = opendir(folder);
    bool found = false;
    for (struct dirent *entry; !found && entries && (entry = readdir(entries));)
        found = !dml_is_clutter(entry->d_name) && is_so(folder, entry->d_name);
    if (entries)
        closedir(entries);
    return found;
}

static bool is_image(const char *folder, const char *name) {
    (void)folder;
    return is_image_name(name);
}

static bool is_class(const char *folder, const char *name) {
    char path[PATH_MAX];
    return dml_place(path, folder, name) && dml_is_folder(path) && has_entry(path, is_image);
}

bool dml_folders_hold_images(const char *folder) {
    return has_entry(folder, is_class);
}

static bool detect(const char *folder) {
    return dml_has_folder(folder, "images") || dml_folders_hold_images(folder);
}

const struct dml_layout_kind dml_layout_folders = {
    .name = "folders",
    .summary = "A folder per class, in the data set's folder or in its images; the first half of "
               "the classes trains, the second half tests",
    .generic = true,
    .detect = detect,
    .read = read,
};
