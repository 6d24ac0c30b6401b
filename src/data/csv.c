/* A CSV file (RFC 4180) with a header line and the columns path, label, split, and optionally
 * is_query and is_gallery. */
#include "base/files.h"
#include "base/memory.h"
#include "base/suggest.h"
#include "data/layout.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MOST_FIELDS = 256 };
enum column { PATH, LABEL, SPLIT, QUERY, GALLERY, COLUMN_COUNT };
static const char *const column_names[] = {"path", "label", "split", "is_query", "is_gallery"};
enum split { TRAIN, VAL, TEST };

/* A record's fields, decoded in place. */
struct record {
    char *fields[MOST_FIELDS];
    int count;
    size_t line; /* where it starts */
};

struct parser {
    const char *name; /* the file's, for messages */
    char *at;
    size_t line; /* that `at` is in */
};

struct row {
    char *path; /* owned until it moves into a class */
    const char *label;
    enum split split;
    uint8_t marks;
    size_t line;
};

struct rows {
    size_t count, capacity;
    struct row *items;
};

/* Reads a quoted field whose opening quote is at `at`; "" is a quote. */
static enum dml_status read_quoted(struct parser *parser, char **field) {
    size_t started = parser->line;
    char *from = parser->at + 1, *to = from;
    bool closed = false;
    *field = to;
    for (; *from; from++) {
        closed = *from == '"' && *++from != '"';
        if (closed)
            break;
        parser->line += *from == '\n';
        *to++ = *from;
    }
    if (!closed)
        return dml_fail(DML_ERROR_INPUT, "%s: line %zu: a quote is not closed", parser->name,
                        started);
    if (*from && !strchr(",\r\n", *from))
        return dml_fail(DML_ERROR_INPUT, "%s: line %zu: text behind a closing quote", parser->name,
                        parser->line);
    parser->at = from;
    *to = 0;
    return DML_OK;
}

/* Reads one record. The character behind a field is looked at before a 0 takes its place. */
static enum dml_status read_record(struct parser *parser, struct record *out) {
    enum dml_status status;
    out->count = 0;
    out->line = parser->line;
    for (;;) {
        if (out->count == MOST_FIELDS)
            return dml_fail(DML_ERROR_INPUT, "%s: line %zu: more than %d fields", parser->name,
                            parser->line, MOST_FIELDS);
        char **field = &out->fields[out->count++];
        if (*parser->at == '"') {
            status = read_quoted(parser, field);
            if (status)
                return status;
        } else {
            *field = parser->at;
            parser->at += strcspn(parser->at, ",\r\n");
        }
        char end = *parser->at;
        if (end)
            *parser->at++ = 0;
        if (end == ',')
            continue;
        if (end == '\r' && *parser->at == '\n')
            parser->at++;
        parser->line += end != 0;
        return DML_OK;
    }
}

/* Which field is which column; -1 for one that is not there. */
static enum dml_status read_header(struct parser *parser, int columns[COLUMN_COUNT], int *fields) {
    struct record header;
    enum dml_status status = read_record(parser, &header);
    if (status)
        return status;
    *fields = header.count;
    for (int c = 0; c < COLUMN_COUNT; c++) {
        struct dml_suggestion near = dml_suggestion_start(column_names[c]);
        columns[c] = -1;
        for (int i = 0; i < header.count; i++) {
            dml_suggestion_offer(&near, header.fields[i]);
            if (strcmp(header.fields[i], column_names[c]) == 0)
                columns[c] = i;
        }
        if (columns[c] < 0 && c <= SPLIT)
            return dml_fail(DML_ERROR_INPUT,
                            "%s: line 1: no column \"%s\"%s%s%s; path, label and split are needed",
                            parser->name, column_names[c], near.best ? " (but \"" : "",
                            near.best ? near.best : "", near.best ? "\")" : "");
    }
    return DML_OK;
}

static bool read_flag(const char *text, bool *out) {
    static const char *const yes[] = {"1", "true", "yes"}, *const no[] = {"0", "false", "no"};
    for (int i = 0; i < 3; i++) {
        if (strcasecmp(text, yes[i]) != 0 && strcasecmp(text, no[i]) != 0)
            continue;
        *out = strcasecmp(text, yes[i]) == 0;
        return true;
    }
    return false;
}

/* The two columns of flags; an empty one is yes. */
static enum dml_status read_marks(const struct parser *parser, const struct record *record,
                                  const int columns[COLUMN_COUNT], uint8_t *marks) {
    static const uint8_t bits[] = {DML_MARK_QUERY, DML_MARK_GALLERY};
    *marks = 0;
    for (int c = QUERY; c <= GALLERY; c++) {
        bool set = true;
        const char *text = columns[c] < 0 ? "" : record->fields[columns[c]];
        if (*text && !read_flag(text, &set))
            return dml_fail(DML_ERROR_INPUT, "%s: line %zu: %s is \"%s\", neither 1 nor 0",
                            parser->name, record->line, column_names[c], text);
        if (set)
            *marks |= bits[c - QUERY];
    }
    return DML_OK;
}

static enum dml_status read_split(const struct parser *parser, const struct record *record,
                                  const char *text, enum split *out) {
    static const char *const names[] = {"train", "val", "test"};
    for (int i = 0; i < 3; i++)
        if (strcmp(text, names[i]) == 0) {
            *out = (enum split)i;
            return DML_OK;
        }
    return dml_fail(DML_ERROR_INPUT, "%s: line %zu: split is \"%s\", not train, val or test",
                    parser->name, record->line, text);
}

