#include "base/files.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/number.h"
#include "base/progress.h"
#include "base/stream.h"
#include "base/text.h"
#include "tracking/best.h"
#include "tracking/names.h"
#include "tracking/tracking.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char tracker_name[] = "csv";

/* CSV_Logs/Data_<part>_<group>.csv, one column per value and one row per epoch, or per step for
 * "Model Grad", "Train_steps" and "Train_steps_<group>". A state notes how long each file was; when
 * a run is resumed, the files are cut to that, and those that did not exist yet are removed. */

enum { FLUSH_SECONDS = 1 };

struct table {
    char *path, *name;
    FILE *file;
    off_t good;   /* bytes that were written; a write that fails is undone back to here */
    off_t synced; /* bytes that survive a loss of power */
};

struct logs {
    char *folder;
    struct table *tables;
    size_t count, capacity;
    double flushed;
};

/* The columns of a file that already exists have to be those of this run. */
static enum dml_status check_header(const struct table *table, const char *header) {
    char *text;
    enum dml_status status = dml_read_file(table->path, &text, NULL);
    if (status)
        return status;
    if (strncmp(text, header, strlen(header)) != 0)
        status =
            dml_fail(DML_ERROR_INPUT,
                     "%s: has other columns than this run would write; move it away", table->path);
    free(text);
    return status;
}

static enum dml_status flush(struct table *table) {
    if (fflush(table->file) == 0 && !ferror(table->file)) {
        table->good = ftello(table->file);
        return DML_OK;
    }
    int reason = errno;
    clearerr(table->file);
    int undone = ftruncate(fileno(table->file), table->good);
    (void)undone; /* a device has no length */
    return dml_fail(DML_ERROR_IO, "%s: cannot be written: %s", table->path, strerror(reason));
}

static enum dml_status open_table(struct table *table, const char *header) {
    struct stat info;
    bool before = stat(table->path, &info) == 0 && info.st_size > 0;
    table->file = fopen(table->path, "a");
    if (!table->file)
        return dml_fail(DML_ERROR_IO, "%s: cannot be written: %s", table->path, strerror(errno));
    if (!before) {
        fputs(header, table->file);
        return DML_OK;
    }
    table->good = table->synced = info.st_size;
    return check_header(table, header);
}

static void free_table(struct table *table) {
    if (table->file)
        fclose(table->file);
    free(table->path);
    free(table->name);
}

/* The file called `name`, opened when it is not open yet. `header` ends a line. */
static enum dml_status find(struct logs *logs, const char *name, const char *header,
                            struct table **out) {
    for (size_t i = 0; i < logs->count; i++)
        if (strcmp(logs->tables[i].name, name) == 0) {
            *out = &logs->tables[i];
            return DML_OK;
        }
    enum dml_status status =
        dml_grow(&logs->tables, &logs->capacity, logs->count + 1, sizeof(struct table));
    if (status)
        return status;
    struct table *table = &logs->tables[logs->count];
    *table = (struct table){.name = dml_strdup(name),
                            .path = dml_format("%s/Data_%s.csv", logs->folder, name)};
    status = table->name && table->path ? open_table(table, header) : DML_ERROR_MEMORY;
    if (status)
        free_table(table);
    else
        logs->count++;
    *out = table;
    return status;
}

static void destroy(struct logs *logs) {
    for (size_t i = 0; i < logs->count; i++)
        free_table(&logs->tables[i]);
    free(logs->tables);
    free(logs->folder);
    free(logs);
}

static bool is_log(const char *file) {
    size_t length = strlen(file);
    return length > 9 && strncmp(file, "Data_", 5) == 0 && strcmp(file + length - 4, ".csv") == 0;
}

/* Where to cut a file that is no longer what it was, as after somebody edited it: after the last
 * row that ends within `length` bytes. */
static enum dml_status last_row(const char *path, off_t length, off_t *out) {
    char *text;
    size_t size;
    enum dml_status status = dml_read_file(path, &text, &size);
    if (status)
        return status;
    *out = length < (off_t)size ? length : (off_t)size;
    while (*out > 0 && text[*out - 1] != '\n')
        --*out;
    free(text);
    return DML_OK;
}

static enum dml_status cut(const char *path, off_t length) {
    struct stat info;
    off_t end = 0;
    if (lstat(path, &info) != 0)
        return dml_fail(DML_ERROR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode)) /* a link may lead to what is not the run's to cut */
        return dml_fail(DML_ERROR_INPUT, "%s: is not a file of this run; move it away", path);
    enum dml_status status = info.st_size > 0 ? last_row(path, length, &end) : DML_OK;
    if (status)
        return status;
    if (end != length)
        dml_warn("%s: is not as the run left it; rows may be missing", path);
    if (truncate(path, end) != 0)
        return dml_fail(DML_ERROR_IO, "%s: cannot be shortened: %s", path, strerror(errno));
    return DML_OK;
}

