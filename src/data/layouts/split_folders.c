/* Folders of classes within folders of parts: train/CLASS/NAME.jpg and test/CLASS/NAME.jpg; val
 * as well or, where there is no test, in its place. */
#include "base/files.h"
#include "base/memory.h"
#include "data/layouts/layouts.h"
#include "data/layouts/lists.h"

#include <stdlib.h>

static const char *const train_names[] = {"train", "training", NULL},
                         *const test_names[] = {"test", "testing", NULL},
                         *const val_names[] = {"val", "valid", "validation", NULL};

/* The first of the folders that holds classes; NULL. */
static const char *find_part(const char *folder, const char *const *names) {
    char path[PATH_MAX];
    for (; *names; names++)
        if (dml_place(path, folder, *names) && dml_folders_hold_images(path))
            return *names;
    return NULL;
}

/* Names of folders, or NULL. */
struct parts {
    const char *train, *test, *val;
};

static struct parts find_parts(const char *folder) {
    struct parts parts = {find_part(folder, train_names), find_part(folder, test_names),
                          find_part(folder, val_names)};
    if (!parts.test) {
        parts.test = parts.val;
        parts.val = NULL;
    }
    return parts;
}

static bool detect(const char *folder) {
    struct parts parts = find_parts(folder);
    return parts.train && parts.test && !dml_has_folder(folder, "images");
}

static enum dml_status read_part(const char *folder, const char *name, struct dml_class_list *out) {
    char *path = dml_path_join(folder, name);
    enum dml_status status = path ? dml_folders_read(path, out) : DML_ERROR_MEMORY;
    free(path);
    return status;
}

static enum dml_status read(const struct dml_layout_source *source, struct dml_layout *out) {
    struct parts parts = find_parts(source->folder);
    if (!parts.train || !parts.test) /* they were there a moment ago */
        return dml_fail(DML_ERROR_IO, "%s: its folders of parts are gone", source->folder);
    enum dml_status status = read_part(source->folder, parts.train, &out->training);
    if (!status)
        status = read_part(source->folder, parts.test, &out->testing);
    if (!status && parts.val)
        status = read_part(source->folder, parts.val, &out->validation);
    return status;
}

const struct dml_layout_kind dml_layout_split_folders = {
    .name = "split_folders",
    .summary = "Folders train and test (or val), with a folder per class in each",
    .generic = true,
    .detect = detect,
    .read = read,
};
