#include "data/inventory.h"

#include "base/memory.h"
#include "base/stream.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { LISTED = 5, NAME_SHOWN = 60 };

/* FNV-1a. */
static uint64_t mix(uint64_t sum, const void *data, size_t size) {
    for (const unsigned char *at = data; size > 0; size--)
        sum = (sum ^ *at++) * 0x100000001b3u;
    return sum;
}

static enum dml_status write_part(FILE *out, const struct dml_part *part, const int64_t *sizes) {
    size_t i = 0;
    for (size_t c = 0; c < part->classes; c++) {
        uint64_t sum = 0xcbf29ce484222325u;
        size_t first = i;
        for (; i < part->images && part->labels[i] == (int32_t)c; i++) {
            const char *slash = strrchr(part->paths[i], '/');
            const char *name = slash ? slash + 1 : part->paths[i];
            unsigned char marks = 3;
            if (part->is_query && part->is_gallery)
                marks = (unsigned char)(part->is_query[i] | part->is_gallery[i] << 1);
            sum = mix(sum, name, strlen(name) + 1);
            sum = mix(sum, &sizes[i], sizeof sizes[i]);
            sum = mix(sum, &marks, 1);
            if (part->sequences)
                sum = mix(sum, &part->sequences[i], sizeof part->sequences[i]);
            if (part->boxes)
                sum = mix(sum, &part->boxes[i], sizeof part->boxes[i]);
        }
        char *name = dml_text_escape(part->class_names[c]);
        if (!name)
            return DML_ERROR_MEMORY;
        fprintf(out, "%s %zu %016llx %s\n", part->name, i - first, (unsigned long long)sum, name);
        free(name);
    }
    return DML_OK;
}

/* The sizes of a part's files; -1 for one that has gone in the meantime. */
static enum dml_status read_sizes(const struct dml_part *part, int64_t **out) {
    *out = dml_alloc(part->images, sizeof **out);
    if (!*out)
        return DML_ERROR_MEMORY;
#pragma omp parallel for schedule(dynamic, 64)
    for (size_t i = 0; i < part->images; i++) {
        struct stat info;
        (*out)[i] = stat(part->paths[i], &info) == 0 ? (int64_t)info.st_size : -1;
    }
    return DML_OK;
}

enum dml_status dml_inventory_make(const struct dml_dataset *dataset, char **out) {
    const struct dml_part *const parts[] = {&dataset->training, &dataset->validation,
                                            &dataset->testing};
    struct dml_stream stream;
    *out = NULL;
    enum dml_status status = dml_stream_open(&stream);
    if (status)
        return status;
    for (size_t p = 0; p < sizeof parts / sizeof parts[0] && !status; p++) {
        int64_t *sizes = NULL;
        status = read_sizes(parts[p], &sizes);
        if (!status)
            status = write_part(stream.file, parts[p], sizes);
        free(sizes);
    }
    enum dml_status closed = dml_stream_close(&stream, out);
    if (status) {
        free(*out);
        *out = NULL;
    }
    return status ? status : closed;
}

/* A line of the text. */
struct item {
    const char *part, *name;
    int part_length, name_length;
    size_t images;
    unsigned long long sum;
};

static int compare(const void *a, const void *b) {
    const struct item *x = a, *y = b;
    int shorter = x->name_length < y->name_length ? x->name_length : y->name_length;
    int order = x->part_length != y->part_length
                    ? x->part_length - y->part_length
                    : strncmp(x->part, y->part, (size_t)x->part_length);
    if (order == 0)
        order = memcmp(x->name, y->name, (size_t)shorter);
    return order ? order : x->name_length - y->name_length;
}

static enum dml_status read_items(const char *text, struct item **items, size_t *count) {
    size_t capacity = 0;
    *items = NULL;
    *count = 0;
    for (const char *at = text, *end; *at && (end = strchr(at, '\n')); at = end + 1) {
        int part = 0, name = 0;
        struct item item = {.part = at};
        if (sscanf(at, "%*s%n %zu %llx%n", &part, &item.images, &item.sum, &name) != 2 ||
            at + name + 1 > end)
            continue;
        item.part_length = part;
        item.name = at + name + 1;
        item.name_length = (int)(end - item.name);
        enum dml_status status = dml_grow(items, &capacity, *count + 1, sizeof item);
        if (status)
            return status;
        (*items)[(*count)++] = item;
    }
    if (*count > 1)
        qsort(*items, *count, sizeof **items, compare);
    return DML_OK;
}

static void tell(FILE *out, size_t *told, const struct item *before, const struct item *now) {
    const struct item *item = now ? now : before;
    if ((*told)++ >= LISTED)
        return;
    fprintf(out, "%s%.*s class '%.*s' ", *told > 1 ? "; " : "", item->part_length, item->part,
            item->name_length < NAME_SHOWN ? item->name_length : NAME_SHOWN, item->name);
    if (!now)
        fprintf(out, "is gone (%zu images)", before->images);
    else if (!before)
        fprintf(out, "is new (%zu images)", now->images);
    else if (before->images != now->images)
        fprintf(out, "has %zu images where it had %zu", now->images, before->images);
    else
        fprintf(out, "has images with other names or sizes");
}

static void list(FILE *out, const struct item *before, size_t before_count, const struct item *now,
                 size_t now_count) {
    size_t told = 0;
    for (size_t b = 0, n = 0; b < before_count || n < now_count;) {
        int order = b == before_count ? 1 : n == now_count ? -1 : compare(&before[b], &now[n]);
        if (order < 0)
            tell(out, &told, &before[b], NULL);
        else if (order > 0)
            tell(out, &told, NULL, &now[n]);
        else if (before[b].sum != now[n].sum || before[b].images != now[n].images)
            tell(out, &told, &before[b], &now[n]);
        b += order <= 0;
        n += order >= 0;
    }
    if (told == 0)
        fprintf(out, "the classes have another order");
    if (told > LISTED)
        fprintf(out, "; and %zu more", told - LISTED);
}

enum dml_status dml_inventory_compare(const char *before, const char *now, char **changes) {
    struct item *items[2] = {NULL, NULL};
    size_t counts[2] = {0, 0};
    struct dml_stream stream;
    *changes = NULL;
    if (strcmp(before, now) == 0)
        return DML_OK;
    enum dml_status status = read_items(before, &items[0], &counts[0]);
    if (!status)
        status = read_items(now, &items[1], &counts[1]);
    if (!status)
        status = dml_stream_open(&stream);
    if (!status) {
        list(stream.file, items[0], counts[0], items[1], counts[1]);
        status = dml_stream_close(&stream, changes);
    }
    free(items[0]);
    free(items[1]);
    return status;
}
