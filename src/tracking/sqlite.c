#include "base/memory.h"
#include "base/number.h"
#include "base/progress.h"
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
 * epoch and at the end. While another process holds the lock or the disk is full they keep
 * waiting, so training never does, and nothing is lost when it passes. */

enum { WRITE_SECONDS = 2, RETRY_SECONDS = 10 };
enum { STEP_WAIT_MS = 20, EPOCH_WAIT_MS = 2000, CLOSE_WAIT_MS = 60000 };

/* A copy of an epoch's record that outlives the call. */
struct epoch_rows {
    struct dml_epoch_record record;
    char names[3][24];
};

struct recorder {
    sqlite3 *db;
    int64_t run;
    struct dml_step_record *steps;
    size_t step_count, step_capacity;
    struct epoch_rows *epochs;
    size_t epoch_count, epoch_capacity;
    uint64_t first_step, first_epoch;
    bool seen_step, seen_epoch; /* rows from the first ones on are replaced by this run's */
    bool cleared_steps, cleared_epochs;
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
    cJSON_ArrayForEach(item, root) {
        char *value = cJSON_PrintUnformatted(item);
        if (value && !status)
            status = dml_database_run(recorder->db, "INSERT INTO params VALUES (?, ?, ?)", "iss",
                                      recorder->run, item->string, value);
        free(value);
    }
    cJSON_Delete(root);
    return status;
}

/* The row of this run; a run that is taken up again finds the one it had. */
static enum dml_status find_or_insert(struct recorder *recorder, const char *folder) {
    char now[DML_TIME_SIZE];
    sqlite3_stmt *statement;
    dml_database_now(now);
    enum dml_status status =
        dml_database_run(recorder->db,
                         "INSERT INTO runs (folder, status, started, updated)"
                         " VALUES (?, 'running', ?, ?) ON CONFLICT (folder) DO UPDATE SET"
                         " status = 'running', error = NULL, ended = NULL, updated = ?",
                         "ssss", folder, now, now, now);
    if (status)
        return status;
    status = dml_database_query(recorder->db, &statement, "SELECT id FROM runs WHERE folder = ?",
                                "s", folder);
    if (status)
        return status;
    if (sqlite3_step(statement) == SQLITE_ROW)
        recorder->run = sqlite3_column_int64(statement, 0);
    else
        status = dml_database_error(recorder->db);
    sqlite3_finalize(statement);
    return status;
}

static enum dml_status describe(struct recorder *recorder, const struct dml_run *run) {
    return dml_database_run(
        recorder->db,
        "UPDATE runs SET dataset = ?, savename = ?, project = ?, run_group = ?, seed = ?,"
        " command = ?, version = ?, processor = ?, threads = ?, pid = ?, training_images = ?,"
        " training_classes = ?, testing_images = ?, testing_classes = ?, validation_images = ?,"
        " validation_classes = ?, steps_per_epoch = ?, epochs_planned = ?,"
        " network_parameters = ? WHERE id = ?",
        "ssssisssiiiiiiiiiiii", run->dataset, run->savename, run->project, run->group,
        (int64_t)run->seed, run->command, run->version, run->processor, (int64_t)run->threads,
        (int64_t)getpid(), (int64_t)run->training.images, (int64_t)run->training.classes,
        (int64_t)run->testing.images, (int64_t)run->testing.classes,
        (int64_t)run->validation.images, (int64_t)run->validation.classes,
        (int64_t)run->steps_per_epoch, (int64_t)run->epochs, (int64_t)run->parameters,
        recorder->run);
}

/* The run's folder as seen from the save path, so that the whole tree can be moved. */
static const char *below(const struct dml_run *run) {
    size_t length = strlen(run->save_path);
    while (length > 1 && run->save_path[length - 1] == '/')
        length--;
    if (strncmp(run->folder, run->save_path, length) == 0 && run->folder[length] == '/')
        return run->folder + length + 1;
    return run->folder;
}

