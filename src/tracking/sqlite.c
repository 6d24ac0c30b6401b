#include "base/lock.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/number.h"
#include "base/progress.h"
#include "base/stream.h"
#include "base/text.h"
#include "dml/params_json.h"
#include "tracking/database.h"
#include "tracking/names.h"
#include "tracking/tracking.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Rows wait in memory and go to the database together: a transaction every few seconds, at each
 * epoch and at the end. While another process holds the lock or the disk is full they keep waiting,
 * so training never does, and nothing is lost once that has passed. */

enum { WRITE_SECONDS = 2, RETRY_SECONDS = 10 };
enum { STEP_WAIT_MS = 20, EPOCH_WAIT_MS = 2000, SYNC_WAIT_MS = 10000, CLOSE_WAIT_MS = 60000 };

/* A copy of an epoch's record that outlives the call. */
struct epoch_rows {
    struct dml_epoch_record record;
    char names[DML_RECORD_PARTS][24];
};

struct recorder {
    sqlite3 *db;
    int64_t run;
    struct dml_step_record *steps; /* their values are the next in `values` */
    size_t step_count, step_capacity;
    struct dml_named_value *values;
    size_t value_count, value_capacity;
    struct epoch_rows *epochs;
    size_t epoch_count, epoch_capacity;
    double next;   /* when to write again */
    bool reported; /* that rows have to wait */
};

static enum dml_status each_param(struct recorder *recorder, const struct dml_params *params) {
    char *text;
    enum dml_status status = dml_params_to_json(params, &text);
    if (status)
        return status;
    cJSON *root = cJSON_Parse(text), *item;
    free(text);
    if (!root)
        return dml_fail(DML_ERROR_MEMORY, "out of memory: parameters for runs.sqlite");
    cJSON_ArrayForEach(item, root) {
        char *value = cJSON_PrintUnformatted(item);
        if (!value && !status)
            status = dml_fail(DML_ERROR_MEMORY, "out of memory: parameters for runs.sqlite");
        if (!status)
            status = dml_database_run(recorder->db, "INSERT INTO params VALUES (?, ?, ?)", "iss",
                                      recorder->run, item->string, value);
        free(value);
    }
    cJSON_Delete(root);
    return status;
}

/* The number that a query gives, or 0. */
static enum dml_status find(sqlite3 *db, int64_t *out, const char *sql, const char *text) {
    sqlite3_stmt *row;
    *out = 0;
    enum dml_status status = dml_database_query(db, &row, sql, "s", text);
    if (status)
        return status;
    int code = sqlite3_step(row);
    if (code == SQLITE_ROW)
        *out = sqlite3_column_int64(row, 0);
    else if (code != SQLITE_DONE)
        status = dml_database_error(db);
    sqlite3_finalize(row);
    return status;
}

/* The row that the run had before, if any: a run is known by its identity, wherever its folder is
 * now. A copy of a whole save path holds the row of the run that it is a copy of, under the folder
 * of the copy. */
static enum dml_status find_own(struct recorder *recorder, const struct dml_run *run,
                                const char *folder) {
    if (!run->identity) /* known by its folder alone */
        return find(recorder->db, &recorder->run, "SELECT id FROM runs WHERE folder = ?", folder);
    enum dml_status status =
        find(recorder->db, &recorder->run, "SELECT id FROM runs WHERE identity = ?", run->identity);
    int64_t copied = 0, there = 0;
    if (!status && !recorder->run && run->copy_of)
        status =
            find(recorder->db, &copied, "SELECT id FROM runs WHERE identity = ?", run->copy_of);
    if (!status && copied)
        status = find(recorder->db, &there, "SELECT id FROM runs WHERE folder = ?", folder);
    if (!status && copied && copied == there)
        recorder->run = copied;
    return status;
}

static enum dml_status insert(struct recorder *recorder, const char *folder) {
    char now[DML_TIME_SIZE];
    dml_database_now(now);
    enum dml_status status = dml_database_run(recorder->db,
                                              "INSERT INTO runs (folder, status, started, updated)"
                                              " VALUES (?, 'running', ?, ?)",
                                              "sss", folder, now, now);
    recorder->run = sqlite3_last_insert_rowid(recorder->db);
    return status;
}

