#include "base/files.h"
#include "base/memory.h"
#include "base/stream.h"
#include "base/text.h"
#include "sweep/sweep.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_WORDS = 512, MAX_LISTS = 16, MAX_ITEMS = 1000, MAX_RUNS = 100000, NUMBERED = 10 };

/* Words of a line, cut out of it. */
struct words {
    char *items[MAX_WORDS];
    size_t count;
};

static void free_words(struct words *words) {
    for (size_t i = 0; i < words->count; i++)
        free(words->items[i]);
    words->count = 0;
}

/* Writes the value of "$NAME" or "${NAME}" at `at`; returns what is after it. */
static const char *variable(const char *at, FILE *out, enum dml_status *status) {
    char name[64];
    bool braces = at[1] == '{';
    const char *begin = at + (braces ? 2 : 1), *end = begin;
    while (isalnum((unsigned char)*end) || *end == '_')
        end++;
    snprintf(name, sizeof name, "%.*s", (int)(end - begin), begin);
    if (end == begin || (braces && *end != '}')) {
        fputc('$', out);
        return at + 1;
    }
    const char *value = getenv(name);
    if (value)
        fputs(value, out);
    else
        *status = dml_fail(DML_ERROR_INPUT, "the environment variable %s is not set", name);
    return braces ? end + 1 : end;
}

/* One word with its quotes and variables resolved; returns what is after it. */
static const char *take_word(const char *at, char **word, enum dml_status *status) {
    char quote = 0;
    struct dml_stream stream;
    *word = NULL;
    *status = dml_stream_open(&stream);
    if (*status)
        return at;
    FILE *out = stream.file;
    while (*at && (quote || !isspace((unsigned char)*at))) {
        if (quote && *at == quote) {
            quote = 0;
            at++;
        } else if (!quote && (*at == '\'' || *at == '"')) {
            quote = *at++;
        } else if (*at == '$' && quote != '\'') {
            at = variable(at, out, status);
        } else {
            fputc(*at++, out);
        }
    }
    enum dml_status closed = dml_stream_close(&stream, word);
    *status = *status ? *status : closed;
    if (quote && !*status)
        *status = dml_fail(DML_ERROR_INPUT, "a quote %c is not closed", quote);
    return at;
}

static enum dml_status split(const char *line, struct words *words) {
    enum dml_status status = DML_OK;
    words->count = 0;
    while (!status) {
        while (isspace((unsigned char)*line))
            line++;
        if (*line == 0 || *line == '#')
            break;
        if (words->count == MAX_WORDS)
            return dml_fail(DML_ERROR_INPUT, "more than %d words", MAX_WORDS);
        words->items[words->count] = NULL;
        line = take_word(line, &words->items[words->count], &status);
        words->count++;
    }
    return status;
}

/* ---- lists ---- */

/* Every list of a line is an axis; those with the same number share one. */
struct axes {
    size_t lengths[MAX_LISTS];
    size_t count;
    int of_number[NUMBERED]; /* the axis of list "N:", -1: none yet */
};

struct list {
    const char *begin, *end; /* '{' and after '}' */
    int number;              /* 0..9, or -1 */
    const char *body;
};

/* The next list in a word; a pair of braces without , or .. is text. */
static bool find_list(const char *text, struct list *list) {
    for (; (text = strchr(text, '{')); text++) {
        const char *close = strchr(text, '}');
        if (!close)
            return false;
        const char *comma = memchr(text, ',', (size_t)(close - text));
        const char *dots = memmem(text, (size_t)(close - text), "..", 2);
        bool numbered = isdigit((unsigned char)text[1]) && text[2] == ':';
        if (!comma && !dots && !numbered)
            continue;
        *list = (struct list){text, close + 1, numbered ? text[1] - '0' : -1,
                              text + (numbered ? 3 : 1)};
        return true;
    }
    return false;
}

