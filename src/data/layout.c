#include "data/layout.h"

#include "base/memory.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum dml_status dml_class_list_add(struct dml_class_list *classes, const char *name,
                                   struct dml_class_images **out) {
    void *items = classes->items;
    enum dml_status status =
        dml_grow(&items, &classes->capacity, classes->count + 1, sizeof *classes->items);
    classes->items = items;
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

enum dml_status dml_class_add(struct dml_class_images *class, char *path) {
    void *paths = class->paths;
    enum dml_status status =
        path ? dml_grow(&paths, &class->path_capacity, class->images + 1, sizeof *class->paths)
             : DML_ERROR_MEMORY;
    class->paths = paths;
    if (status)
        free(path);
    else
        class->paths[class->images++] = path;
    return status;
}

enum dml_status dml_class_add_marked(struct dml_class_images *class, char *path, uint8_t marks) {
    void *all = class->marks;
    enum dml_status status = dml_grow(&all, &class->mark_capacity, class->images + 1, 1);
    class->marks = all;
    if (status) {
        free(path);
        return status;
    }
    class->marks[class->images] = marks;
    return dml_class_add(class, path);
}

void dml_class_list_free(struct dml_class_list *classes) {
    for (size_t c = 0; c < classes->count; c++) {
        struct dml_class_images *class = &classes->items[c];
        for (size_t i = 0; i < class->images; i++)
            free(class->paths[i]);
        free(class->paths);
        free(class->marks);
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