/* The rows of the run whose folder this one's is a copy of, in the same database. */
static enum dml_status copy_rows(struct recorder *recorder, const struct dml_run *run) {
    static const char *const copies[] = {
        "INSERT INTO steps SELECT ?1, step, epoch, loss, grad_rms, grad_max, tuples, active,"
        " swapped, seconds FROM steps WHERE run_id = ?2",
        "INSERT INTO step_values SELECT ?1, name, step, value FROM step_values WHERE run_id = ?2",
        "INSERT INTO epochs SELECT ?1, epoch, loss, lr, train_seconds, eval_seconds,"
        " train_images, eval_images, active_share, swapped_share, replaced_images"
        " FROM epochs WHERE run_id = ?2",
        "INSERT INTO metrics SELECT ?1, part, name, epoch, value FROM metrics WHERE run_id = ?2",
        "INSERT INTO vectors SELECT ?1, part, name, epoch, vector FROM vectors WHERE run_id = ?2",
        "INSERT INTO ranks SELECT ?1, epoch, rank, host, threads, images_per_second, wait_share"
        " FROM ranks WHERE run_id = ?2"};
    int64_t original;
    enum dml_status status =
        find(recorder->db, &original, "SELECT id FROM runs WHERE identity = ?", run->copy_of);
    for (size_t i = 0; i < sizeof copies / sizeof copies[0] && !status && original; i++)
        status = dml_database_run(recorder->db, copies[i], "ii", recorder->run, original);
    return status;
}

/* Deletes rows that an earlier part of this run left at or after the place where it resumes. */
static enum dml_status cut(struct recorder *recorder, const struct dml_run *run) {
    static const char *const cuts[] = {"DELETE FROM steps WHERE run_id = ? AND step >= ?",
                                       "DELETE FROM step_values WHERE run_id = ? AND step >= ?",
                                       "DELETE FROM epochs WHERE run_id = ? AND epoch >= ?",
                                       "DELETE FROM metrics WHERE run_id = ? AND epoch >= ?",
                                       "DELETE FROM vectors WHERE run_id = ? AND epoch >= ?",
                                       "DELETE FROM ranks WHERE run_id = ? AND epoch >= ?"};
    enum dml_status status = DML_OK;
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0] && !status; i++)
        status = dml_database_run(recorder->db, cuts[i], "ii", recorder->run,
                                  (int64_t)(i < 2 ? run->first_step : run->first_epoch));
    return status;
}

/* Says so where rows of steps before the state are missing: the database could not be written when
 * it was saved, or it is another one. */
static enum dml_status check_rows(struct recorder *recorder, const struct dml_run *run) {
    sqlite3_stmt *row;
    enum dml_status status = dml_database_query(
        recorder->db, &row, "SELECT COUNT(*) FROM steps WHERE run_id = ?", "i", recorder->run);
    if (status)
        return status;
    if (sqlite3_step(row) == SQLITE_ROW && sqlite3_column_int64(row, 0) < (int64_t)run->first_step)
        dml_warn("%s/runs.sqlite: has %lld of this run's %llu steps so far", run->save_path,
                 (long long)sqlite3_column_int64(row, 0), (unsigned long long)run->first_step);
    sqlite3_finalize(row);
    return DML_OK;
}

/* The row of this run, which becomes the only one of its folder. */
static enum dml_status find_or_insert(struct recorder *recorder, const struct dml_run *run,
                                      const char *folder) {
    enum dml_status status = find_own(recorder, run, folder);
    if (!status) /* of a run whose folder was removed or moved away before it ended */
        status = dml_database_run(recorder->db, "DELETE FROM runs WHERE folder = ? AND id <> ?",
                                  "si", folder, recorder->run);
    if (!status && !recorder->run) {
        status = insert(recorder, folder);
        if (!status && run->copy_of)
            status = copy_rows(recorder, run);
    }
    if (!status)
        status = cut(recorder, run);
    if (!status && run->resumed)
        status = check_rows(recorder, run);
    return status;
}