/* Brings all files to where they were when the state was saved; no note: before the first one. */
static enum dml_status cut_all(const char *folder, const cJSON *note) {
    DIR *entries = opendir(folder);
    enum dml_status status = DML_OK;
    for (struct dirent *entry; entries && !status && (entry = readdir(entries));) {
        if (!is_log(entry->d_name))
            continue;
        char *path = dml_path_join(folder, entry->d_name);
        uint64_t length = dml_note_count(note, entry->d_name);
        if (!path)
            status = DML_ERROR_MEMORY;
        else if (length > 0)
            status = cut(path, (off_t)length);
        else if (unlink(path) != 0)
            status = dml_fail(DML_ERROR_IO, "%s: cannot be removed: %s", path, strerror(errno));
        free(path);
    }
    if (entries)
        closedir(entries);
    const cJSON *item;
    cJSON_ArrayForEach(item, note) {
        char *path = status ? NULL : dml_path_join(folder, item->string);
        if (path && !dml_path_exists(path))
            dml_warn("%s: is gone; its rows so far are missing", path);
        free(path);
    }
    return status;
}

static enum dml_status csv_open(const struct dml_run *run, void **state) {
    struct logs *logs = dml_alloc(1, sizeof *logs);
    *state = logs;
    if (!logs)
        return DML_ERROR_MEMORY;
    logs->flushed = dml_now();
    logs->folder = dml_path_join(run->folder, "CSV_Logs");
    enum dml_status status = logs->folder ? dml_make_folders(logs->folder) : DML_ERROR_MEMORY;
    if (!status && run->resumed)
        status = cut_all(logs->folder, dml_run_note(run, tracker_name));
    if (status) {
        destroy(logs);
        *state = NULL;
    }
    return status;
}

/* A file of one column. */
static enum dml_status put(struct logs *logs, const char *name, const char *column, double value) {
    char header[DML_NAME_SIZE], text[DML_NUMBER_SIZE];
    struct table *table;
    snprintf(header, sizeof header, "%s\n", column);
    enum dml_status status = find(logs, name, header, &table);
    if (!status)
        fprintf(table->file, "%s\n", dml_number_text(value, text));
    return status;
}

static enum dml_status flush_all(struct logs *logs) {
    enum dml_status status = DML_OK;
    for (size_t i = 0; i < logs->count && !status; i++)
        status = flush(&logs->tables[i]);
    logs->flushed = dml_now();
    return status;
}

/* Whether a value is the first of its group. */
static bool is_first(const struct dml_named_value *values, size_t at) {
    for (size_t i = 0; i < at; i++)
        if (strcmp(values[i].group, values[at].group) == 0)
            return false;
    return true;
}

/* The file of one group of named values, a column for each after those of `columns`, whose values
 * are `cells`; either may be "". */
static enum dml_status put_group(struct logs *logs, const char *group, const char *columns,
                                 const char *cells, const struct dml_named_value *values,
                                 size_t count) {
    char *header, name[DML_NAME_SIZE], text[DML_NUMBER_SIZE];
    struct dml_stream stream;
    struct table *table;
    const char *comma = *columns ? "," : "";
    enum dml_status status = dml_stream_open(&stream);
    if (status)
        return status;
    fputs(columns, stream.file);
    for (size_t i = 0; i < count; i++)
        if (strcmp(values[i].group, group) == 0) {
            fputs(comma, stream.file);
            dml_text_csv(stream.file, values[i].name);
            comma = ",";
        }
    fputc('\n', stream.file);
    status = dml_stream_close(&stream, &header);
    if (status)
        return status;
    snprintf(name, sizeof name, "Train_%s", group);
    status = find(logs, name, header, &table);
    free(header);
    if (status)
        return status;
    fputs(cells, table->file);
    comma = *cells ? "," : "";
    for (size_t i = 0; i < count; i++)
        if (strcmp(values[i].group, group) == 0) {
            fprintf(table->file, "%s%s", comma, dml_number_text(values[i].value, text));
            comma = ",";
        }
    fputc('\n', table->file);
    return DML_OK;
}

/* What the study logs about a step has its own files; then there is one for each group of named
 * values. */
static enum dml_status csv_step(void *state, const struct dml_step_record *record) {
    struct logs *logs = state;
    const struct dml_named_value *values = record->values;
    size_t count = record->value_count;
    char loss[DML_NUMBER_SIZE], seconds[DML_NUMBER_SIZE], step[24], cells[120];
    snprintf(step, sizeof step, "%llu", (unsigned long long)record->step);
    snprintf(cells, sizeof cells, "%s,%llu,%s,%s", step, (unsigned long long)record->epoch,
             dml_number_text(record->loss, loss), dml_number_text(record->seconds, seconds));
    enum dml_status status =
        put_group(logs, "steps", "step,epoch,loss,seconds", cells, values, count);
    for (size_t i = 0; i < count && !status; i++) {
        const struct dml_studys_name *studys = dml_studys_name_of(values[i].name);
        char name[DML_NAME_SIZE];
        if (studys) {
            snprintf(name, sizeof name, "%s_%s", studys->part, studys->group);
            status = put(logs, name, studys->column, values[i].value);
        } else if (is_first(values, i) && strcmp(values[i].group, "steps") != 0)
            status = put_group(logs, values[i].group, "step", step, values, count);
    }
    if (status)
        return status;
    return dml_now() - logs->flushed < FLUSH_SECONDS ? DML_OK : flush_all(logs);
}