static enum dml_status enter(struct recorder *recorder, const struct dml_run *run) {
    enum dml_status status = dml_database_run(recorder->db, "BEGIN IMMEDIATE", "");
    if (status)
        return status;
    status = find_or_insert(recorder, below(run));
    if (!status)
        status = describe(recorder, run);
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

static enum dml_status write_steps(struct recorder *recorder) {
    sqlite3_stmt *statement;
    enum dml_status status = dml_database_query(
        recorder->db, &statement,
        "INSERT OR REPLACE INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", "i", recorder->run);
    if (status)
        return status;
    for (size_t i = 0; i < recorder->step_count && !status; i++) {
        const struct dml_step_record *step = &recorder->steps[i];
        dml_database_bind(statement, "iiidddiiid", recorder->run, (int64_t)step->step,
                          (int64_t)step->epoch, step->loss, step->grad_rms, step->grad_max,
                          (int64_t)step->tuples, (int64_t)step->active, (int64_t)step->swapped,
                          step->seconds);
        status = step_row(statement, recorder->db);
    }
    sqlite3_finalize(statement);
    return status;
}

static enum dml_status write_vector(struct recorder *recorder, const char *part, uint64_t epoch,
                                    const struct dml_metric_value *value) {
    char *text = NULL, number[DML_NUMBER_SIZE];
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    if (!stream)
        return dml_fail(DML_ERROR_MEMORY, "out of memory: a vector of %zu", value->vector_count);
    for (size_t i = 0; i < value->vector_count; i++)
        fprintf(stream, "%c%s", i ? ',' : '[',
                isfinite(value->vector[i]) ? dml_number_text((double)value->vector[i], number)
                                           : "null");
    fputc(']', stream);
    fclose(stream);
    enum dml_status status =
        dml_database_run(recorder->db, "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?, ?)",
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
        (int64_t)epoch->eval_images, epoch->active_share, epoch->swapped_share,
        (int64_t)epoch->replaced_images);
    for (size_t p = 0; p < epoch->part_count && !status; p++)
        status = write_part(recorder, rows, p);
    return status;
}

/* Rows that an earlier part of this run left at or behind the place where it was taken up. */
static enum dml_status clear(struct recorder *recorder) {
    enum dml_status status = DML_OK;
    if (recorder->seen_step && !recorder->cleared_steps)
        status = dml_database_run(recorder->db, "DELETE FROM steps WHERE run_id = ? AND step >= ?",
                                  "ii", recorder->run, (int64_t)recorder->first_step);
    static const char *const tables[] = {"DELETE FROM epochs WHERE run_id = ? AND epoch >= ?",
                                         "DELETE FROM metrics WHERE run_id = ? AND epoch >= ?",
                                         "DELETE FROM vectors WHERE run_id = ? AND epoch >= ?"};
    for (size_t i = 0; i < 3 && !status && recorder->seen_epoch && !recorder->cleared_epochs; i++)
        status = dml_database_run(recorder->db, tables[i], "ii", recorder->run,
                                  (int64_t)recorder->first_epoch);
    return status;
}

static enum dml_status transaction(struct recorder *recorder, const char *run_status,
                                   const char *error) {
    char now[DML_TIME_SIZE];
    dml_database_now(now);
    enum dml_status status = clear(recorder);
    if (!status)
        status = write_steps(recorder);
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

/* Writes all that waits. What may pass is said once and tried again later. */
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
        /* A busy moment during a step is nothing to talk about. */
        if (!may_pass || wait_ms == CLOSE_WAIT_MS)
            return status;
        if (!recorder->reported && wait_ms > STEP_WAIT_MS)
            fprintf(stderr, "dml: %s; rows wait in memory until it passes\n", dml_error());
        recorder->reported = recorder->reported || wait_ms > STEP_WAIT_MS;
        return DML_OK;
    }
    recorder->cleared_steps = recorder->cleared_steps || recorder->seen_step;
    recorder->cleared_epochs = recorder->cleared_epochs || recorder->seen_epoch;
    recorder->step_count = 0;
    for (size_t i = 0; i < recorder->epoch_count; i++)
        free_epoch(&recorder->epochs[i]);
    recorder->epoch_count = 0;
    return DML_OK;
}

static enum dml_status sqlite_step(void *state, const struct dml_step_record *record) {
    struct recorder *recorder = state;
    enum dml_status status = dml_grow(&recorder->steps, &recorder->step_capacity,
                                      recorder->step_count + 1, sizeof *record);
    if (status)
        return status;
    if (!recorder->seen_step)
        recorder->first_step = record->step;
    recorder->seen_step = true;
    recorder->steps[recorder->step_count++] = *record;
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
    if (!recorder->seen_epoch)
        recorder->first_epoch = record->epoch;
    recorder->seen_epoch = true;
    return write_all(recorder, EPOCH_WAIT_MS, "running", NULL);
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
    free(recorder);
    return status;
}

const struct dml_tracker dml_tracker_sqlite = {.name = "runs.sqlite",
                                               .open = sqlite_open,
                                               .step = sqlite_step,
                                               .epoch = sqlite_epoch,
                                               .close = sqlite_close};
