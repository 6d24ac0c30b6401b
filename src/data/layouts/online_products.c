/* Stanford Online Products: two lists of "image_id class_id super_class_id path", as unzipped
 * beside the images, or in the study's folders Info_Files and images. The train list trains, the
 * test list tests. */
#include "base/files.h"
#include "base/memory.h"
#include "data/layouts/layouts.h"
#include "data/layouts/lists.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const places[] = {"Info_Files", "", NULL};
static const char TRAIN[] = "Ebay_train.txt", TEST[] = "Ebay_test.txt";

struct row {
    int64_t class_id, super_id;
    const char *path; /* in the list's text */
    size_t line;
};

struct rows {
    size_t count, capacity;
    struct row *items;
};

static int by_class(const void *a, const void *b) {
    const struct row *x = a, *y = b;
    if (x->class_id != y->class_id)
        return x->class_id < y->class_id ? -1 : 1;
    return (x->line > y->line) - (x->line < y->line); /* the list's order within a class */
}

static bool parse_row(const char *line, struct row *row) {
    int at = 0;
    return sscanf(line, "%*d %" SCNd64 " %" SCNd64 " %n", &row->class_id, &row->super_id, &at) ==
               2 &&
           at > 0 && *(row->path = line + at);
}

static enum dml_status read_rows(struct dml_lines *lines, struct rows *rows) {
    enum dml_status status = DML_OK;
    bool first = true;
    for (const char *line; !status && (line = dml_lines_next(lines)); first = false) {
        struct row row = {.line = lines->number};
        if (first && !isdigit((unsigned char)*line)) /* the header, which some copies lack */
            continue;
        if (!parse_row(line, &row))
            status = dml_fail(DML_ERROR_INPUT,
                              "%s: line %zu is not \"image_id class_id super_class_id path\"",
                              lines->path, lines->number);
        else
            status = dml_grow(&rows->items, &rows->capacity, rows->count + 1, sizeof row);
        if (!status)
            rows->items[rows->count++] = row;
    }
    if (!status && rows->count == 0)
        status = dml_fail(DML_ERROR_INPUT, "%s: lists no images", lines->path);
    if (!status)
        qsort(rows->items, rows->count, sizeof *rows->items, by_class);
    return status;
}

static enum dml_status add_rows(struct dml_lines *lines, const char *images,
                                const struct rows *rows, struct dml_class_list *out) {
    enum dml_status status = DML_OK;
    struct dml_class_images *class = NULL;
    for (size_t i = 0; i < rows->count && !status; i++) {
        const struct row *row = &rows->items[i];
        char name[32], *path = NULL;
        if (i == 0 || row->class_id != row[-1].class_id) {
            snprintf(name, sizeof name, "%" PRId64, row->class_id);
            status = dml_class_list_add(out, name, &class);
            if (status)
                break;
            class->group = row->super_id;
        }
        lines->number = row->line;
        status = dml_list_image(lines, images, row->path, &path);
        if (!status)
            status = dml_class_add(class, path);
    }
    return status;
}

static enum dml_status read_list(const char *folder, const char *name, struct dml_class_list *out) {
    char *list;
    enum dml_status status = dml_find_below(folder, places, name, &list);
    if (status)
        return status;
    if (!list)
        return dml_fail(DML_ERROR_IO, "%s: No such file: %s, in Info_Files or beside the images",
                        folder, name);
    char *images =
        dml_has_folder(folder, "images") ? dml_path_join(folder, "images") : dml_strdup(folder);
    struct dml_lines lines = {0};
    struct rows rows = {0};
    status = dml_lines_open(list, &lines);
    if (!status && !images)
        status = DML_ERROR_MEMORY;
    if (!status)
        status = read_rows(&lines, &rows);
    if (!status)
        status = add_rows(&lines, images, &rows, out);
    free(rows.items);
    free(images);
    dml_lines_close(&lines);
    return status;
}

static bool detect(const char *folder) {
    return dml_has_below(folder, places, TRAIN) || dml_has_below(folder, places, TEST) ||
           dml_has_folder(folder, "Info_Files");
}

static enum dml_status read(const struct dml_layout_source *source, struct dml_layout *out) {
    out->sample_split = DML_SPLIT_FIRST;
    enum dml_status status = read_list(source->folder, TRAIN, &out->training);
    if (!status)
        status = read_list(source->folder, TEST, &out->testing);
    return status;
}

const struct dml_layout_kind dml_layout_online_products = {
    .name = "online_products",
    .summary = "Stanford Online Products: Ebay_train.txt and Ebay_test.txt, as unzipped or in "
               "Info_Files with the images in images",
    .named = "online_products",
    .apart = true,
    .detect = detect,
    .read = read,
};
