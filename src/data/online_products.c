/* Stanford Online Products: two lists of "image_id class_id super_class_id path" under Info_Files,
 * with a header line; the train list trains, the test list tests. */
#include "base/files.h"
#include "base/memory.h"
#include "data/layout.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct row {
    int64_t class_id, super_id;
    const char *path; /* in the list's text */
    size_t line;
};

static int by_class(const void *a, const void *b) {
    const struct row *x = a, *y = b;
    if (x->class_id != y->class_id)
        return x->class_id < y->class_id ? -1 : 1;
    return (x->line > y->line) - (x->line < y->line); /* the list's order within a class */
}

/* Cuts the text into rows. */
static enum dml_status read_rows(const char *list, char *text, struct row **rows, size_t *count) {
    size_t capacity = 0, number = 1;
    char *rest = text;
    strsep(&rest, "\n"); /* the header */
    while (rest && *rest) {
        char *line = strsep(&rest, "\n");
        struct row row = {.line = ++number};
        int at = 0;
        line[strcspn(line, "\r")] = 0;
        if (*line == 0)
            continue;
        if (sscanf(line, "%*d %" SCNd64 " %" SCNd64 " %n", &row.class_id, &row.super_id, &at) !=
                2 ||
            at == 0 || line[at] == 0)
            return dml_fail(DML_ERROR_INPUT,
                            "%s: line %zu is not \"image_id class_id super_class_id path\"", list,
                            number);
        row.path = line + at;
        void *items = *rows;
        enum dml_status status = dml_grow(&items, &capacity, *count + 1, sizeof **rows);
        *rows = items;
        if (status)
            return status;
        (*rows)[(*count)++] = row;
    }
    if (*count == 0)
        return dml_fail(DML_ERROR_INPUT, "%s: lists no images", list);
    qsort(*rows, *count, sizeof **rows, by_class);
    return DML_OK;
}

static enum dml_status add_rows(const char *images, const struct row *rows, size_t count,
                                struct dml_class_list *out) {
    enum dml_status status = DML_OK;
    struct dml_class_images *class = NULL;
    for (size_t i = 0; i < count && !status; i++) {
        if (i == 0 || rows[i].class_id != rows[i - 1].class_id) {
            char name[32];
            snprintf(name, sizeof name, "%" PRId64, rows[i].class_id);
            status = dml_class_list_add(out, name, &class);
            if (status)
                break;
            class->group = rows[i].super_id;
        }
        status = dml_class_add(class, dml_path_join(images, rows[i].path));
    }
    return status;
}

static enum dml_status read_list(const char *folder, const char *name, struct dml_class_list *out) {
    char *list = dml_format("%s/Info_Files/%s", folder, name);
    char *images = dml_path_join(folder, "images"), *text = NULL;
    struct row *rows = NULL;
    size_t count = 0;
    enum dml_status status = list && images ? DML_OK : DML_ERROR_MEMORY;
    if (!status)
        status = dml_read_file(list, &text, NULL);
    if (!status)
        status = read_rows(list, text, &rows, &count);
    if (!status)
        status = add_rows(images, rows, count, out);
    free(rows);
    free(text);
    free(images);
    free(list);
    return status;
}

enum dml_status dml_layout_online_products(const char *folder, struct dml_layout *out) {
    out->sample_split = DML_SPLIT_FIRST;
    enum dml_status status = read_list(folder, "Ebay_train.txt", &out->training);
    if (!status)
        status = read_list(folder, "Ebay_test.txt", &out->testing);
    return status;
}
