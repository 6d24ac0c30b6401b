#include "data/csv.h"

#include "base/files.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* The first of , ; and tab found between the fields of the first line. Excel may name it before
 * that, in a line "sep=;". */
static void find_separator(struct dml_csv *csv) {
    char *at = csv->at;
    csv->separator = ',';
    if (strncmp(at, "sep=", 4) == 0 && at[4] && strchr(",;\t|", at[4]) &&
        (at[5] == '\n' || at[5] == '\r')) {
        csv->separator = at[4];
        csv->at = at + (at[5] == '\r' && at[6] == '\n' ? 7 : 6);
        csv->line++;
        return;
    }
    at += strspn(at, "\r\n");
    bool semicolon = false, tab = false;
    for (bool quoted = false; *at && (quoted || !strchr("\r\n", *at)); at++) {
        quoted ^= *at == '"';
        if (!quoted && *at == ',')
            return;
        semicolon |= !quoted && *at == ';';
        tab |= !quoted && *at == '\t';
    }
    csv->separator = semicolon ? ';' : tab ? '\t' : ',';
}

enum dml_status dml_csv_open(const char *path, struct dml_csv *out) {
    *out = (struct dml_csv){.name = path, .line = 1};
    enum dml_status status = dml_read_text(path, "is not a text file", &out->text);
    if (!status) {
        out->at = out->text;
        find_separator(out);
    }
    return status;
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
    if (*from && *from != csv->separator && !strchr("\r\n", *from))
        return dml_fail(DML_ERROR_INPUT, "%s: line %zu: text after a closing quote", csv->name,
                        csv->line);
    csv->at = from;
    *to = 0;
    return DML_OK;
}

/* The character after a field is looked at before a 0 takes its place. */
static enum dml_status read_record(struct dml_csv *csv, struct dml_csv_record *out) {
    const char ends[] = {csv->separator, '\r', '\n', 0};
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
        char *end = csv->at + (quoted ? 0 : strcspn(csv->at, ends));
        if (!quoted)
            *field = csv->at;
        char last = *end;
        csv->at = last ? end + 1 : end;
        *end = 0;
        if (last && last == csv->separator)
            continue;
        if (last == '\r' && *csv->at == '\n')
            csv->at++;
        csv->line += last != 0;
        return DML_OK;
    }
}

static bool is_blank(const struct dml_csv_record *record) {
    int i = 0;
    while (i < record->count && *record->fields[i] == 0)
        i++;
    return i == record->count;
}

enum dml_status dml_csv_next(struct dml_csv *csv, struct dml_csv_record *out) {
    enum dml_status status = DML_OK;
    out->count = 0;
    while (!status && out->count == 0 && *csv->at) {
        status = read_record(csv, out);
        if (!status && is_blank(out))
            out->count = 0;
    }
    return status;
}