/* "0..4" */
static bool is_range(const struct list *list, long *from, long *to) {
    char *end;
    *from = strtol(list->body, &end, 10);
    if (end == list->body || strncmp(end, "..", 2) != 0)
        return false;
    const char *second = end + 2;
    *to = strtol(second, &end, 10);
    return end != second && end + 1 == list->end;
}

static size_t list_length(const struct list *list) {
    long from, to;
    if (is_range(list, &from, &to))
        return to < from ? 0 : (size_t)to - (size_t)from + 1;
    size_t length = 1;
    for (const char *at = list->body; at + 1 < list->end; at++)
        length += *at == ',';
    return length;
}

static void put_item(const struct list *list, size_t index, FILE *out) {
    long from, to;
    if (is_range(list, &from, &to)) {
        fprintf(out, "%ld", from + (long)index);
        return;
    }
    const char *at = list->body;
    for (; index > 0; index--)
        at = strchr(at, ',') + 1;
    fwrite(at, 1, strcspn(at, ",}"), out);
}

static enum dml_status add_axis(struct axes *axes, const struct list *list) {
    size_t length = list_length(list);
    int number = list->number;
    if (length == 0 || length > MAX_ITEMS)
        return dml_fail(DML_ERROR_INPUT, "the list %.*s has %zu items",
                        (int)(list->end - list->begin), list->begin, length);
    if (number >= 0 && axes->of_number[number] >= 0) {
        size_t first = axes->lengths[axes->of_number[number]];
        return first == length
                   ? DML_OK
                   : dml_fail(DML_ERROR_INPUT,
                              "the list %.*s has %zu items, and another numbered %d "
                              "has %zu",
                              (int)(list->end - list->begin), list->begin, length, number, first);
    }
    if (axes->count == MAX_LISTS)
        return dml_fail(DML_ERROR_INPUT, "more than %d lists", MAX_LISTS);
    if (number >= 0)
        axes->of_number[number] = (int)axes->count;
    axes->lengths[axes->count++] = length;
    return DML_OK;
}

static enum dml_status find_axes(const struct words *words, struct axes *axes) {
    memset(axes, 0, sizeof *axes);
    for (int i = 0; i < NUMBERED; i++)
        axes->of_number[i] = -1;
    for (size_t w = 0; w < words->count; w++) {
        struct list list;
        for (const char *at = words->items[w]; find_list(at, &list); at = list.end) {
            enum dml_status status = add_axis(axes, &list);
            if (status)
                return status;
        }
    }
    return DML_OK;
}

/* A word with the item of each list that `indices` (one per axis) choose. `*next_axis` counts the
 * axes that were met so far. */
static char *choose(const char *word, const struct axes *axes, const size_t *indices,
                    size_t *next_axis, bool *seen) {
    char *text = NULL;
    struct list list;
    struct dml_stream stream;
    if (dml_stream_open(&stream) != DML_OK)
        return NULL;
    FILE *out = stream.file;
    const char *at = word;
    for (; find_list(at, &list); at = list.end) {
        size_t axis;
        fwrite(at, 1, (size_t)(list.begin - at), out);
        if (list.number >= 0) {
            axis = (size_t)axes->of_number[list.number];
            if (!seen[list.number]) /* its axis was counted where it was met first */
                (*next_axis)++;
            seen[list.number] = true;
        } else {
            axis = (*next_axis)++;
        }
        put_item(&list, indices[axis], out);
    }
    fputs(at, out);
    dml_stream_close(&stream, &text);
    return text;
}

/* ---- runs ---- */

/* What tells a run from its neighbours: the words of its own line, and those of "all" that contain
 * a list, after their flag. */
static char *make_label(const struct words *words, size_t own, size_t own_end, char **argv) {
    char *text = NULL, *picked[MAX_WORDS];
    int count = 0;
    for (size_t w = 0; w < words->count; w++) {
        struct list list;
        bool mine = w >= own && w < own_end;
        if (!mine && !find_list(words->items[w], &list))
            continue;
        if (!mine && w > 0 && count + 1 < MAX_WORDS && argv[w - 1][0] == '-')
            picked[count++] = argv[w - 1];
        picked[count++] = argv[w];
    }
    text = dml_text_shell(picked, count);
    return text;
}

