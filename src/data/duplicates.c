#include "data/duplicates.h"

#include "base/files.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct item {
    int64_t size;
    uint64_t sum; /* of the contents, where more than one part has a file of this size */
    struct dml_rect box;
    int part; /* training, validation, testing */
    const char *path;
};

static int by_size(const void *a, const void *b) {
    const struct item *x = a, *y = b;
    return (x->size > y->size) - (x->size < y->size);
}

static int compare_content(const struct item *x, const struct item *y) {
    if (x->size != y->size)
        return x->size < y->size ? -1 : 1;
    if (x->sum != y->sum)
        return x->sum < y->sum ? -1 : 1;
    return memcmp(&x->box, &y->box, sizeof x->box);
}

static int by_content(const void *a, const void *b) {
    const struct item *x = a, *y = b;
    int order = compare_content(x, y);
    if (order == 0)
        order = x->part - y->part;
    return order ? order : strcmp(x->path, y->path);
}

static uint64_t sum_of(const struct dml_mapping *file) {
    uint64_t sum = 0xcbf29ce484222325u;
    for (size_t i = 0; i < file->size; i++)
        sum = (sum ^ file->data[i]) * 0x100000001b3u; /* FNV-1a */
    return sum;
}

static bool same_content(const char *a, const char *b) {
    struct dml_mapping first, second;
    if (dml_map_file(a, &first) != DML_OK)
        return false;
    bool mapped = dml_map_file(b, &second) == DML_OK;
    bool same =
        mapped && first.size == second.size && memcmp(first.data, second.data, first.size) == 0;
    dml_unmap_file(&first);
    if (mapped)
        dml_unmap_file(&second);
    return same;
}

/* Sums of the files of one size, if they are of more than one part. */
static void sum_up(struct item *items, size_t count) {
    bool parts = false;
    for (size_t i = 1; i < count; i++)
        parts = parts || items[i].part != items[0].part;
    for (size_t i = 0; parts && i < count; i++) {
        struct dml_mapping file;
        if (dml_map_file(items[i].path, &file) != DML_OK)
            continue;
        items[i].sum = sum_of(&file);
        dml_unmap_file(&file);
    }
}

static void add_part(struct item **next, const struct dml_part *part, int number) {
    for (size_t i = 0; i < part->images; i++) {
        struct stat info;
        if (stat(part->paths[i], &info) != 0 || !S_ISREG(info.st_mode) || info.st_size == 0)
            continue;
        struct item item = {.size = info.st_size, .part = number, .path = part->paths[i]};
        if (part->boxes)
            item.box = part->boxes[i];
        *(*next)++ = item;
    }
}

enum dml_status dml_duplicates_find(const struct dml_dataset *dataset,
                                    void (*tell)(void *data, const char *path, const char *earlier),
                                    void *data, size_t *count) {
    const struct dml_part *const parts[] = {&dataset->training, &dataset->validation,
                                            &dataset->testing};
    struct item *items =
        dml_alloc(parts[0]->images + parts[1]->images + parts[2]->images, sizeof *items);
    struct item *end = items;
    *count = 0;
    if (!items)
        return DML_ERROR_MEMORY;
    for (int p = 0; p < 3; p++)
        add_part(&end, parts[p], p);
    size_t all = (size_t)(end - items);
    if (all)
        qsort(items, all, sizeof *items, by_size);
    for (size_t first = 0, last; first < all; first = last) {
        for (last = first + 1; last < all && items[last].size == items[first].size;)
            last++;
        sum_up(items + first, last - first);
    }
    if (all)
        qsort(items, all, sizeof *items, by_content);
    for (size_t i = 1, first = 0; i < all; i++) {
        if (compare_content(&items[i], &items[first]) != 0)
            first = i;
        else if (items[i].part != items[first].part &&
                 same_content(items[i].path, items[first].path)) {
            tell(data, items[i].path, items[first].path);
            ++*count;
        }
    }
    free(items);
    return DML_OK;
}
