#include "data/layouts/lists.h"

#include "base/files.h"
#include "base/memory.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum dml_status dml_lines_open(char *path, struct dml_lines *out) {
    *out = (struct dml_lines){.path = path};
    enum dml_status status =
        path ? dml_read_text(path, "is not a text file", &out->text) : DML_ERROR_MEMORY;
    out->rest = out->text;
    return status;
}

/* Without blanks and line ends around it. */
static char *trimmed(char *line) {
    while (isspace((unsigned char)*line))
        line++;
    char *end = line + strlen(line);
    while (end > line && isspace((unsigned char)end[-1]))
        *--end = 0;
    return line;
}

char *dml_lines_next(struct dml_lines *lines) {
    while (lines->rest) {
        char *line = trimmed(strsep(&lines->rest, "\n"));
        lines->number++;
        if (*line)
            return line;
    }
    return NULL;
}

void dml_lines_close(struct dml_lines *lines) {
    free(lines->path);
    free(lines->text);
    *lines = (struct dml_lines){0};
}

bool dml_line_words(char *line, int count, char **words) {
    for (int i = 0; i < count; i++) {
        while (isspace((unsigned char)*line))
            line++;
        if (!*line)
            return false;
        words[i] = line;
        if (i == count - 1)
            break;
        line += strcspn(line, " \t");
        if (*line)
            *line++ = 0;
    }
    return true;
}

static size_t hash(const char *text) {
    uint64_t state = 0xCBF29CE484222325;
    for (; *text; text++)
        state = (state ^ (unsigned char)*text) * 0x100000001B3; /* FNV-1a */
    return (size_t)state;
}

/* The slot of a name: the class's, or the empty one where it belongs. */
static size_t *find_slot(struct dml_class_index *index, const char *name) {
    size_t at = hash(name) % index->slot_count;
    while (index->slots[at] && strcmp(index->classes->items[index->slots[at] - 1].name, name) != 0)
        at = (at + 1) % index->slot_count;
    return &index->slots[at];
}

static enum dml_status grow(struct dml_class_index *index) {
    size_t *slots = dml_alloc(index->slot_count ? index->slot_count * 2 : 256, sizeof *slots);
    if (!slots)
        return DML_ERROR_MEMORY;
    free(index->slots);
    index->slots = slots;
    index->slot_count = index->slot_count ? index->slot_count * 2 : 256;
    for (size_t c = 0; c < index->classes->count; c++)
        *find_slot(index, index->classes->items[c].name) = c + 1;
    return DML_OK;
}

enum dml_status dml_class_index_get(struct dml_class_index *index, const char *name,
                                    struct dml_class_images **out) {
    enum dml_status status = DML_OK;
    if (index->classes->count * 2 >= index->slot_count)
        status = grow(index);
    if (status)
        return status;
    size_t *slot = find_slot(index, name);
    if (!*slot) {
        status = dml_class_list_add(index->classes, name, out);
        *slot = status ? 0 : index->classes->count;
        return status;
    }
    *out = &index->classes->items[*slot - 1];
    return DML_OK;
}

void dml_class_index_free(struct dml_class_index *index) {
    free(index->slots);
    *index = (struct dml_class_index){0};
}

enum dml_status dml_list_image(const struct dml_lines *lines, const char *folder, const char *name,
                               char **path) {
    *path = *name == '/' ? dml_strdup(name) : dml_path_join(folder, name);
    if (!*path)
        return DML_ERROR_MEMORY;
    if (dml_path_exists(*path))
        return DML_OK;
    free(*path);
    *path = NULL;
    return dml_fail(DML_ERROR_INPUT, "%s: line %zu: %s: no such file in %s", lines->path,
                    lines->number, name, folder);
}

enum dml_status dml_find_below(const char *folder, const char *const *subfolders, const char *name,
                               char **out) {
    char below[PATH_MAX];
    *out = NULL;
    for (; *subfolders; subfolders++) {
        if (!dml_place(below, folder, *subfolders) || !dml_has_file(below, name))
            continue;
        *out = dml_path_join(below, name);
        return *out ? DML_OK : DML_ERROR_MEMORY;
    }
    return DML_OK;
}

bool dml_place(char out[PATH_MAX], const char *folder, const char *name) {
    int length = snprintf(out, PATH_MAX, "%s%s%s", folder, *name ? "/" : "", name);
    return length < PATH_MAX;
}

bool dml_has_below(const char *folder, const char *const *subfolders, const char *name) {
    char below[PATH_MAX];
    for (; *subfolders; subfolders++)
        if (dml_place(below, folder, *subfolders) && dml_has_file(below, name))
            return true;
    return false;
}

bool dml_has_file(const char *folder, const char *name) {
    char path[PATH_MAX];
    return dml_place(path, folder, name) && dml_path_exists(path) && !dml_is_folder(path);
}

bool dml_has_folder(const char *folder, const char *name) {
    char path[PATH_MAX];
    return dml_place(path, folder, name) && dml_is_folder(path);
}
