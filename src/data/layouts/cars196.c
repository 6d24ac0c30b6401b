/* Cars196 as published: cars_train and cars_test with cars_train_annos.mat and
 * cars_test_annos_withlabels.mat, in devkit or beside them, or car_ims with cars_annos.mat. The
 * first half of the classes trains, the second half tests, whichever folder an image is in. */
#include "base/files.h"
#include "base/memory.h"
#include "data/layouts/layouts.h"
#include "data/layouts/lists.h"
#include "data/layouts/mat_file.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const places[] = {"devkit", "", "car_devkit/devkit", "car_devkit", NULL};

static enum dml_status add_row(const struct dml_mat *mat, size_t row, int name_field,
                               int class_field, const char *images, struct dml_class_index *index) {
    char name[256], label[32];
    int64_t number;
    struct dml_class_images *class;
    if (!dml_mat_text(mat, row, name_field, name, sizeof name) ||
        !dml_mat_number(mat, row, class_field, &number) || number < 0)
        return dml_fail(DML_ERROR_INPUT, "%s: annotation %zu has no image name and class number",
                        mat->path, row + 1);
    snprintf(label, sizeof label, "%" PRId64, number);
    char *path = dml_path_join(images, name);
    if (path && !dml_path_exists(path)) {
        free(path);
        return dml_fail(DML_ERROR_INPUT, "%s: annotation %zu: %s: no such file in %s", mat->path,
                        row + 1, name, images);
    }
    enum dml_status status = dml_class_index_get(index, label, &class);
    if (!status)
        return dml_class_add(class, path);
    free(path);
    return status;
}

/* `name`: the field with an image's name below `images`. */
static enum dml_status read_annotations(const char *list, const char *images, const char *name,
                                        struct dml_class_index *index) {
    struct dml_mat mat;
    enum dml_status status = dml_mat_open(list, "annotations", &mat);
    int class_field = status ? -1 : dml_mat_field(&mat, "class");
    int name_field = status ? -1 : dml_mat_field(&mat, name);
    if (!status && class_field < 0)
        status = dml_fail(DML_ERROR_INPUT,
                          "%s: has no classes; cars_test_annos_withlabels.mat is needed", list);
    else if (!status && name_field < 0)
        status = dml_fail(DML_ERROR_INPUT, "%s: its annotations have no '%s'", list, name);
    for (size_t i = 0; !status && i < mat.rows; i++)
        status = add_row(&mat, i, name_field, class_field, images, index);
    dml_mat_close(&mat);
    return status;
}

/* A folder's images may lie in another folder of its name, as some archives leave them. */
static char *find_images(const char *folder, const char *name) {
    char images[PATH_MAX];
    return dml_place(images, folder, name) && dml_has_folder(images, name)
               ? dml_path_join(images, name)
               : dml_path_join(folder, name);
}

static enum dml_status read_part(const char *folder, const char *images_name,
                                 const char *const *lists, struct dml_class_index *index) {
    char *images = find_images(folder, images_name), *list = NULL;
    enum dml_status status = images ? DML_OK : DML_ERROR_MEMORY;
    for (const char *const *name = lists; !status && *name && !list; name++)
        status = dml_find_below(folder, places, *name, &list);
    if (!status && !dml_is_folder(images))
        status = dml_fail(DML_ERROR_INPUT, "%s: no such folder", images);
    if (!status && !list)
        status = dml_fail(DML_ERROR_INPUT,
                          "%s: the classes of its images are missing: %s, here or in devkit",
                          folder, lists[0]);
    if (!status)
        status = read_annotations(list, images, "fname", index);
    free(list);
    free(images);
    return status;
}

static enum dml_status read(const struct dml_layout_source *source, struct dml_layout *out) {
    static const char *const train[] = {"cars_train_annos.mat", NULL},
                             *const test[] = {"cars_test_annos_withlabels.mat",
                                              "cars_test_annos_withlabels (1).mat",
                                              "cars_test_annos.mat", NULL};
    struct dml_class_index index = {.classes = &out->training};
    const char *folder = source->folder;
    char *all;
    enum dml_status status = dml_find_below(folder, places, "cars_annos.mat", &all);
    if (!status && dml_has_folder(folder, "car_ims")) {
        status = all ? read_annotations(all, folder, "relative_im_path", &index)
                     : dml_fail(DML_ERROR_INPUT,
                                "%s: the classes of its images are missing: cars_annos.mat, here "
                                "or in devkit",
                                folder);
    } else if (!status) {
        status = read_part(folder, "cars_train", train, &index);
        if (!status)
            status = read_part(folder, "cars_test", test, &index);
    }
    if (!status && out->training.count < 2)
        status = dml_fail(DML_ERROR_INPUT, "%s: its annotations name %zu classes", folder,
                          out->training.count);
    if (!status) {
        dml_class_list_sort(&out->training);
        status = dml_class_list_halve(&out->training, &out->testing);
    }
    dml_class_index_free(&index);
    free(all);
    return status;
}

static bool detect(const char *folder) {
    return !dml_has_folder(folder, "images") &&
           (dml_has_folder(folder, "cars_train") || dml_has_folder(folder, "cars_test") ||
            dml_has_folder(folder, "car_ims"));
}

const struct dml_layout_kind dml_layout_cars196 = {
    .name = "cars196",
    .summary = "Cars196 as published: cars_train and cars_test with cars_train_annos.mat and "
               "cars_test_annos_withlabels.mat (also in devkit), or car_ims with cars_annos.mat",
    .detect = detect,
    .read = read,
};