struct part_row {
    struct logs *logs;
    const char *part;
};

static enum dml_status put_family(void *data, const char *family,
                                  const struct dml_metric_value *const *values, size_t count) {
    const struct part_row *at = data;
    char name[DML_NAME_SIZE * 2], header[DML_FAMILY_MAX * 64], text[DML_NUMBER_SIZE];
    struct table *table;
    size_t length = 0;
    for (size_t i = 0; i < count; i++)
        length += (size_t)snprintf(header + length, sizeof header - length, "%s%s", i ? "," : "",
                                   values[i]->name);
    snprintf(header + length, sizeof header - length, "\n");
    snprintf(name, sizeof name, "%s_discriminative_%s", at->part, family);
    enum dml_status status = find(at->logs, name, header, &table);
    if (status)
        return status;
    for (size_t i = 0; i < count; i++)
        fprintf(table->file, "%s%s", i ? "," : "", dml_number_text(values[i]->value, text));
    fputc('\n', table->file);
    return DML_OK;
}

/* A vector has a file of its own: its components, largest singular value first. */
static enum dml_status put_vector(struct logs *logs, const char *part,
                                  const struct dml_metric_value *value) {
    char name[DML_NAME_SIZE * 2], text[DML_NUMBER_SIZE];
    struct table *table;
    char *header;
    struct dml_stream columns;
    enum dml_status status = dml_stream_open(&columns);
    if (status)
        return status;
    for (size_t i = 0; i < value->vector_count; i++)
        fprintf(columns.file, "%s%zu", i ? "," : "", i + 1);
    fputc('\n', columns.file);
    status = dml_stream_close(&columns, &header);
    if (status)
        return status;
    snprintf(name, sizeof name, "%s_discriminative_%s", part, value->name);
    status = find(logs, name, header, &table);
    free(header);
    if (status)
        return status;
    for (size_t i = 0; i < value->vector_count; i++)
        fprintf(table->file, "%s%s", i ? "," : "", dml_number_text((double)value->vector[i], text));
    fputc('\n', table->file);
    return DML_OK;
}

/* A row for each evaluation, and the epochs in which they were. */
static enum dml_status put_part(struct logs *logs, const struct dml_part_record *part,
                                uint64_t epoch) {
    struct part_row at = {logs, part->part};
    char name[DML_NAME_SIZE];
    snprintf(name, sizeof name, "%s_discriminative_epochs", part->part);
    enum dml_status status = put(logs, name, "epochs", (double)epoch);
    if (!status)
        status = dml_metric_families(part, put_family, &at);
    for (size_t i = 0; i < part->count && !status; i++)
        if (dml_metric_is_vector(&part->metrics[i]))
            status = put_vector(logs, part->part, &part->metrics[i]);
    return status;
}

static enum dml_status csv_epoch(void *state, const struct dml_epoch_record *record) {
    struct logs *logs = state;
    enum dml_status status = put(logs, "Train_epochs", "epochs", (double)record->epoch);
    if (!status)
        status = put(logs, "Train_loss", "loss", record->loss);
    if (!status)
        status = put(logs, "Train_time", "time", record->train_seconds);
    for (size_t i = 0; i < record->value_count && !status; i++)
        if (is_first(record->values, i))
            status = put_group(logs, record->values[i].group, "", "", record->values,
                               record->value_count);
    for (size_t i = 0; i < record->part_count && !status; i++)
        status = put_part(logs, &record->parts[i], record->epoch);
    return status ? status : flush_all(logs);
}

static enum dml_status csv_sync(void *state, cJSON *note) {
    struct logs *logs = state;
    enum dml_status status = flush_all(logs);
    for (size_t i = 0; i < logs->count && !status; i++) {
        struct table *table = &logs->tables[i];
        if (table->synced == table->good)
            continue;
        if (fdatasync(fileno(table->file)) != 0 && errno != EINVAL) /* a device has no disk */
            status =
                dml_fail(DML_ERROR_IO, "%s: cannot be written: %s", table->path, strerror(errno));
        table->synced = table->good;
    }
    DIR *entries = status ? NULL : opendir(logs->folder);
    for (struct dirent *entry; entries && !status && (entry = readdir(entries));) {
        struct stat info;
        if (is_log(entry->d_name) && fstatat(dirfd(entries), entry->d_name, &info, 0) == 0)
            status = dml_note_status(dml_note_number(note, entry->d_name, (double)info.st_size));
    }
    if (!status && !entries)
        status = dml_fail(DML_ERROR_IO, "%s: cannot be read: %s", logs->folder, strerror(errno));
    if (entries)
        closedir(entries);
    return status;
}

static enum dml_status csv_close(void *state, enum dml_run_end end, const char *error) {
    (void)end, (void)error;
    enum dml_status status = flush_all(state);
    destroy(state);
    return status;
}

const struct dml_tracker dml_tracker_csv = {.name = tracker_name,
                                            .open = csv_open,
                                            .step = csv_step,
                                            .epoch = csv_epoch,
                                            .sync = csv_sync,
                                            .close = csv_close};
