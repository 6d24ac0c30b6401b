/* CUB200-2011 as published: images.txt ("image_id path") and image_class_labels.txt ("image_id
 * class_id") beside the folder images. The first half of the classes trains, the second half
 * tests; train_test_split.txt, which divides every class, is not for retrieval. */
#include "base/files.h"
#include "base/memory.h"
#include "data/layouts/layouts.h"
#include "data/layouts/lists.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct row {
    long image, class_id;
    char *path;       /* owned until it moves into a class */
    const char *name; /* in the list's text */
};

struct rows {
    size_t count, capacity;
    struct row *items;
};

static bool number_of(const char *text, long *out) {
    char *end;
    errno = 0;
    *out = strtol(text, &end, 10);
    return end != text && *end == 0 && errno == 0;
}

static enum dml_status bad_line(const struct dml_lines *lines, const char *form) {
    return dml_fail(DML_ERROR_INPUT, "%s: line %zu is not \"%s\"", lines->path, lines->number,
                    form);
}

static enum dml_status read_images(struct dml_lines *lines, const char *folder, struct rows *rows) {
    enum dml_status status = DML_OK;
    char *images = dml_path_join(folder, "images"), *line, *words[2];
    if (!images)
        return DML_ERROR_MEMORY;
    while (!status && (line = dml_lines_next(lines))) {
        struct row row = {.class_id = -1};
        if (!dml_line_words(line, 2, words) || !number_of(words[0], &row.image))
            status = bad_line(lines, "image_id path");
        if (!status)
            status = dml_grow(&rows->items, &rows->capacity, rows->count + 1, sizeof row);
        if (!status)
            status = dml_list_image(lines, images, words[1], &row.path);
        row.name = words[1];
        if (!status)
            rows->items[rows->count++] = row;
    }
    free(images);
    return status;
}

static int by_image(const void *a, const void *b) {
    const struct row *x = a, *y = b;
    return (x->image > y->image) - (x->image < y->image);
}

static int by_class(const void *a, const void *b) {
    const struct row *x = a, *y = b;
    if (x->class_id != y->class_id)
        return x->class_id < y->class_id ? -1 : 1;
    return strcmp(x->path, y->path); /* as a folder of images is read */
}

static enum dml_status read_labels(struct dml_lines *lines, struct rows *rows) {
    enum dml_status status = DML_OK;
    char *line, *words[2];
    while (!status && (line = dml_lines_next(lines))) {
        struct row key, *row = NULL;
        long class_id;
        if (!dml_line_words(line, 2, words) || !number_of(words[0], &key.image) ||
            !number_of(words[1], &class_id) || class_id < 0)
            return bad_line(lines, "image_id class_id");
        if (rows->count)
            row = bsearch(&key, rows->items, rows->count, sizeof key, by_image);
        if (!row)
            return dml_fail(DML_ERROR_INPUT, "%s: line %zu: images.txt has no image %ld",
                            lines->path, lines->number, key.image);
        row->class_id = class_id;
    }
    for (size_t i = 0; i < rows->count; i++)
        if (rows->items[i].class_id < 0)
            return dml_fail(DML_ERROR_INPUT, "%s: has no label of image %ld", lines->path,
                            rows->items[i].image);
    return status;
}

/* The class's name is that of its images' folder. */
static enum dml_status add_rows(struct rows *rows, struct dml_class_list *out) {
    enum dml_status status = DML_OK;
    struct dml_class_images *class = NULL;
    for (size_t i = 0; i < rows->count && !status; i++) {
        struct row *row = &rows->items[i];
        if (i == 0 || row->class_id != row[-1].class_id) {
            const char *slash = strchr(row->name, '/');
            char *name = slash ? dml_format("%.*s", (int)(slash - row->name), row->name)
                               : dml_format("%03ld", row->class_id);
            status = name ? dml_class_list_add(out, name, &class) : DML_ERROR_MEMORY;
            free(name);
        }
        if (status)
            break;
        char *path = row->path;
        row->path = NULL;
        status = dml_class_add(class, path);
    }
    return status;
}

static enum dml_status read(const struct dml_layout_source *source, struct dml_layout *out) {
    struct dml_lines images = {0}, labels = {0};
    struct rows rows = {0};
    out->sample_split = DML_SPLIT_EVEN;
    enum dml_status status = dml_lines_open(dml_path_join(source->folder, "images.txt"), &images);
    if (!status)
        status = dml_lines_open(dml_path_join(source->folder, "image_class_labels.txt"), &labels);
    if (!status)
        status = read_images(&images, source->folder, &rows);
    if (!status && rows.count == 0)
        status = dml_fail(DML_ERROR_INPUT, "%s: lists no images", images.path);
    if (!status) {
        qsort(rows.items, rows.count, sizeof *rows.items, by_image);
        status = read_labels(&labels, &rows);
    }
    if (!status) {
        qsort(rows.items, rows.count, sizeof *rows.items, by_class);
        status = add_rows(&rows, &out->training);
    }
    if (!status)
        status = dml_class_list_halve(&out->training, &out->testing);
    for (size_t i = 0; i < rows.count; i++)
        free(rows.items[i].path);
    free(rows.items);
    dml_lines_close(&images);
    dml_lines_close(&labels);
    return status;
}

static bool detect(const char *folder) {
    return dml_has_file(folder, "images.txt") && dml_has_file(folder, "image_class_labels.txt");
}

const struct dml_layout_kind dml_layout_cub200 = {
    .name = "cub200",
    .summary = "CUB200-2011 as published: images.txt and image_class_labels.txt beside images",
    .detect = detect,
    .read = read,
};