/* The words [own, own_end) are those of the run's line. */
static enum dml_status add_run(struct dml_sweep *sweep, size_t line, const struct words *words,
                               size_t own, size_t own_end, const struct axes *axes,
                               const size_t *indices) {
    enum dml_status status =
        dml_grow(&sweep->runs, &sweep->capacity, sweep->count + 1, sizeof *sweep->runs);
    if (status)
        return status;
    struct dml_sweep_run *run = &sweep->runs[sweep->count++];
    bool seen[NUMBERED] = {false};
    size_t axis = 0;
    *run = (struct dml_sweep_run){.line = line, .result = NAN};
    run->argv = dml_alloc(words->count + 1, sizeof *run->argv);
    for (size_t w = 0; run->argv && w < words->count; w++) {
        run->argv[w] = choose(words->items[w], axes, indices, &axis, seen);
        if (!run->argv[w])
            return dml_fail(DML_ERROR_MEMORY, "out of memory");
        run->argc++;
    }
    run->flags = run->argv ? dml_text_shell(run->argv, run->argc) : NULL;
    run->label = run->argv ? make_label(words, own, own_end, run->argv) : NULL;
    return run->flags && run->label ? DML_OK : DML_ERROR_MEMORY;
}

/* All combinations; the last list changes fastest. */
static enum dml_status expand(struct dml_sweep *sweep, size_t line, const struct words *words,
                              size_t own, size_t own_end) {
    struct axes axes;
    size_t indices[MAX_LISTS] = {0};
    enum dml_status status = find_axes(words, &axes);
    while (!status) {
        if (sweep->count == MAX_RUNS)
            return dml_fail(DML_ERROR_INPUT, "more than %d runs", MAX_RUNS);
        status = add_run(sweep, line, words, own, own_end, &axes, indices);
        size_t axis = axes.count;
        while (axis > 0 && ++indices[axis - 1] == axes.lengths[axis - 1])
            indices[--axis] = 0;
        if (axis == 0)
            break;
    }
    return status;
}

/* How many words come before the flags: "dml train", "python main.py", "all"; or -1. */
static int command_words(const struct words *words) {
    static const char *const commands[][2] = {
        {"dml", "train"}, {"python", "main.py"}, {"python3", "main.py"}};
    if (words->items[0][0] == '-')
        return 0;
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (words->count >= 2 && strcmp(words->items[0], commands[i][0]) == 0 &&
            strcmp(words->items[1], commands[i][1]) == 0)
            return 2;
    return -1;
}

static enum dml_status copy_word(struct words *words, const char *text) {
    if (words->count == MAX_WORDS)
        return dml_fail(DML_ERROR_INPUT, "more than %d words", MAX_WORDS);
    words->items[words->count] = dml_strdup(text);
    return words->items[words->count++] ? DML_OK : DML_ERROR_MEMORY;
}

struct reading {
    struct dml_sweep *sweep;
    struct words all, line, run;
    char *const *extra;
    size_t extra_count;
};

static enum dml_status set_all(struct reading *reading) {
    enum dml_status status = DML_OK;
    free_words(&reading->all);
    for (size_t w = 1; w < reading->line.count && !status; w++)
        status = copy_word(&reading->all, reading->line.items[w]);
    return status;
}

