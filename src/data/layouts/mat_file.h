#ifndef DML_DATA_LAYOUTS_MAT_FILE_H
#define DML_DATA_LAYOUTS_MAT_FILE_H

#include "dml/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An array of structs in a MATLAB file (version 5 to 7, little-endian), as data sets use for
 * annotations. */

struct dml_mat {
    const char *path; /* for messages */
    char *file;
    size_t file_size;
    uint8_t *inflated; /* the variable, where the file holds it compressed */
    size_t rows, fields;
    char **names; /* (fields) */
    struct dml_mat_cell {
        const uint8_t *bytes;
        size_t size;
    } * cells; /* (rows, fields): the values, as matrices without their tags */
};

/* Reads the variable of that name. `path` must stay. Close it on failure too. DML_ERROR_INPUT: no
 * such file, or no such variable in it. */
enum dml_status dml_mat_open(const char *path, const char *variable, struct dml_mat *out);
void dml_mat_close(struct dml_mat *mat);

/* The number of a field; -1: there is none. */
int dml_mat_field(const struct dml_mat *mat, const char *name);
/* A row's value: one whole number, or ASCII text that fits `size` with its 0. False when it is
 * something else. */
bool dml_mat_number(const struct dml_mat *mat, size_t row, int field, int64_t *out);
bool dml_mat_text(const struct dml_mat *mat, size_t row, int field, char *out, size_t size);

#endif
