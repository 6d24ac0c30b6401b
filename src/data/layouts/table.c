/* A CSV file with a header line and the columns path, label, split, and optionally is_query,
 * is_gallery, the box x_1, x_2, y_1, y_2 of the image in its file and its sequence, as
 * open-metric-learning has them; their order and other columns do not matter. */
#include "base/files.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/suggest.h"
#include "data/csv.h"
#include "data/layout.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum column {
    PATH,
    LABEL,
    SPLIT,
    QUERY,
    GALLERY,
    LEFT,
    RIGHT,
    TOP,
    BOTTOM,
    SEQUENCE,
    COLUMN_COUNT
};
static const char *const column_names[] = {"path", "label", "split", "is_query", "is_gallery",
                                           "x_1",  "x_2",   "y_1",   "y_2",      "sequence"};
enum split { TRAIN, VAL, TEST };

struct row {
    char *path;  /* owned until it moves into a class */
    char *label; /* in the file's text, as is the sequence */
    char *sequence;
    int32_t sequence_number; /* from 1; 0: it is in none */
    enum split split;
    struct dml_rect box;
    uint8_t marks;
    size_t line;
};

struct table {
    struct dml_csv csv;
    int columns[COLUMN_COUNT]; /* which field is which column; -1: not there */
    int fields;
    const char *source_path;
    bool sequences; /* some rows belong to one */
    bool mixed;     /* a sequence has images of several classes */
    bool validation, tests;
    size_t count, capacity;
    struct row *rows;
};

static enum dml_status read_header(struct table *table) {
    struct dml_csv_record header;
    enum dml_status status = dml_csv_next(&table->csv, &header);
    if (status)
        return status;
    table->fields = header.count;
    for (int c = 0; c < COLUMN_COUNT; c++) {
        struct dml_suggestion near = dml_suggestion_start(column_names[c]);
        table->columns[c] = -1;
        for (int i = 0; i < header.count; i++) {
            dml_suggestion_offer(&near, header.fields[i]);
            if (strcmp(header.fields[i], column_names[c]) != 0)
                continue;
            if (table->columns[c] >= 0)
                return dml_fail(DML_ERROR_INPUT, "%s: line 1: column \"%s\" is there twice",
                                table->csv.name, column_names[c]);
            table->columns[c] = i;
        }
        if (table->columns[c] < 0 && c <= SPLIT)
            return dml_fail(DML_ERROR_INPUT,
                            "%s: line 1: no column \"%s\"%s%s%s; path, label and split are needed",
                            table->csv.name, column_names[c], near.best ? " (but \"" : "",
                            near.best ? near.best : "", near.best ? "\")" : "");
    }
    return DML_OK;
}

/* The record's text in a column; "" where there is none. */
static char *text_of(const struct table *table, const struct dml_csv_record *record,
                     enum column column) {
    static char nothing[] = "";
    return table->columns[column] < 0 ? nothing : record->fields[table->columns[column]];
}

static bool read_number(const char *text, double *out) {
    char *end;
    *out = strtod(text, &end);
    return end != text && *end == 0 && isfinite(*out);
}

static bool read_flag(const char *text, bool *out) {
    static const char *const yes[] = {"true", "yes"}, *const no[] = {"false", "no"};
    double number;
    if (read_number(text, &number)) {
        *out = number == 1;
        return number == 1 || number == 0;
    }
    for (int i = 0; i < 2; i++) {
        if (strcasecmp(text, yes[i]) != 0 && strcasecmp(text, no[i]) != 0)
            continue;
        *out = strcasecmp(text, yes[i]) == 0;
        return true;
    }
    return false;
}

/* The two columns of flags; an empty one is yes. They are for what is searched: a training image
 * that is neither is like any other. */
static enum dml_status read_marks(const struct table *table, const struct dml_csv_record *record,
                                  struct row *row) {
    static const uint8_t bits[] = {DML_MARK_QUERY, DML_MARK_GALLERY};
    row->marks = 0;
    for (enum column c = QUERY; c <= GALLERY; c++) {
        bool set = true;
        const char *text = text_of(table, record, c);
        if (*text && !read_flag(text, &set))
            return dml_fail(DML_ERROR_INPUT, "%s: line %zu: %s is \"%s\", neither 1 nor 0",
                            table->csv.name, record->line, column_names[c], text);
        if (set)
            row->marks |= bits[c - QUERY];
    }
    if (row->split == TRAIN && row->marks == 0)
        row->marks = DML_MARK_BOTH;
    return DML_OK;
}