static enum dml_status describe(struct recorder *recorder, const struct dml_run *run,
                                const char *folder) {
    char now[DML_TIME_SIZE], host[DML_HOST_SIZE];
    dml_database_now(now);
    /* A resumed run keeps the command that it began with. */
    enum dml_status status = dml_database_run(
        recorder->db,
        "UPDATE runs SET status = 'running', error = NULL, ended = NULL, updated = ?1,"
        " folder = ?2, identity = ?3, host = ?4, pid = ?5, threads = ?6, version = ?7,"
        " processor = ?8, command = CASE WHEN ?9 THEN COALESCE(command, ?10) ELSE ?10 END"
        " WHERE id = ?11",
        "ssssiissisi", now, folder, run->identity, run->identity ? dml_host(host) : NULL,
        (int64_t)getpid(), (int64_t)run->threads, run->version, run->processor,
        (int64_t)run->resumed, run->command, recorder->run);
    if (status)
        return status;
    return dml_database_run(
        recorder->db,
        "UPDATE runs SET dataset = ?, savename = ?, project = ?, run_group = ?, seed = ?,"
        " training_images = ?, training_classes = ?, testing_images = ?, testing_classes = ?,"
        " validation_images = ?, validation_classes = ?, steps_per_epoch = ?, epochs_planned = ?,"
        " network_parameters = ? WHERE id = ?",
        "ssssiiiiiiiiiii", run->dataset, run->savename, run->project, run->group,
        (int64_t)run->seed, (int64_t)run->training.images, (int64_t)run->training.classes,
        (int64_t)run->testing.images, (int64_t)run->testing.classes,
        (int64_t)run->validation.images, (int64_t)run->validation.classes,
        (int64_t)run->steps_per_epoch, (int64_t)run->epochs, (int64_t)run->parameters,
        recorder->run);
}

/* The run's folder as seen from the save path, so that the whole tree can be moved; the database
 * has it escaped. */
static const char *below(const struct dml_run *run) {
    size_t length = strlen(run->save_path);
    while (length > 1 && run->save_path[length - 1] == '/')
        length--;
    if (strncmp(run->folder, run->save_path, length) == 0 && run->folder[length] == '/')
        return run->folder + length + 1;
    return run->folder;
}

