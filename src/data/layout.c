#include "data/layout.h"

#include "base/memory.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum dml_status dml_class_list_add(struct dml_class_list *classes, const char *name,
                                   struct dml_class_images **out) {
    enum dml_status status =
        dml_grow(&classes->items, &classes->capacity, classes->count + 1, sizeof *classes->items);
    if (status)
        return status;
    struct dml_class_images *class = &classes->items[classes->count];
    memset(class, 0, sizeof *class);
    class->name = dml_strdup(name);
    if (!class->name)
        return DML_ERROR_MEMORY;
    classes->count++;
    *out = class;
    return DML_OK;
}

enum dml_status dml_class_add_image(struct dml_class_images *class, struct dml_listed_image image) {
    enum dml_status status = image.path ? dml_grow(&class->items, &class->capacity,
                                                   class->images + 1, sizeof *class->items)
                                        : DML_ERROR_MEMORY;
    if (status)
        free(image.path);
    else
        class->items[class->images++] = image;
    return status;
}

enum dml_status dml_class_add(struct dml_class_images *class, char *path) {
    return dml_class_add_image(class,
                               (struct dml_listed_image){.path = path, .marks = DML_MARK_BOTH});
}

void dml_class_list_free(struct dml_class_list *classes) {
    for (size_t c = 0; c < classes->count; c++) {
        struct dml_class_images *class = &classes->items[c];
        for (size_t i = 0; i < class->images; i++)
            free(class->items[i].path);
        free(class->items);
        free(class->name);
    }
    free(classes->items);
    memset(classes, 0, sizeof *classes);
}

void dml_layout_free(struct dml_layout *layout) {
    dml_class_list_free(&layout->training);
    dml_class_list_free(&layout->testing);
    dml_class_list_free(&layout->validation);
}

/* The number that a name starts with; false when it has none or something else follows. */
static bool number_of(const char *name, uint64_t *number) {
    char *end;
    if (!isdigit((unsigned char)*name) || strspn(name, "0123456789") > 18)
        return false;
    *number = strtoull(name, &end, 10);
    return *end == 0 || *end == '.';
}

bool dml_class_list_numbered(const struct dml_class_list *classes) {
    uint64_t number;
    for (size_t c = 0; c < classes->count; c++)
        if (!number_of(classes->items[c].name, &number))
            return false;
    return true;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct dml_class_images *)a)->name,
                  ((const struct dml_class_images *)b)->name);
}

static int by_number(const void *a, const void *b) {
    uint64_t x = 0, y = 0;
    number_of(((const struct dml_class_images *)a)->name, &x);
    number_of(((const struct dml_class_images *)b)->name, &y);
    return x != y ? (x > y) - (x < y) : by_name(a, b);
}

void dml_class_list_sort(struct dml_class_list *classes) {
    if (classes->count)
        qsort(classes->items, classes->count, sizeof *classes->items,
              dml_class_list_numbered(classes) ? by_number : by_name);
}

enum dml_status dml_class_list_halve(struct dml_class_list *first, struct dml_class_list *second) {
    size_t keep = first->count / 2, moved = first->count - keep;
    enum dml_status status =
        dml_grow(&second->items, &second->capacity, moved, sizeof *second->items);
    if (status)
        return status;
    memcpy(second->items, first->items + keep, moved * sizeof *second->items);
    second->count = moved;
    first->count = keep;
    return DML_OK;
}
