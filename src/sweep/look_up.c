#include "base/files.h"
#include "base/json.h"
#include "base/memory.h"
#include "sweep/identity.h"
#include "sweep/sweep.h"
#include "tracking/database.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A finished run in the database. */
struct done {
    char *identity;
    double result;
    bool taken;
};

struct done_list {
    struct done *items;
    size_t count, capacity;
};

static enum dml_status add_done(struct done_list *list, const struct dml_identity *identity,
                                const cJSON *params, double result) {
    enum dml_status status =
        dml_grow(&list->items, &list->capacity, list->count + 1, sizeof *list->items);
    if (status)
        return status;
    list->items[list->count] = (struct done){.result = result};
    status = dml_identity_of_json(identity, params, &list->items[list->count].identity);
    if (!status)
        list->count++;
    return status;
}

static enum dml_status read_params(sqlite3 *db, int64_t run, cJSON **out) {
    sqlite3_stmt *rows;
    enum dml_status status =
        dml_database_query(db, &rows, "SELECT name, value FROM params WHERE run_id = ?", "i", run);
    if (status)
        return status;
    *out = cJSON_CreateObject();
    status = *out ? DML_OK : dml_fail(DML_ERROR_MEMORY, "out of memory: parameters of a run");
    while (!status && dml_database_next(rows, &status)) {
        const char *value = dml_database_text(rows, 1);
        cJSON *item = NULL;
        if (!*value)
            continue;
        status =
            dml_json_parse(value, strlen(value), &item, "%s: parameters of run %lld are not JSON",
                           sqlite3_db_filename(db, "main"), (long long)run);
        if (!status && !cJSON_AddItemToObject(*out, dml_database_text(rows, 0), item)) {
            cJSON_Delete(item);
            status = dml_fail(DML_ERROR_MEMORY, "out of memory: parameters of a run");
        }
    }
    return dml_database_end(rows, status);
}

static enum dml_status read_done(sqlite3 *db, struct done_list *list) {
    struct dml_identity identity = {0};
    sqlite3_stmt *rows = NULL;
    enum dml_status status = dml_identity_open(&identity);
    if (!status)
        status = dml_database_query(
            db, &rows,
            "SELECT id, (SELECT MAX(value) FROM metrics m WHERE m.run_id = r.id AND part = 'Test'"
            " AND name = 'e_recall@1' AND typeof(value) IN ('real', 'integer'))"
            " FROM runs r WHERE status = 'finished'",
            "");
    while (rows && dml_database_next(rows, &status)) {
        cJSON *params = NULL;
        double result = dml_database_number(rows, 1);
        status = read_params(db, sqlite3_column_int64(rows, 0), &params);
        if (!status)
            status = add_done(list, &identity, params, result);
        cJSON_Delete(params);
    }
    status = dml_database_end(rows, status);
    dml_identity_close(&identity);
    return status;
}

static void take_done(struct dml_sweep *sweep, struct done_list *list) {
    for (size_t i = 0; i < sweep->count; i++)
        for (size_t d = 0; d < list->count; d++)
            if (!list->items[d].taken &&
                strcmp(list->items[d].identity, sweep->runs[i].identity) == 0) {
                list->items[d].taken = true;
                sweep->runs[i].state = DML_SWEEP_FINISHED;
                sweep->runs[i].result = list->items[d].result;
                break;
            }
}

/* What an earlier start of the sweep noted about a run. */
static enum dml_status take_row(sqlite3_stmt *row, struct dml_sweep_run *run) {
    const char *word = dml_database_text(row, 0);
    free(run->noted);
    run->noted = dml_format("%s since %s", word, dml_database_text(row, 3));
    if (!run->noted)
        return DML_ERROR_MEMORY;
    if (strcmp(word, "running") == 0 && run->state != DML_SWEEP_FINISHED)
        run->state = DML_SWEEP_RUNNING; /* or it was, when the sweep was killed */
    if (strcmp(word, "failed") != 0 || run->state == DML_SWEEP_FINISHED)
        return DML_OK;
    free(run->error);
    free(run->log);
    run->state = DML_SWEEP_FAILED;
    run->error = dml_strdup(dml_database_text(row, 1));
    run->log = dml_strdup(dml_database_text(row, 2));
    return run->error && run->log ? DML_OK : DML_ERROR_MEMORY;
}

static enum dml_status read_rows(sqlite3 *db, struct dml_sweep *sweep) {
    enum dml_status status = DML_OK;
    for (size_t i = 0; i < sweep->count && !status; i++) {
        sqlite3_stmt *row;
        status = dml_database_query(db, &row,
                                    "SELECT status, error, log, started FROM sweep_runs"
                                    " WHERE sweep = ? AND flags = ?",
                                    "ss", sweep->name, sweep->runs[i].flags);
        if (!status && dml_database_next(row, &status))
            status = take_row(row, &sweep->runs[i]);
        if (row)
            status = dml_database_end(row, status);
    }
    return status;
}

enum dml_status dml_sweep_look_up(struct dml_sweep *sweep) {
    sqlite3 *db;
    struct done_list list = {0};
    char *path = dml_path_join(sweep->save_path, "runs.sqlite");
    bool there = path && dml_path_exists(path);
    free(path);
    if (!there)
        return DML_OK; /* nothing has been run yet */
    enum dml_status status = dml_database_open(sweep->save_path, false, 10000, &db);
    if (status)
        return status;
    status = read_done(db, &list);
    if (!status)
        take_done(sweep, &list);
    if (!status)
        status = read_rows(db, sweep);
    for (size_t i = 0; i < list.count; i++)
        free(list.items[i].identity);
    free(list.items);
    sqlite3_close_v2(db);
    return status;
}
