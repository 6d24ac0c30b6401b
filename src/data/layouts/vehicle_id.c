/* PKU VehicleID: lists "image vehicle" in train_test_split, images in image/NAME.jpg. There are
 * three lists to test with, of 800, 1,600 and 2,400 vehicles. */
#include "base/files.h"
#include "base/memory.h"
#include "data/layouts/layouts.h"
#include "data/layouts/lists.h"

#include <stdlib.h>
#include <string.h>

static enum dml_status read_list(const char *folder, const char *name, struct dml_class_list *out) {
    struct dml_lines lines = {0};
    struct dml_class_index index = {.classes = out};
    char *images = dml_path_join(folder, "image");
    enum dml_status status =
        dml_lines_open(dml_format("%s/train_test_split/%s", folder, name), &lines);
    if (!status && !images)
        status = DML_ERROR_MEMORY;
    for (char *line; !status && (line = dml_lines_next(&lines));) {
        struct dml_class_images *class;
        char *words[2], *path = NULL, *file = NULL;
        if (!dml_line_words(line, 2, words))
            status = dml_fail(DML_ERROR_INPUT, "%s: line %zu is not \"image vehicle\"", lines.path,
                              lines.number);
        if (!status && !(file = dml_format("%s.jpg", words[0])))
            status = DML_ERROR_MEMORY;
        if (!status)
            status = dml_class_index_get(&index, words[1], &class);
        if (!status)
            status = dml_list_image(&lines, images, file, &path);
        if (!status)
            status = dml_class_add(class, path);
        free(file);
    }
    if (!status && out->count == 0)
        status = dml_fail(DML_ERROR_INPUT, "%s: lists no images", lines.path);
    free(images);
    dml_class_index_free(&index);
    dml_lines_close(&lines);
    return status;
}

static enum dml_status read(const struct dml_layout_source *source, struct dml_layout *out) {
    static const char *const tests[] = {[DML_TEST_SMALL] = "test_list_800.txt",
                                        [DML_TEST_MEDIUM] = "test_list_1600.txt",
                                        [DML_TEST_LARGE] = "test_list_2400.txt"};
    const char *test = tests[source->test_list];
    enum dml_status status = read_list(source->folder, "train_list.txt", &out->training);
    if (!status)
        status = read_list(source->folder, test, &out->testing);
    return status;
}

static bool detect(const char *folder) {
    return dml_has_folder(folder, "train_test_split") && dml_has_folder(folder, "image");
}

const struct dml_layout_kind dml_layout_vehicle_id = {
    .name = "vehicle_id",
    .summary = "PKU VehicleID: train_test_split and image; --test_list says which of the three "
               "lists to test with",
    .apart = true,
    .detect = detect,
    .read = read,
};
