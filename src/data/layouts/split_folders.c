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
static char *find_part(const char *folder, const char *const *names) {
    for (; *names; names++) {
        char *path = dml_path_join(folder, *names);
        if (path && dml_folders_hold_images(path))
            return path;
        free(path);
    }
    return NULL;
}

struct parts {
    char *train, *test, *val;
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

static void free_parts(struct parts *parts) {
    free(parts->train);
    free(parts->test);
    free(parts->val);
}

static bool detect(const char *folder) {
    struct parts parts = find_parts(folder);
    bool found = parts.train && parts.test && !dml_has_folder(folder, "images");
    free_parts(&parts);
    return found;
}

static enum dml_status read(const struct dml_layout_source *source, struct dml_layout *out) {
    struct parts parts = find_parts(source->folder);
    enum dml_status status = parts.train && parts.test ? DML_OK : DML_ERROR_MEMORY;
    if (!status)
        status = dml_folders_read(parts.train, &out->training);
    if (!status)
        status = dml_folders_read(parts.test, &out->testing);
    if (!status && parts.val)
        status = dml_folders_read(parts.val, &out->validation);
    free_parts(&parts);
    return status;
}

const struct dml_layout_kind dml_layout_split_folders = {
    .name = "split_folders",
    .summary = "Folders train and test (or val), with a folder per class in each",
    .generic = true,
    .detect = detect,
    .read = read,
};