static enum dml_status read_line(struct reading *reading, const char *text, size_t number) {
    enum dml_status status = split(text, &reading->line);
    if (status || reading->line.count == 0 || strncmp(text, "\"\"\"", 3) == 0)
        return status;
    if (strcmp(reading->line.items[0], "all") == 0)
        return set_all(reading);
    int skip = command_words(&reading->line);
    if (skip < 0)
        return dml_fail(DML_ERROR_INPUT,
                        "'%s' is neither a flag nor 'all', 'dml train' or 'python main.py'",
                        reading->line.items[0]);
    free_words(&reading->run);
    for (size_t w = 0; w < reading->all.count && !status; w++)
        status = copy_word(&reading->run, reading->all.items[w]);
    size_t own = reading->run.count;
    for (size_t w = (size_t)skip; w < reading->line.count && !status; w++)
        status = copy_word(&reading->run, reading->line.items[w]);
    size_t own_end = reading->run.count;
    for (size_t w = 0; w < reading->extra_count && !status; w++)
        status = copy_word(&reading->run, reading->extra[w]);
    return status ? status : expand(reading->sweep, number, &reading->run, own, own_end);
}

/* How many bytes before the newline at `end` say that the line continues: a backslash, which a
 * carriage return may follow; 0: it does not. */
static size_t continuation(const char *line, const char *end) {
    size_t length = end ? (size_t)(end - line) : 0;
    if (length > 0 && end[-1] == '\\')
        return 1;
    return length > 1 && end[-1] == '\r' && end[-2] == '\\' ? 2 : 0;
}

/* Joins lines that end in a backslash; they count as the first of them. */
static enum dml_status read_lines(struct reading *reading, char *text, const char *path) {
    size_t number = 1;
    enum dml_status status = DML_OK;
    for (char *line = text; line && !status;) {
        char *end = strchr(line, '\n');
        size_t first = number++;
        for (size_t mark; (mark = continuation(line, end)); number++) {
            memset(end - mark, ' ', mark + 1);
            end = strchr(end, '\n');
        }
        if (end)
            *end = 0;
        while (isspace((unsigned char)*line))
            line++;
        /* A heading's quotes need not be a shell's. */
        if (strncmp(line, "\"\"\"", 3) != 0)
            status = read_line(reading, line, first);
        if (status)
            dml_fail_within(status, "%s:%zu", path, first);
        free_words(&reading->line);
        line = end ? end + 1 : NULL;
    }
    return status;
}

static char *stem(const char *path) {
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    return dot && dot > name ? dml_format("%.*s", (int)(dot - name), name) : dml_strdup(name);
}

enum dml_status dml_sweep_read(const char *path, char *const *extra, size_t extra_count,
                               struct dml_sweep *out) {
    struct reading *reading = dml_alloc(1, sizeof *reading);
    char *text = NULL;
    memset(out, 0, sizeof *out);
    if (!reading)
        return DML_ERROR_MEMORY;
    *reading = (struct reading){.sweep = out, .extra = extra, .extra_count = extra_count};
    enum dml_status status = dml_read_text(path, "is not a text file", &text);
    if (!status && !(out->name = stem(path)))
        status = DML_ERROR_MEMORY;
    if (!status)
        status = read_lines(reading, text, path);
    if (!status && out->count == 0)
        status = dml_fail(DML_ERROR_INPUT, "%s: has no runs", path);
    free_words(&reading->all);
    free_words(&reading->line);
    free_words(&reading->run);
    free(reading);
    free(text);
    if (status)
        dml_sweep_free(out);
    return status;
}

void dml_sweep_run_free(struct dml_sweep_run *run) {
    for (int i = 0; i < run->argc; i++)
        free(run->argv[i]);
    free(run->argv);
    free(run->flags);
    free(run->label);
    free(run->identity);
    free(run->error);
    free(run->log);
    free(run->noted);
}

void dml_sweep_free(struct dml_sweep *sweep) {
    for (size_t i = 0; i < sweep->count; i++)
        dml_sweep_run_free(&sweep->runs[i]);
    free(sweep->runs);
    free(sweep->name);
    free(sweep->save_path);
    memset(sweep, 0, sizeof *sweep);
}

const char *dml_sweep_state_name(enum dml_sweep_state state) {
    static const char *const names[] = {"waiting", "running", "finished", "failed"};
    return names[state];
}
