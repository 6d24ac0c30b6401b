#ifndef DML_DATA_CSV_H
#define DML_DATA_CSV_H

#include "dml/error.h"

#include <stddef.h>

/* Records of a CSV file (RFC 4180; lines may end in LF, CRLF or CR). Where the first line has no
 * comma its fields may be separated by semicolons or tabs, as Excel writes them in many
 * countries. */

enum { DML_CSV_FIELDS = 256 };

/* A record's fields, decoded in place in the file's text. */
struct dml_csv_record {
    char *fields[DML_CSV_FIELDS];
    int count;
    size_t line; /* where it starts, from 1 */
};

struct dml_csv {
    const char *name; /* the file's, for messages */
    char *text, *at;
    size_t line; /* that `at` is in */
    char separator;
};

/* Reads the file; a byte order mark is skipped. `path` must stay. Close it on failure too. */
enum dml_status dml_csv_open(const char *path, struct dml_csv *out);
/* Reads the next record; where there is none, its count is 0. Records without any text are
 * skipped. */
enum dml_status dml_csv_next(struct dml_csv *csv, struct dml_csv_record *out);
void dml_csv_close(struct dml_csv *csv);

#endif
