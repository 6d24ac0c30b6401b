/* iNaturalist 2018 with the split for retrieval of Brown et al. 2020, Smooth-AP: two lists of paths
 * "train_val2018/Aves/2761/x.jpg". An image's class is its folder and the one above. */
#include "base/files.h"
#include "base/memory.h"
#include "data/layouts/layouts.h"
#include "data/layouts/lists.h"

#include <stdlib.h>
#include <string.h>

static const char TRAIN[] = "Inaturalist_train_set1.txt", TEST[] = "Inaturalist_test_set1.txt";
static const char *const places[] = {"", "Inat_dataset_splits", NULL};

/* "Aves/2761" of "train_val2018/Aves/2761/x.jpg"; *out is NULL where there is no folder. */
static enum dml_status class_of(const char *path, char **out) {
    const char *end = strrchr(path, '/'), *start = end;
    for (int folders = 0; start && start > path; start--)
        if (start[-1] == '/' && ++folders == 2)
            break;
    *out = NULL;
    if (!end || end == path)
        return DML_OK;
    *out = dml_format("%.*s", (int)(end - start), start);
    return *out ? DML_OK : DML_ERROR_MEMORY;
}

static enum dml_status read_list(const char *folder, const char *name, struct dml_class_list *out) {
    struct dml_lines lines = {0};
    struct dml_class_index index = {.classes = out};
    char *list;
    enum dml_status status = dml_find_below(folder, places, name, &list);
    if (status)
        return status;
    if (!list)
        return dml_fail(DML_ERROR_INPUT, "%s: has no %s, here or in Inat_dataset_splits", folder,
                        name);
    status = dml_lines_open(list, &lines);
    for (char *line; !status && (line = dml_lines_next(&lines));) {
        struct dml_class_images *class;
        char *path = NULL, *class_name;
        status = class_of(line, &class_name);
        if (!status && !class_name)
            status = dml_fail(DML_ERROR_INPUT, "%s: line %zu is not a path with a class's folder",
                              lines.path, lines.number);
        if (!status)
            status = dml_class_index_get(&index, class_name, &class);
        if (!status)
            status = dml_list_image(&lines, folder, line, &path);
        if (!status)
            status = dml_class_add(class, path);
        free(class_name);
    }
    if (!status && out->count == 0)
        status = dml_fail(DML_ERROR_INPUT, "%s: lists no images", lines.path);
    dml_class_index_free(&index);
    dml_lines_close(&lines);
    return status;
}

static enum dml_status read(const struct dml_layout_source *source, struct dml_layout *out) {
    enum dml_status status = read_list(source->folder, TRAIN, &out->training);
    return status ? status : read_list(source->folder, TEST, &out->testing);
}

static bool detect(const char *folder) {
    return dml_has_below(folder, places, TRAIN) || dml_has_below(folder, places, TEST) ||
           dml_has_folder(folder, "train_val2018");
}

const struct dml_layout_kind dml_layout_inaturalist = {
    .name = "inaturalist",
    .summary = "iNaturalist 2018: train_val2018 and the retrieval split's "
               "Inaturalist_train_set1.txt and Inaturalist_test_set1.txt (also in "
               "Inat_dataset_splits)",
    .apart = true,
    .detect = detect,
    .read = read,
};
