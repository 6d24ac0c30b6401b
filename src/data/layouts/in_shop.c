/* DeepFashion In-Shop: list_eval_partition.txt with the number of images, a header, and lines
 * "path item_id train|query|gallery". Queries search the gallery alone. */
#include "base/files.h"
#include "base/memory.h"
#include "data/layouts/layouts.h"
#include "data/layouts/lists.h"

#include <stdlib.h>
#include <string.h>

static const char LIST[] = "list_eval_partition.txt";
static const char *const list_places[] = {"", "Eval", "eval", "Anno", NULL};
static const char *const image_places[] = {"", "Img", "Image", "images", NULL};

/* Where the paths "img/WOMEN/..." are. */
static const char *find_images(const char *folder) {
    char below[PATH_MAX];
    for (const char *const *place = image_places; *place; place++)
        if (dml_place(below, folder, *place) && dml_has_folder(below, "img"))
            return *place;
    return "";
}

/* The line's list of classes and marks. */
static bool part_of(const char *word, struct dml_class_index *training,
                    struct dml_class_index *testing, struct dml_class_index **index,
                    uint8_t *marks) {
    bool query = strcmp(word, "query") == 0, gallery = strcmp(word, "gallery") == 0;
    *index = query || gallery ? testing : training;
    *marks = query ? DML_MARK_QUERY : gallery ? DML_MARK_GALLERY : DML_MARK_BOTH;
    return query || gallery || strcmp(word, "train") == 0;
}

static enum dml_status read_line(const struct dml_lines *lines, char *line, const char *images,
                                 struct dml_class_index *training,
                                 struct dml_class_index *testing) {
    char *words[3];
    struct dml_listed_image image = {.path = NULL};
    struct dml_class_index *index;
    struct dml_class_images *class;
    if (!dml_line_words(line, 3, words) ||
        !part_of(words[2], training, testing, &index, &image.marks))
        return dml_fail(DML_ERROR_INPUT, "%s: line %zu is not \"path item_id train|query|gallery\"",
                        lines->path, lines->number);
    enum dml_status status = dml_class_index_get(index, words[1], &class);
    if (!status)
        status = dml_list_image(lines, images, words[0], &image.path);
    return status ? status : dml_class_add_image(class, image);
}

static enum dml_status read_list(struct dml_lines *lines, const char *images,
                                 struct dml_layout *out) {
    struct dml_class_index training = {.classes = &out->training},
                           testing = {.classes = &out->testing};
    enum dml_status status = DML_OK;
    long promised = -1, count = 0;
    for (char *line; !status && (line = dml_lines_next(lines));) {
        char *end;
        long number = strtol(line, &end, 10);
        if (count == 0 && promised < 0 && end != line && *end == 0) {
            promised = number;
        } else if (count > 0 || strncmp(line, "image_name", 10) != 0) {
            status = read_line(lines, line, images, &training, &testing);
            count++;
        }
    }
    if (!status && promised >= 0 && promised != count)
        status = dml_fail(DML_ERROR_INPUT, "%s: lists %ld images where its first line says %ld",
                          lines->path, count, promised);
    dml_class_index_free(&training);
    dml_class_index_free(&testing);
    return status;
}

static enum dml_status read(const struct dml_layout_source *source, struct dml_layout *out) {
    struct dml_lines lines = {0};
    char *list;
    enum dml_status status = dml_find_below(source->folder, list_places, LIST, &list);
    if (status)
        return status;
    if (!list)
        return dml_fail(DML_ERROR_INPUT, "%s: has no %s, here or in Eval", source->folder, LIST);
    char *images = dml_path_join(source->folder, find_images(source->folder));
    status = dml_lines_open(list, &lines);
    if (!status && !images)
        status = DML_ERROR_MEMORY;
    if (!status)
        status = read_list(&lines, images, out);
    free(images);
    dml_lines_close(&lines);
    return status;
}

static bool detect(const char *folder) {
    return dml_has_below(folder, list_places, LIST) || dml_has_folder(folder, "img/WOMEN") ||
           dml_has_folder(folder, "img/MEN");
}

const struct dml_layout_kind dml_layout_in_shop = {
    .name = "in_shop",
    .summary = "DeepFashion In-Shop: list_eval_partition.txt (also in Eval) and img (also in Img); "
               "queries and gallery are apart",
    .apart = true,
    .detect = detect,
    .read = read,
};
