#include "data/csv.h"

#include "base/files.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum dml_status dml_csv_open(const char *path, struct dml_csv *out) {
    size_t size;
    *out = (struct dml_csv){.name = path, .line = 1};
    enum dml_status status = dml_read_file(path, &out->text, &size);
    if (status)
        return status;
    if (strlen(out->text) != size)
        return dml_fail(DML_ERROR_INPUT, "%s: is not a text file", path);
    out->at = out->text;
    if (strncmp(out->at, "\xEF\xBB\xBF", 3) == 0)
        out->at += 3;
    return DML_OK;
}

void dml_csv_close(struct dml_csv *csv) {
    free(csv->text);
    *csv = (struct dml_csv){0};
}

/* Reads a quoted field whose opening quote is at `at`; "" is a quote. */
static enum dml_status read_quoted(struct dml_csv *csv, char **field) {
    size_t started = csv->line;
    char *from = csv->at + 1, *to = from;
    bool closed = false;
    *field = to;
    for (; *from; from++) {
        closed = *from == '"' && *++from != '"';
        if (closed)
            break;
        csv->line += *from == '\n';
        *to++ = *from;
    }
    if (!closed)
        return dml_fail(DML_ERROR_INPUT, "%s: line %zu: a quote is not closed", csv->name, started);
    if (*from && !strchr(",\r\n", *from))
        return dml_fail(DML_ERROR_INPUT, "%s: line %zu: text after a closing quote", csv->name,
                        csv->line);
    csv->at = from;
    *to = 0;
    return DML_OK;
}

/* The character after a field is looked at before a 0 takes its place. */
static enum dml_status read_record(struct dml_csv *csv, struct dml_csv_record *out) {
    out->count = 0;
    out->line = csv->line;
    for (;;) {
        if (out->count == DML_CSV_FIELDS)
            return dml_fail(DML_ERROR_INPUT, "%s: line %zu: more than %d fields", csv->name,
                            csv->line, DML_CSV_FIELDS);
        char **field = &out->fields[out->count++];
        bool quoted = *csv->at == '"';
        enum dml_status status = quoted ? read_quoted(csv, field) : DML_OK;
        if (status)
            return status;
        char *end = csv->at + (quoted ? 0 : strcspn(csv->at, ",\r\n"));
        if (!quoted)
            *field = csv->at;
        char last = *end;
        csv->at = last ? end + 1 : end;
        *end = 0;
        if (last == ',')
            continue;
        if (last == '\r' && *csv->at == '\n')
            csv->at++;
        csv->line += last != 0;
        return DML_OK;
    }
}

enum dml_status dml_csv_next(struct dml_csv *csv, struct dml_csv_record *out) {
    enum dml_status status = DML_OK;
    out->count = 0;
    while (!status && out->count == 0 && *csv->at) {
        status = read_record(csv, out);
        if (!status && out->count == 1 && *out->fields[0] == 0)
            out->count = 0;
    }
    return status;
}