static enum dml_status read_box(const struct table *table, const struct dml_csv_record *record,
                                struct dml_rect *box) {
    int sides[4], given = 0;
    for (enum column c = LEFT; c <= BOTTOM; c++) {
        double number = 0;
        const char *text = text_of(table, record, c);
        if (*text && (!read_number(text, &number) || number != floor(number) || number < 0 ||
                      number > INT_MAX))
            return dml_fail(DML_ERROR_INPUT, "%s: line %zu: %s is \"%s\", not a pixel number",
                            table->csv.name, record->line, column_names[c], text);
        sides[c - LEFT] = (int)number;
        given += *text != 0;
    }
    if (given == 0)
        return DML_OK;
    if (given < 4)
        return dml_fail(DML_ERROR_INPUT, "%s: line %zu: a box needs all of x_1, x_2, y_1 and y_2",
                        table->csv.name, record->line);
    if (sides[1] <= sides[0] || sides[3] <= sides[2])
        return dml_fail(DML_ERROR_INPUT, "%s: line %zu: the box from %d,%d to %d,%d has no pixels",
                        table->csv.name, record->line, sides[0], sides[2], sides[1], sides[3]);
    *box = (struct dml_rect){sides[0], sides[2], sides[1] - sides[0], sides[3] - sides[2]};
    return DML_OK;
}

static enum dml_status read_split(struct table *table, const struct dml_csv_record *record,
                                  enum split *out) {
    static const char *const names[] = {"train", "val", "test", "validation"};
    const char *text = text_of(table, record, SPLIT);
    for (int i = 0; i < 4; i++)
        if (strcmp(text, names[i]) == 0) {
            *out = i == 3 ? VAL : (enum split)i;
            table->validation |= i == 3;
            table->tests |= *out == TEST;
            return DML_OK;
        }
    return dml_fail(DML_ERROR_INPUT,
                    "%s: line %zu: split is \"%s\", not train, val, validation or test",
                    table->csv.name, record->line, text);
}

/* A relative path is looked for beside the CSV file, then under --source_path. */
static enum dml_status find_file(const struct table *table, const struct dml_csv_record *record,
                                 const char *path, char **out) {
    const char *slash = strrchr(table->csv.name, '/');
    int length = slash ? (int)(slash - table->csv.name) + 1 : 0;
    *out = *path == '/' ? dml_strdup(path) : dml_format("%.*s%s", length, table->csv.name, path);
    if (!*out)
        return DML_ERROR_MEMORY;
    if (dml_path_exists(*out))
        return DML_OK;
    free(*out);
    *out = *path == '/' ? NULL : dml_path_join(table->source_path, path);
    if (*out && dml_path_exists(*out))
        return DML_OK;
    free(*out);
    *out = NULL;
    return dml_fail(DML_ERROR_INPUT, "%s: line %zu: %s: no such file%s%s", table->csv.name,
                    record->line, path, *path == '/' ? "" : ", neither beside the CSV file nor in ",
                    *path == '/' ? "" : table->source_path);
}

static enum dml_status add_row(struct table *table, const struct dml_csv_record *record) {
    if (record->count != table->fields)
        return dml_fail(DML_ERROR_INPUT, "%s: line %zu: %d fields, but the header has %d",
                        table->csv.name, record->line, record->count, table->fields);
    const char *path = text_of(table, record, PATH);
    static char none[] = "";
    struct row row = {
        .label = text_of(table, record, LABEL), .sequence = none, .line = record->line};
    if (!*path || !*row.label)
        return dml_fail(DML_ERROR_INPUT, "%s: line %zu: an empty %s", table->csv.name, record->line,
                        *path ? "label" : "path");
    enum dml_status status =
        dml_grow(&table->rows, &table->capacity, table->count + 1, sizeof *table->rows);
    if (!status)
        status = read_split(table, record, &row.split);
    if (!status)
        status = read_marks(table, record, &row);
    if (row.split != TRAIN) { /* they are for what is searched */
        row.sequence = text_of(table, record, SEQUENCE);
        table->sequences |= *row.sequence != 0;
    }
    if (!status)
        status = read_box(table, record, &row.box);
    if (!status)
        status = find_file(table, record, path, &row.path);
    if (!status)
        table->rows[table->count++] = row;
    return status;
}

