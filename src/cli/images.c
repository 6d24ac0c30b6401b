#include "cli/images.h"

#include "base/files.h"
#include "base/memory.h"
#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

/* Paths found so far, each with its class's name. */
struct found {
    struct image {
        char *path, *class;
    } * items;
    size_t count, capacity;
};

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length > tail && strcasecmp(text + length - tail, end) == 0;
}

static bool is_image(const char *path) {
    return ends_with(path, ".jpg") || ends_with(path, ".jpeg") || ends_with(path, ".png");
}

/* Takes ownership of `path`, which may be NULL where its allocation failed. */
static enum dml_status add(struct found *found, char *path, const char *class) {
    char *name = dml_strdup(class);
    enum dml_status status = path && name ? DML_OK : DML_ERROR_MEMORY;
    if (!status)
        status = dml_grow(&found->items, &found->capacity, found->count + 1, sizeof *found->items);
    if (status) {
        free(path);
        free(name);
        return status;
    }
    found->items[found->count++] = (struct image){path, name};
    return DML_OK;
}

/* The folders around one, to tell whether a link leads back to one of them. */
struct around {
    const struct around *outer;
    dev_t device;
    ino_t node;
};

static bool is_loop(const struct around *inner) {
    for (const struct around *at = inner->outer; at; at = at->outer)
        if (at->device == inner->device && at->node == inner->node)
            return true;
    return false;
}

static enum dml_status add_folder(struct found *found, const char *folder,
                                  const struct around *outer) {
    struct dirent **entries;
    struct stat info;
    if (stat(folder, &info) != 0)
        return dml_fail(DML_ERROR_IO, "%s: cannot be read: %s", folder, strerror(errno));
    const struct around own = {outer, info.st_dev, info.st_ino};
    if (is_loop(&own))
        return DML_OK;
    int count = scandir(folder, &entries, NULL, alphasort);
    enum dml_status status = DML_OK;
    if (count < 0)
        return dml_fail(DML_ERROR_IO, "%s: cannot be read: %s", folder, strerror(errno));
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;
        bool wanted = !status && !dml_is_clutter(name);
        char *path = wanted ? dml_path_join(folder, name) : NULL;
        if (wanted && !path)
            status = DML_ERROR_MEMORY;
        else if (path && dml_is_folder(path))
            status = add_folder(found, path, &own);
        else if (path && is_image(path)) {
            status = add(found, path, folder);
            path = NULL;
        }
        free(path);
        free(entries[i]);
    }
    free(entries);
    return status;
}

/* Adds a line's path as it is or, if only that file exists, with what `dml embed` escapes
 * decoded. */
static enum dml_status add_line(struct found *found, const char *list, const char *line) {
    char *path = dml_strdup(line);
    if (path && !dml_path_exists(path)) {
        dml_text_unescape(path);
        if (!dml_path_exists(path))
            strcpy(path, line);
    }
    if (!path || is_image(path))
        return add(found, path, "");
    free(path);
    return dml_fail(DML_ERROR_INPUT,
                    "%s: lists '%.200s', which is not the name of a JPEG or PNG file", list, line);
}

/* Paths in a list are as typed, one a line. Blank lines are skipped, and so are lines that begin
 * with # unless a file has that name. */
static enum dml_status add_list(struct found *found, const char *path) {
    char *text = NULL;
    enum dml_status status = dml_read_text(path, "is neither an image nor a list of images", &text);
    char *rest = text;
    while (rest && !status) {
        char *line = strsep(&rest, "\n");
        size_t length = strlen(line);
        if (length && line[length - 1] == '\r')
            line[--length] = 0;
        bool remark = *line == '#' && !dml_path_exists(line);
        if (length && !remark)
            status = add_line(found, path, line);
    }
    free(text);
    return status;
}

static enum dml_status add_source(struct found *found, const char *source) {
    size_t before = found->count;
    enum dml_status status;
    if (dml_is_folder(source))
        status = add_folder(found, source, NULL);
    else if (is_image(source))
        return dml_path_exists(source)
                   ? add(found, dml_strdup(source), "")
                   : dml_fail(DML_ERROR_IO, "%s: there is no such image", source);
    else
        status = add_list(found, source);
    if (!status && found->count == before)
        status = dml_fail(DML_ERROR_INPUT, "%s: has no JPEG or PNG images", source);
    return status;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Numbers the classes in order of their names, and hands over paths and names. */
static enum dml_status number(struct found *found, struct dml_part *out) {
    out->paths = dml_alloc(found->count, sizeof *out->paths);
    out->labels = dml_alloc(found->count, sizeof *out->labels);
    out->class_names = dml_alloc(found->count, sizeof *out->class_names);
    out->told = dml_alloc(found->count, sizeof *out->told);
    char **names = dml_alloc(found->count, sizeof *names);
    if (!out->paths || !out->labels || !out->class_names || !out->told || !names) {
        free(names);
        return DML_ERROR_MEMORY;
    }
    enum dml_status status = DML_OK;
    for (size_t i = 0; i < found->count; i++)
        names[i] = found->items[i].class;
    qsort(names, found->count, sizeof *names, by_name);
    for (size_t i = 0; i < found->count && !status; i++)
        if (i == 0 || strcmp(names[i], names[i - 1]) != 0) {
            out->class_names[out->classes] = dml_strdup(names[i]);
            status = out->class_names[out->classes++] ? DML_OK : DML_ERROR_MEMORY;
        }
    for (size_t i = 0; i < found->count && !status; i++) {
        const char *class = found->items[i].class;
        char **at = bsearch(&class, out->class_names, out->classes, sizeof *at, by_name);
        out->labels[i] = (int32_t)(at - out->class_names);
        out->paths[out->images++] = found->items[i].path;
        found->items[i].path = NULL;
    }
    free(names);
    return status;
}

enum dml_status dml_images_find(const struct dml_strings *sources, struct dml_part *out) {
    struct found found = {0};
    enum dml_status status = DML_OK;
    *out = (struct dml_part){.name = "images"};
    for (size_t i = 0; i < sources->count && !status; i++)
        status = add_source(&found, sources->items[i]);
    if (!status)
        status = number(&found, out);
    if (status)
        dml_images_free(out);
    for (size_t i = 0; i < found.count; i++) {
        free(found.items[i].path);
        free(found.items[i].class);
    }
    free(found.items);
    return status;
}

void dml_images_free(struct dml_part *part) {
    for (size_t i = 0; i < part->images; i++)
        free(part->paths[i]);
    for (size_t i = 0; i < part->classes; i++)
        free(part->class_names[i]);
    free(part->paths);
    free(part->class_names);
    free(part->labels);
    free((void *)part->told);
    *part = (struct dml_part){0};
}
