#ifndef DML_BASE_FILES_H
#define DML_BASE_FILES_H

#include "dml/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* A file that appears whole or not at all: written to a temporary name beside it, synced and
 * renamed on commit. */
struct dml_output {
    FILE *file;
    char *path, *temporary;
};

enum dml_status dml_output_open(struct dml_output *output, const char *path);
enum dml_status dml_output_commit(struct dml_output *output); /* checks every write error */
void dml_output_discard(struct dml_output *output);           /* no effect after a commit */

/* Whether a file can be written there, asked before the work whose result it will hold: fails as
 * dml_output_open and commit would. Leaves nothing behind. */
enum dml_status dml_output_check(const char *path);

/* Removes the temporary files that killed processes left in `folder`: those for a file called
 * `name`, or (NULL) for any file. What a running process is writing stays. */
void dml_output_clean(const char *folder, const char *name);

/* Writes a whole file in this way. */
enum dml_status dml_write_file(const char *path, const void *data, size_t size);

/* The first bytes of a file of the system's, and a 0 byte, in text (size): "" where it cannot be
 * read. Needs no memory, so that there is always the same answer. */
void dml_read_start(const char *path, char *text, size_t size);

/* Reads a whole file; the result has a 0 byte after it and is freed with free(). */
enum dml_status dml_read_file(const char *path, char **data, size_t *size);

/* The same for a text, without its byte order mark. A file that holds a 0 byte fails with
 * `otherwise` ("is not a text file"), or with a message that names UTF-16 if it is that. */
enum dml_status dml_read_text(const char *path, const char *otherwise, char **text);

/* A file mapped for reading; the mapping is at least one byte long. */
struct dml_mapping {
    const unsigned char *data;
    size_t size;
};
enum dml_status dml_map_file(const char *path, struct dml_mapping *mapping);
void dml_unmap_file(struct dml_mapping *mapping);

enum dml_status dml_make_folders(const char *path); /* like mkdir -p */
bool dml_path_exists(const char *path);
bool dml_is_folder(const char *path);
/* Whether a name in a folder is hidden, or one that systems leave beside people's own files. */
bool dml_is_clutter(const char *name);
char *dml_path_join(const char *folder, const char *name); /* free() it */

#endif