static enum dml_status read_rows(struct table *table) {
    struct dml_csv_record record;
    enum dml_status status = read_header(table);
    while (!status) {
        status = dml_csv_next(&table->csv, &record);
        if (!status && record.count == 0)
            break;
        if (!status)
            status = add_row(table, &record);
    }
    if (!status && table->count == 0)
        status = dml_fail(DML_ERROR_INPUT, "%s: lists no images", table->csv.name);
    return status;
}

/* The ".0" that a number ends in, or NULL. */
static char *decimals(char *label) {
    char *digits = label + (*label == '-'), *end = digits + strspn(digits, "0123456789");
    return end > digits && strcmp(end, ".0") == 0 ? end : NULL;
}

/* pandas writes whole numbers as 3.0 where a column had gaps: 3 and 3.0 are one class when all
 * labels are whole numbers. */
static void unify_labels(struct table *table) {
    for (size_t i = 0; i < table->count; i++) {
        const char *digits = table->rows[i].label;
        digits += *digits == '-';
        if (!decimals(table->rows[i].label) && (!*digits || digits[strspn(digits, "0123456789")]))
            return;
    }
    for (size_t i = 0; i < table->count; i++) {
        char *end = decimals(table->rows[i].label);
        if (end)
            *end = 0;
    }
}

static int by_sequence(const void *a, const void *b) {
    const struct row *x = a, *y = b;
    return strcmp(x->sequence, y->sequence);
}

/* Numbers the sequences. */
static void number_sequences(struct table *table) {
    int32_t number = 0;
    if (!table->sequences)
        return;
    qsort(table->rows, table->count, sizeof *table->rows, by_sequence);
    for (size_t i = 0; i < table->count; i++) {
        struct row *row = &table->rows[i], *before = row - 1;
        bool goes_on = i > 0 && strcmp(row->sequence, before->sequence) == 0;
        if (!*row->sequence)
            continue;
        number += !goes_on;
        row->sequence_number = number;
        table->mixed |= goes_on && strcmp(row->label, before->label) != 0;
    }
}

/* By part, then label, then the file's order. */
static int by_label(const void *a, const void *b) {
    const struct row *x = a, *y = b;
    if (x->split != y->split)
        return x->split < y->split ? -1 : 1;
    int order = strcmp(x->label, y->label);
    return order ? order : (x->line > y->line) - (x->line < y->line);
}

/* Where there is no test, as with open-metric-learning, "validation" is what is tested. */
static enum dml_status move_rows(struct table *table, struct dml_layout *out) {
    bool shift = table->validation && !table->tests;
    struct dml_class_list *const parts[] = {
        &out->training, shift ? &out->testing : &out->validation, &out->testing};
    enum dml_status status = DML_OK;
    struct dml_class_images *class = NULL;
    qsort(table->rows, table->count, sizeof *table->rows, by_label);
    for (size_t i = 0; i < table->count && !status; i++) {
        struct row *row = &table->rows[i], *before = row - 1;
        if (i == 0 || row->split != before->split || strcmp(row->label, before->label) != 0)
            status = dml_class_list_add(parts[row->split], row->label, &class);
        if (status)
            break;
        struct dml_listed_image image = {row->path, row->box, row->marks, row->sequence_number};
        row->path = NULL;
        status = dml_class_add_image(class, image);
    }
    for (int p = 0; p < 3 && !status; p++)
        dml_class_list_sort(parts[p]);
    return status;
}

enum dml_status dml_layout_table(const char *path, const char *source_path,
                                 struct dml_layout *out) {
    struct table table = {.source_path = source_path};
    enum dml_status status = dml_csv_open(path, &table.csv);
    if (!status)
        status = read_rows(&table);
    if (!status) {
        unify_labels(&table);
        number_sequences(&table);
        status = move_rows(&table, out);
    }
    if (!status && table.mixed)
        dml_warn("%s: a sequence has images of several classes: a query is not compared with "
                 "images of both its own sequence and class",
                 path);
    for (size_t i = 0; i < table.count; i++)
        free(table.rows[i].path);
    free(table.rows);
    dml_csv_close(&table.csv);
    return status;
}
