#ifndef DML_DATA_LAYOUTS_LISTS_H
#define DML_DATA_LAYOUTS_LISTS_H

#include "data/layout.h"

#include <limits.h>

/* What layouts that come with lists of images share. */

/* The lines of a text file, however they end, without a byte order mark. */
struct dml_lines {
    char *path, *text, *rest;
    size_t number; /* of the line given last, from 1 */
};

/* Takes ownership of `path`, which may be NULL where its allocation failed. Close it on failure as
 * well. */
enum dml_status dml_lines_open(char *path, struct dml_lines *out);
/* The next line that is not blank, without blanks at its ends; NULL after the last. It stays until
 * the lines are closed. */
char *dml_lines_next(struct dml_lines *lines);
void dml_lines_close(struct dml_lines *lines);

/* Cuts a line at its blanks into `count` words, the last of which is all that is left; false when
 * there are fewer. */
bool dml_line_words(char *line, int count, char **words);

/* Classes by name, in the order in which they first appear. Zero-initialised but for `classes`. */
struct dml_class_index {
    struct dml_class_list *classes;
    size_t *slots, slot_count; /* a hash table of class numbers, from 1 */
};
enum dml_status dml_class_index_get(struct dml_class_index *index, const char *name,
                                    struct dml_class_images **out);
void dml_class_index_free(struct dml_class_index *index);

/* An image from a list, which must exist; the failure names the list and its line. */
enum dml_status dml_list_image(const struct dml_lines *lines, const char *folder, const char *name,
                               char **path);

/* <folder>/<subfolder>/<name>, a file, where one of the `subfolders` ("": the folder itself;
 * NULL-terminated) has it; *out is NULL where none has. */
enum dml_status dml_find_below(const char *folder, const char *const *subfolders, const char *name,
                               char **out);

/* These tell a folder's layout, and allocate nothing: a layout must not be taken for another
 * because memory ran out. */
bool dml_has_below(const char *folder, const char *const *subfolders, const char *name);
bool dml_has_file(const char *folder, const char *name);
bool dml_has_folder(const char *folder, const char *name);
/* <folder>/<name>, or the folder where the name is empty; false where it is too long. */
bool dml_place(char out[PATH_MAX], const char *folder, const char *name);

#endif