static enum dml_status enter(struct recorder *recorder, const struct dml_run *run) {
    char *folder = dml_text_escape(below(run));
    enum dml_status status =
        folder ? dml_database_run(recorder->db, "BEGIN IMMEDIATE", "") : DML_ERROR_MEMORY;
    if (status) {
        free(folder);
        return status;
    }
    status = find_or_insert(recorder, run, folder);
    if (!status)
        status = describe(recorder, run, folder);
    free(folder);
    if (!status)
        status = dml_database_run(recorder->db, "DELETE FROM params WHERE run_id = ?", "i",
                                  recorder->run);
    if (!status && run->params)
        status = each_param(recorder, run->params);
    if (!status)
        status = dml_database_run(recorder->db, "COMMIT", "");
    if (status)
        sqlite3_exec(recorder->db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

static enum dml_status sqlite_open(const struct dml_run *run, void **state) {
    struct recorder *recorder = dml_alloc(1, sizeof *recorder);
    *state = NULL;
    if (!recorder)
        return DML_ERROR_MEMORY;
    enum dml_status status = dml_database_open(run->save_path, true, CLOSE_WAIT_MS, &recorder->db);
    if (!status)
        status = enter(recorder, run);
    if (status) {
        sqlite3_close_v2(recorder->db);
        free(recorder);
        return status;
    }
    recorder->next = dml_now() + WRITE_SECONDS;
    *state = recorder;
    return DML_OK;
}

static void free_epoch(struct epoch_rows *rows) {
    free((void *)rows->record.values);
    free((void *)rows->record.ranks);
    for (size_t p = 0; p < rows->record.part_count; p++) {
        struct dml_metric_value *copies = (struct dml_metric_value *)rows->record.parts[p].metrics;
        for (size_t i = 0; copies && i < rows->record.parts[p].count; i++)
            free(copies[i].vector);
        free(copies);
    }
}

static enum dml_status copy_part(struct dml_part_record *part) {
    struct dml_metric_value *copies = dml_alloc(part->count, sizeof *copies);
    const struct dml_metric_value *from = part->metrics;
    size_t count = part->count;
    part->metrics = copies;
    part->count = 0;
    if (!copies)
        return DML_ERROR_MEMORY;
    for (; part->count < count; part->count++) {
        struct dml_metric_value *copy = &copies[part->count];
        *copy = from[part->count];
        if (!copy->vector)
            continue;
        copy->vector = dml_alloc(copy->vector_count, sizeof *copy->vector);
        if (!copy->vector)
            return DML_ERROR_MEMORY;
        memcpy(copy->vector, from[part->count].vector, copy->vector_count * sizeof(float));
    }
    return DML_OK;
}

static enum dml_status copy_epoch(struct epoch_rows *rows, const struct dml_epoch_record *record) {
    enum dml_status status = DML_OK;
    rows->record = *record;
    rows->record.contact_sheet = NULL;
    rows->record.part_count = 0;
    struct dml_named_value *values = dml_alloc(record->value_count, sizeof *values);
    struct dml_rank_record *ranks = dml_alloc(record->rank_count, sizeof *ranks);
    rows->record.values = values;
    rows->record.ranks = ranks;
    if (!values || !ranks)
        status = DML_ERROR_MEMORY;
    if (!status && record->value_count)
        memcpy(values, record->values, record->value_count * sizeof *values);
    if (!status && record->rank_count)
        memcpy(ranks, record->ranks, record->rank_count * sizeof *ranks);
    for (size_t p = 0; p < record->part_count && !status; p++) {
        status = copy_part(&rows->record.parts[p]);
        rows->record.part_count++;
        snprintf(rows->names[p], sizeof rows->names[p], "%s", record->parts[p].part);
    }
    if (status)
        free_epoch(rows);
    return status;
}

static enum dml_status step_row(sqlite3_stmt *statement, sqlite3 *db) {
    int code = sqlite3_step(statement);
    sqlite3_reset(statement);
    return code == SQLITE_DONE ? DML_OK : dml_database_error(db);
}

/* Values that have no column in `steps`. */
static enum dml_status write_step_values(struct recorder *recorder) {
    static const char *const columns[] = {"grad_rms", "grad_max", "tuples", "active", "swapped"};
    const struct dml_named_value *value = recorder->values;
    sqlite3_stmt *statement;
    enum dml_status status = dml_database_query(
        recorder->db, &statement, "INSERT OR REPLACE INTO step_values VALUES (?, ?, ?, ?)", "i",
        recorder->run);
    if (status)
        return status;
    for (size_t i = 0; i < recorder->step_count; i++)
        for (size_t v = 0; v < recorder->steps[i].value_count; v++, value++) {
            bool has_column = false;
            for (size_t c = 0; c < sizeof columns / sizeof columns[0]; c++)
                has_column = has_column || strcmp(columns[c], value->name) == 0;
            if (!status && !has_column)
                status = dml_database_bind(statement, "isid", recorder->run, value->name,
                                           (int64_t)recorder->steps[i].step, value->value);
            if (!status && !has_column)
                status = step_row(statement, recorder->db);
        }
    sqlite3_finalize(statement);
    return status;
}

static enum dml_status write_steps(struct recorder *recorder) {
    const struct dml_named_value *values = recorder->values;
    sqlite3_stmt *statement;
    enum dml_status status = dml_database_query(
        recorder->db, &statement,
        "INSERT OR REPLACE INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", "i", recorder->run);
    if (status)
        return status;
    for (size_t i = 0; i < recorder->step_count && !status; i++) {
        const struct dml_step_record *step = &recorder->steps[i];
        size_t count = step->value_count;
        status = dml_database_bind(
            statement, "iiidddiiid", recorder->run, (int64_t)step->step, (int64_t)step->epoch,
            step->loss, dml_named_value(values, count, "grad_rms"),
            dml_named_value(values, count, "grad_max"),
            (int64_t)dml_named_value(values, count, "tuples"),
            (int64_t)dml_named_value(values, count, "active"),
            (int64_t)dml_named_value(values, count, "swapped"), step->seconds);
        if (!status)
            status = step_row(statement, recorder->db);
        values += count;
    }
    sqlite3_finalize(statement);
    return status ? status : write_step_values(recorder);
}

static enum dml_status write_vector(struct recorder *recorder, const char *part, uint64_t epoch,
                                    const struct dml_metric_value *value) {
    char *text, number[DML_NUMBER_SIZE];
    struct dml_stream stream;
    enum dml_status status = dml_stream_open(&stream);
    if (status)
        return status;
    for (size_t i = 0; i < value->vector_count; i++)
        fprintf(stream.file, "%c%s", i ? ',' : '[',
                isfinite(value->vector[i]) ? dml_number_text((double)value->vector[i], number)
                                           : "null");
    fputc(']', stream.file);
    status = dml_stream_close(&stream, &text);
    if (status)
        return status;
    status = dml_database_run(recorder->db, "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?, ?)",
                              "issis", recorder->run, part, value->name, (int64_t)epoch, text);
    free(text);
    return status;
}

static enum dml_status write_part(struct recorder *recorder, const struct epoch_rows *rows,
                                  size_t p) {
    const struct dml_part_record *part = &rows->record.parts[p];
    uint64_t epoch = rows->record.epoch;
    enum dml_status status = DML_OK;
    for (size_t i = 0; i < part->count && !status; i++)
        status = dml_metric_is_vector(&part->metrics[i])
                     ? write_vector(recorder, rows->names[p], epoch, &part->metrics[i])
                     : dml_database_run(
                           recorder->db, "INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?, ?)",
                           "issid", recorder->run, rows->names[p], part->metrics[i].name,
                           (int64_t)epoch, part->metrics[i].value);
    return status;
}

static enum dml_status write_epoch(struct recorder *recorder, const struct epoch_rows *rows) {
    const struct dml_epoch_record *epoch = &rows->record;
    enum dml_status status = dml_database_run(
        recorder->db, "INSERT OR REPLACE INTO epochs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        "iiddddiiddi", recorder->run, (int64_t)epoch->epoch, epoch->loss, epoch->lr,
        epoch->train_seconds, epoch->eval_seconds, (int64_t)epoch->train_images,
        (int64_t)epoch->eval_images,
        dml_named_value(epoch->values, epoch->value_count, "active_share"),
        dml_named_value(epoch->values, epoch->value_count, "swapped_share"),
        (int64_t)dml_named_value(epoch->values, epoch->value_count, "replaced_images"));
    for (size_t p = 0; p < epoch->part_count && !status; p++)
        status = write_part(recorder, rows, p);
    for (size_t i = 0; i < epoch->value_count && !status; i++)
        status = dml_database_run(
            recorder->db, "INSERT OR REPLACE INTO metrics VALUES (?, 'Train', ?, ?, ?)", "isid",
            recorder->run, epoch->values[i].name, (int64_t)epoch->epoch, epoch->values[i].value);
    for (size_t i = 0; i < epoch->rank_count && !status; i++)
        status = dml_database_run(
            recorder->db, "INSERT OR REPLACE INTO ranks VALUES (?, ?, ?, ?, ?, ?, ?)", "iiisidd",
            recorder->run, (int64_t)epoch->epoch, (int64_t)epoch->ranks[i].rank,
            epoch->ranks[i].host, (int64_t)epoch->ranks[i].threads,
            epoch->ranks[i].images_per_second, epoch->ranks[i].wait_share);
    return status;
}

static enum dml_status transaction(struct recorder *recorder, const char *run_status,
                                   const char *error) {
    char now[DML_TIME_SIZE];
    dml_database_now(now);
    enum dml_status status = write_steps(recorder);
    for (size_t i = 0; i < recorder->epoch_count && !status; i++)
        status = write_epoch(recorder, &recorder->epochs[i]);
    if (!status)
        status = dml_database_run(
            recorder->db,
            "UPDATE runs SET status = ?, error = ?, updated = ?,"
            " ended = CASE WHEN ?1 = 'running' THEN NULL ELSE ?3 END WHERE id = ?4",
            "sssi", run_status, error, now, recorder->run);
    return status ? status : dml_database_run(recorder->db, "COMMIT", "");
}

/* Writes everything that waits. A failure that may pass is reported once, and the write retried
 * later. */
static enum dml_status write_all(struct recorder *recorder, int wait_ms, const char *run_status,
                                 const char *error) {
    sqlite3_busy_timeout(recorder->db, wait_ms);
    enum dml_status status = dml_database_run(recorder->db, "BEGIN IMMEDIATE", "");
    if (!status)
        status = transaction(recorder, run_status, error);
    recorder->next = dml_now() + (status ? RETRY_SECONDS : WRITE_SECONDS);
    if (status) {
        bool may_pass = dml_database_may_pass(recorder->db);
        if (!sqlite3_get_autocommit(recorder->db))
            sqlite3_exec(recorder->db, "ROLLBACK", NULL, NULL, NULL);
        /* A busy moment during a step is not worth a message. */
        if (!may_pass || wait_ms == CLOSE_WAIT_MS)
            return status;
        if (!recorder->reported && wait_ms > STEP_WAIT_MS)
            dml_warn("%s; rows wait in memory until it passes", dml_error());
        recorder->reported = recorder->reported || wait_ms > STEP_WAIT_MS;
        return DML_OK;
    }
    recorder->step_count = recorder->value_count = 0;
    for (size_t i = 0; i < recorder->epoch_count; i++)
        free_epoch(&recorder->epochs[i]);
    recorder->epoch_count = 0;
    return DML_OK;
}

static enum dml_status sqlite_step(void *state, const struct dml_step_record *record) {
    struct recorder *recorder = state;
    enum dml_status status = dml_grow(&recorder->steps, &recorder->step_capacity,
                                      recorder->step_count + 1, sizeof *record);
    if (!status && record->value_count)
        status = dml_grow(&recorder->values, &recorder->value_capacity,
                          recorder->value_count + record->value_count, sizeof *recorder->values);
    if (status)
        return status;
    recorder->steps[recorder->step_count++] = *record;
    for (size_t i = 0; i < record->value_count; i++)
        recorder->values[recorder->value_count++] = record->values[i];
    return dml_now() < recorder->next ? DML_OK : write_all(recorder, STEP_WAIT_MS, "running", NULL);
}

static enum dml_status sqlite_epoch(void *state, const struct dml_epoch_record *record) {
    struct recorder *recorder = state;
    enum dml_status status = dml_grow(&recorder->epochs, &recorder->epoch_capacity,
                                      recorder->epoch_count + 1, sizeof *recorder->epochs);
    if (!status)
        status = copy_epoch(&recorder->epochs[recorder->epoch_count], record);
    if (status)
        return status;
    recorder->epoch_count++;
    return write_all(recorder, EPOCH_WAIT_MS, "running", NULL);
}

/* A database that stays locked holds the state up for a while, not for good: if the run is then
 * killed and rows are lost, that is reported when it resumes. */
static enum dml_status sqlite_sync(void *state, cJSON *note) {
    (void)note; /* rows have their places */
    struct recorder *recorder = state;
    return recorder->step_count + recorder->epoch_count == 0
               ? DML_OK
               : write_all(recorder, SYNC_WAIT_MS, "running", NULL);
}

static enum dml_status sqlite_close(void *state, enum dml_run_end end, const char *error) {
    static const char *const names[] = {"finished", "interrupted", "failed"};
    struct recorder *recorder = state;
    enum dml_status status = write_all(recorder, CLOSE_WAIT_MS, names[end], error);
    sqlite3_close_v2(recorder->db);
    for (size_t i = 0; i < recorder->epoch_count; i++)
        free_epoch(&recorder->epochs[i]);
    free(recorder->epochs);
    free(recorder->steps);
    free(recorder->values);
    free(recorder);
    return status;
}

const struct dml_tracker dml_tracker_sqlite = {.name = "runs.sqlite",
                                               .open = sqlite_open,
                                               .step = sqlite_step,
                                               .epoch = sqlite_epoch,
                                               .sync = sqlite_sync,
                                               .close = sqlite_close};