/* A relative path is looked for beside the CSV file, then under --source_path. */
static enum dml_status find_file(const struct parser *parser, const struct record *record,
                                 const char *path, const char *source_path, char **out) {
    const char *slash = strrchr(parser->name, '/');
    int length = slash ? (int)(slash - parser->name) + 1 : 0;
    *out = *path == '/' ? dml_strdup(path) : dml_format("%.*s%s", length, parser->name, path);
    if (!*out)
        return DML_ERROR_MEMORY;
    if (dml_path_exists(*out))
        return DML_OK;
    free(*out);
    *out = *path == '/' ? NULL : dml_path_join(source_path, path);
    if (*out && dml_path_exists(*out))
        return DML_OK;
    free(*out);
    *out = NULL;
    return dml_fail(DML_ERROR_INPUT, "%s: line %zu: %s: no such file%s%s", parser->name,
                    record->line, path, *path == '/' ? "" : ", neither beside the CSV file nor in ",
                    *path == '/' ? "" : source_path);
}

static enum dml_status add_row(struct parser *parser, const struct record *record,
                               const int columns[COLUMN_COUNT], int fields, const char *source_path,
                               struct rows *rows) {
    if (record->count != fields)
        return dml_fail(DML_ERROR_INPUT, "%s: line %zu: %d fields, but the header has %d",
                        parser->name, record->line, record->count, fields);
    const char *path = record->fields[columns[PATH]], *label = record->fields[columns[LABEL]];
    if (!*path || !*label)
        return dml_fail(DML_ERROR_INPUT, "%s: line %zu: an empty %s", parser->name, record->line,
                        *path ? "label" : "path");
    void *items = rows->items;
    enum dml_status status =
        dml_grow(&items, &rows->capacity, rows->count + 1, sizeof *rows->items);
    rows->items = items;
    if (status)
        return status;
    struct row row = {.label = label, .line = record->line};
    status = read_split(parser, record, record->fields[columns[SPLIT]], &row.split);
    if (!status)
        status = read_marks(parser, record, columns, &row.marks);
    if (!status)
        status = find_file(parser, record, path, source_path, &row.path);
    if (!status)
        rows->items[rows->count++] = row;
    return status;
}

static enum dml_status read_rows(struct parser *parser, const char *source_path,
                                 struct rows *rows) {
    int columns[COLUMN_COUNT], fields = 0;
    struct record record;
    if (strncmp(parser->at, "\xEF\xBB\xBF", 3) == 0) /* a byte order mark */
        parser->at += 3;
    enum dml_status status = read_header(parser, columns, &fields);
    while (!status && *parser->at) {
        status = read_record(parser, &record);
        bool blank = record.count == 1 && *record.fields[0] == 0;
        if (!status && !blank)
            status = add_row(parser, &record, columns, fields, source_path, rows);
    }
    if (!status && rows->count == 0)
        status = dml_fail(DML_ERROR_INPUT, "%s: lists no images", parser->name);
    return status;
}

/* By part, then label, then the file's order. */
static int by_label(const void *a, const void *b) {
    const struct row *x = a, *y = b;
    if (x->split != y->split)
        return x->split < y->split ? -1 : 1;
    int order = strcmp(x->label, y->label);
    return order ? order : (x->line > y->line) - (x->line < y->line);
}

static enum dml_status move_rows(struct rows *rows, bool marked, struct dml_layout *out) {
    struct dml_class_list *const parts[] = {&out->training, &out->validation, &out->testing};
    enum dml_status status = DML_OK;
    struct dml_class_images *class = NULL;
    qsort(rows->items, rows->count, sizeof *rows->items, by_label);
    for (size_t i = 0; i < rows->count && !status; i++) {
        struct row *row = &rows->items[i], *before = row - 1;
        if (i == 0 || row->split != before->split || strcmp(row->label, before->label) != 0)
            status = dml_class_list_add(parts[row->split], row->label, &class);
        if (status)
            break;
        char *path = row->path;
        row->path = NULL;
        status =
            marked ? dml_class_add_marked(class, path, row->marks) : dml_class_add(class, path);
    }
    for (int p = 0; p < 3 && !status; p++)
        dml_class_list_sort(parts[p]);
    return status;
}

enum dml_status dml_layout_csv(const char *path, const char *source_path, struct dml_layout *out) {
    struct rows rows = {0, 0, NULL};
    struct parser parser = {.name = path, .line = 1};
    char *text = NULL;
    size_t size;
    enum dml_status status = dml_read_file(path, &text, &size);
    if (!status && strlen(text) != size)
        status = dml_fail(DML_ERROR_INPUT, "%s: is not a text file", path);
    if (!status) {
        parser.at = text;
        status = read_rows(&parser, source_path, &rows);
    }
    if (!status) {
        bool marked = false;
        for (size_t i = 0; i < rows.count; i++)
            marked |= rows.items[i].marks != (DML_MARK_QUERY | DML_MARK_GALLERY);
        status = move_rows(&rows, marked, out);
    }
    for (size_t i = 0; i < rows.count; i++)
        free(rows.items[i].path);
    free(rows.items);
    free(text);
    return status;
}
