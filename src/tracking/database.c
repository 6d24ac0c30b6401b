#include "tracking/database.h"

#include "base/files.h"
#include "base/lock.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/utf8.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { APPLICATION = 0x646d6c31 /* "dml1" */, SET_UP_SECONDS = 30, MARK_WAIT_MS = 1000 };

static const char schema[] =
    /* One row per run. status: running, finished, interrupted, failed. A killed run stays `running`
     * until somebody opens the database. */
    "CREATE TABLE runs ("
    " id INTEGER PRIMARY KEY,"
    " folder TEXT NOT NULL UNIQUE," /* below the save path: dataset/savename */
    " dataset TEXT, savename TEXT, project TEXT, run_group TEXT, seed INTEGER,"
    " status TEXT NOT NULL, error TEXT,"
    " started TEXT NOT NULL, updated TEXT NOT NULL, ended TEXT," /* UTC */
    " command TEXT, version TEXT, processor TEXT, threads INTEGER, pid INTEGER,"
    " training_images INTEGER, training_classes INTEGER,"
    " testing_images INTEGER, testing_classes INTEGER,"
    " validation_images INTEGER, validation_classes INTEGER,"
    " steps_per_epoch INTEGER, epochs_planned INTEGER, network_parameters INTEGER);"
    "CREATE TABLE params ("
    " run_id INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE,"
    " name TEXT NOT NULL, value TEXT NOT NULL," /* JSON */
    " PRIMARY KEY (run_id, name)) WITHOUT ROWID;"
    "CREATE TABLE steps ("
    " run_id INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE,"
    " step INTEGER NOT NULL, epoch INTEGER NOT NULL, loss REAL, grad_rms REAL, grad_max REAL,"
    " tuples INTEGER, active INTEGER, swapped INTEGER, seconds REAL,"
    " PRIMARY KEY (run_id, step)) WITHOUT ROWID;"
    "CREATE TABLE epochs ("
    " run_id INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE,"
    " epoch INTEGER NOT NULL, loss REAL, lr REAL, train_seconds REAL, eval_seconds REAL,"
    " train_images INTEGER, eval_images INTEGER, active_share REAL, swapped_share REAL,"
    " replaced_images INTEGER,"
    " PRIMARY KEY (run_id, epoch)) WITHOUT ROWID;"
    "CREATE TABLE metrics ("
    " run_id INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE,"
    " part TEXT NOT NULL, name TEXT NOT NULL, epoch INTEGER NOT NULL, value REAL,"
    " PRIMARY KEY (run_id, part, name, epoch)) WITHOUT ROWID;"
    "CREATE TABLE vectors ("
    " run_id INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE,"
    " part TEXT NOT NULL, name TEXT NOT NULL, epoch INTEGER NOT NULL,"
    " vector TEXT NOT NULL," /* JSON array */
    " PRIMARY KEY (run_id, part, name, epoch)) WITHOUT ROWID;"
    /* What dml sweep started. status: running, finished, interrupted, failed. */
    "CREATE TABLE sweep_runs ("
    " sweep TEXT NOT NULL, flags TEXT NOT NULL, line INTEGER NOT NULL,"
    " status TEXT NOT NULL, error TEXT, log TEXT, started TEXT, ended TEXT,"
    " PRIMARY KEY (sweep, flags)) WITHOUT ROWID;"
    /* SQLite takes `epoch` from the row that has the maximum. */
    "CREATE VIEW largest AS SELECT run_id, part, name, MAX(value) AS value, epoch"
    " FROM metrics GROUP BY run_id, part, name;";

/* A run's identity, wherever its folder is, and the machine that it was last on. */
static const char second_version[] = "ALTER TABLE runs ADD COLUMN identity TEXT;"
                                     "ALTER TABLE runs ADD COLUMN host TEXT;"
                                     "CREATE UNIQUE INDEX runs_by_identity ON runs (identity);";

/* What ranks did in an epoch, for runs on several processes. */
static const char third_version[] =
    "CREATE TABLE ranks ("
    " run_id INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE,"
    " epoch INTEGER NOT NULL, rank INTEGER NOT NULL, host TEXT, threads INTEGER,"
    " images_per_second REAL, wait_share REAL,"
    " PRIMARY KEY (run_id, epoch, rank)) WITHOUT ROWID;";

/* What describes a step besides the columns of `steps`. */
static const char fourth_version[] =
    "CREATE TABLE step_values ("
    " run_id INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE,"
    " name TEXT NOT NULL, step INTEGER NOT NULL, value REAL,"
    " PRIMARY KEY (run_id, name, step)) WITHOUT ROWID;";

enum dml_status dml_database_error(sqlite3 *db) {
    const char *path = sqlite3_db_filename(db, "main");
    int code = sqlite3_errcode(db);
    enum dml_status status = code == SQLITE_NOTADB || code == SQLITE_CORRUPT ? DML_ERROR_INPUT
                             : code == SQLITE_NOMEM                          ? DML_ERROR_MEMORY
                                                                             : DML_ERROR_IO;
    return dml_fail(status, "%s: %s", path ? path : "runs.sqlite", sqlite3_errmsg(db));
}

bool dml_database_may_pass(sqlite3 *db) {
    int code = sqlite3_errcode(db);
    return code == SQLITE_BUSY || code == SQLITE_LOCKED || code == SQLITE_FULL ||
           code == SQLITE_IOERR || code == SQLITE_CANTOPEN;
}

/* Text of a database is UTF-8; what is not is escaped. */
static int bind_text(sqlite3_stmt *statement, int place, const char *text) {
    if (!text || dml_utf8_valid(text, strlen(text)))
        return sqlite3_bind_text(statement, place, text, -1, SQLITE_TRANSIENT);
    char *escaped = dml_text_escape(text);
    if (!escaped)
        return SQLITE_NOMEM;
    int code = sqlite3_bind_text(statement, place, escaped, -1, SQLITE_TRANSIENT);
    free(escaped);
    return code;
}

/* Without memory for a text its placeholder stays NULL. */
static enum dml_status bind(sqlite3_stmt *statement, const char *types, va_list arguments) {
    int code = SQLITE_OK;
    for (int i = 0; types[i] && code == SQLITE_OK; i++) {
        if (types[i] == 'i')
            code = sqlite3_bind_int64(statement, i + 1, va_arg(arguments, int64_t));
        else if (types[i] == 'd')
            code = sqlite3_bind_double(statement, i + 1, va_arg(arguments, double));
        else
            code = bind_text(statement, i + 1, va_arg(arguments, const char *));
    }
    return code == SQLITE_OK ? DML_OK : dml_database_error(sqlite3_db_handle(statement));
}

enum dml_status dml_database_bind(sqlite3_stmt *statement, const char *types, ...) {
    va_list arguments;
    va_start(arguments, types);
    enum dml_status status = bind(statement, types, arguments);
    va_end(arguments);
    return status;
}

enum dml_status dml_database_query(sqlite3 *db, sqlite3_stmt **out, const char *sql,
                                   const char *types, ...) {
    if (sqlite3_prepare_v2(db, sql, -1, out, NULL) != SQLITE_OK)
        return dml_database_error(db);
    va_list arguments;
    va_start(arguments, types);
    enum dml_status status = bind(*out, types, arguments);
    va_end(arguments);
    if (status) {
        sqlite3_finalize(*out);
        *out = NULL;
    }
    return status;
}

enum dml_status dml_database_run(sqlite3 *db, const char *sql, const char *types, ...) {
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK)
        return dml_database_error(db);
    va_list arguments;
    va_start(arguments, types);
    enum dml_status status = bind(statement, types, arguments);
    va_end(arguments);
    while (dml_database_next(statement, &status))
        ;
    return dml_database_end(statement, status);
}

static enum dml_status ask(sqlite3 *db, const char *sql, int64_t *value) {
    sqlite3_stmt *statement;
    enum dml_status status = dml_database_query(db, &statement, sql, "");
    if (status)
        return status;
    if (sqlite3_step(statement) == SQLITE_ROW)
        *value = sqlite3_column_int64(statement, 0);
    else
        status = dml_database_error(db);
    sqlite3_finalize(statement);
    return status;
}

/* The first process to arrive makes the schema, or what a newer one adds to it; all others wait for
 * it and then see it. */
static enum dml_status make_schema(sqlite3 *db) {
    int64_t version = 0;
    enum dml_status status = dml_database_run(db, "BEGIN IMMEDIATE", "");
    if (status)
        return status;
    status = ask(db, "PRAGMA user_version", &version);
    if (!status && version < DML_DATABASE_VERSION) {
        char settings[96];
        sqlite3_snprintf(sizeof settings, settings,
                         "PRAGMA application_id = %d; PRAGMA user_version = %d", APPLICATION,
                         DML_DATABASE_VERSION);
        if ((version == 0 && sqlite3_exec(db, schema, NULL, NULL, NULL) != SQLITE_OK) ||
            (version < 2 && sqlite3_exec(db, second_version, NULL, NULL, NULL) != SQLITE_OK) ||
            (version < 3 && sqlite3_exec(db, third_version, NULL, NULL, NULL) != SQLITE_OK) ||
            sqlite3_exec(db, fourth_version, NULL, NULL, NULL) != SQLITE_OK ||
            sqlite3_exec(db, settings, NULL, NULL, NULL) != SQLITE_OK)
            status = dml_database_error(db);
    }
    if (!status)
        return dml_database_run(db, "COMMIT", "");
    sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

/* A view could compute forever. */
static const char false_tables[] =
    "SELECT COUNT(*) FROM sqlite_master WHERE type = 'view' AND name IN ('runs', 'params', 'steps',"
    " 'epochs', 'metrics', 'vectors', 'sweep_runs', 'ranks', 'step_values')";

static enum dml_status check_version(sqlite3 *db, int64_t *out) {
    const char *path = sqlite3_db_filename(db, "main");
    int64_t application = 0, version = 0, others = 0;
    enum dml_status status = ask(db, "PRAGMA application_id", &application);
    if (!status)
        status = ask(db, "PRAGMA user_version", &version);
    if (status)
        return status;
    *out = version;
    if (application != APPLICATION)
        return dml_fail(DML_ERROR_INPUT, "%s: is a database, but not one of runs", path);
    if (version > DML_DATABASE_VERSION)
        return dml_fail(DML_ERROR_INPUT,
                        "%s: has schema version %lld, and this program knows up to %d", path,
                        (long long)version, DML_DATABASE_VERSION);
    status = ask(db, false_tables, &others);
    if (!status && others > 0)
        status = dml_fail(DML_ERROR_INPUT, "%s: has a view in the place of a table", path);
    return status;
}

/* Going to WAL mode takes a lock that SQLite's own waiting does not cover. */
static enum dml_status go_to_wal(sqlite3 *db) {
    for (int attempt = 0; attempt < SET_UP_SECONDS * 20; attempt++) {
        int code = sqlite3_exec(db, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
        if (code == SQLITE_OK)
            return DML_OK;
        if (code != SQLITE_BUSY)
            break;
        usleep(50000);
    }
    return dml_database_error(db);
}

/* No table yet, though another process may be about to make them. */
static bool is_new(sqlite3 *db, enum dml_status *status) {
    int64_t tables = 0;
    *status = ask(db, "SELECT COUNT(*) FROM sqlite_master", &tables);
    return !*status && tables == 0;
}

static enum dml_status prepare(sqlite3 *db) {
    enum dml_status status;
    int64_t version = 0;
    bool fresh = is_new(db, &status);
    if (!status && !fresh)
        status = check_version(db, &version); /* before anything is changed in what is not ours */
    if (!status)
        status = go_to_wal(db);
    if (!status && version < DML_DATABASE_VERSION)
        status = make_schema(db);
    if (!status)
        status = check_version(db, &version);
    /* What a run's state builds on has to survive a loss of power. */
    if (!status && sqlite3_exec(db, "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON", NULL,
                                NULL, NULL) != SQLITE_OK)
        status = dml_database_error(db);
    return status;
}

/* For readers; another process may be about to make the tables. */
static enum dml_status check(sqlite3 *db, int64_t *version) {
    enum { LOOKS = 40, LOOK_MICROSECONDS = 50000 };
    enum dml_status status;
    for (int i = 0; i < LOOKS && is_new(db, &status); i++)
        usleep(LOOK_MICROSECONDS);
    return check_version(db, version);
}

/* Whether the run of a row is gone: nobody holds its folder. For another machine's run that is
 * believed only after a day of silence, as not every file system shows its locks. */
static bool is_dead(const char *save_path, sqlite3_stmt *row) {
    char host[DML_HOST_SIZE];
    char *folder = dml_strdup(dml_database_text(row, 1));
    if (folder)
        dml_text_unescape(folder);
    bool here = strcmp(dml_database_text(row, 2), dml_host(host)) == 0, unsure;
    bool silent = here || sqlite3_column_double(row, 3) >= 1;
    char *path = NULL;
    if (silent && folder)
        path = *folder == '/' ? dml_format("%s/%s", folder, DML_RUN_LOCK)
                              : dml_format("%s/%s/%s", save_path, folder, DML_RUN_LOCK);
    bool held = !path || dml_lock_held(path, &unsure) || unsure;
    free(path);
    free(folder);
    return !held;
}

/* Marks runs that were killed and so could not say that they ended. A database that cannot be
 * written stays as it is, which does no harm. */
static void mark_dead(sqlite3 *db, const char *save_path) {
    sqlite3_stmt *rows;
    int64_t dead[64];
    size_t count = 0;
    if (dml_database_query(db, &rows,
                           "SELECT id, folder, host, julianday('now') - julianday(updated)"
                           " FROM runs WHERE status = 'running'",
                           "") != DML_OK)
        return;
    while (count < sizeof dead / sizeof dead[0] && sqlite3_step(rows) == SQLITE_ROW)
        if (is_dead(save_path, rows))
            dead[count++] = sqlite3_column_int64(rows, 0);
    sqlite3_finalize(rows);
    sqlite3_busy_timeout(db, MARK_WAIT_MS);
    for (size_t i = 0; i < count; i++)
        if (dml_database_run(db,
                             "UPDATE runs SET status = 'interrupted', ended = updated,"
                             " error = 'it ended without a word: killed, or the machine went down'"
                             " WHERE id = ? AND status = 'running'",
                             "i", dead[i]) != DML_OK)
            return;
}

/* A file from elsewhere may bring triggers and views: none of its triggers runs, and its views call
 * no function that does more than compute. */
static void distrust(sqlite3 *db) {
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
}

/* Opens a file for reading where nothing can be written, as on a read-only disk or in a folder of
 * somebody else's. SQLite needs a file beside it even to read in WAL mode, except where it is told
 * that nobody writes; then what a log beside it holds would be missed. */
static sqlite3 *open_immutable(const char *path) {
    struct stat info;
    char *log = dml_format("%s-wal", path), *uri = dml_alloc(3 * strlen(path) + 32, 1);
    sqlite3 *db = NULL;
    if (log && uri && (stat(log, &info) != 0 || info.st_size == 0)) {
        size_t used = (size_t)sprintf(uri, "file:");
        for (const char *at = path; *at; at++)
            used += (size_t)sprintf(uri + used, strchr("?#%", *at) ? "%%%02x" : "%c", *at);
        strcpy(uri + used, "?immutable=1");
        sqlite3_open_v2(uri, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, NULL);
    }
    free(log);
    free(uri);
    return db;
}

static enum dml_status open_for_reading(const char *path, sqlite3 **db, int64_t *version) {
    enum dml_status status = check(*db, version);
    int code = sqlite3_errcode(*db);
    if (!status || (code != SQLITE_READONLY && code != SQLITE_CANTOPEN))
        return status;
    sqlite3 *fixed = open_immutable(path);
    if (!fixed)
        return status;
    sqlite3_close_v2(*db);
    *db = fixed;
    sqlite3_extended_result_codes(fixed, 0);
    distrust(fixed);
    return check(fixed, version);
}

enum dml_status dml_database_open(const char *save_path, bool create, int wait_ms, sqlite3 **out) {
    enum dml_status status = create ? dml_make_folders(save_path) : DML_OK;
    char *path = dml_path_join(save_path, "runs.sqlite");
    sqlite3 *db = NULL;
    *out = NULL;
    if (!path)
        status = DML_ERROR_MEMORY;
    if (!status && !create && !dml_path_exists(path))
        status = dml_fail(DML_ERROR_INPUT, "%s: does not exist: no run was tracked there", path);
    if (!status &&
        sqlite3_open_v2(path, &db,
                        create ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READWRITE,
                        NULL) != SQLITE_OK)
        status = dml_fail(DML_ERROR_IO, "%s: %s", path, db ? sqlite3_errmsg(db) : "out of memory");
    if (!status) {
        sqlite3_extended_result_codes(db, 0);
        distrust(db);
        sqlite3_busy_timeout(db, SET_UP_SECONDS * 1000);
        int64_t version = DML_DATABASE_VERSION;
        status = create ? prepare(db) : open_for_reading(path, &db, &version);
        if (!status && version >= 2)
            mark_dead(db, save_path);
        sqlite3_busy_timeout(db, wait_ms);
    }
    free(path);
    if (status)
        sqlite3_close_v2(db);
    else
        *out = db;
    return status;
}

void dml_database_now(char text[DML_TIME_SIZE]) {
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(text, DML_TIME_SIZE, "%Y-%m-%d %H:%M:%S", &utc);
}

bool dml_database_next(sqlite3_stmt *rows, enum dml_status *status) {
    if (*status)
        return false;
    int code = sqlite3_step(rows);
    if (code != SQLITE_ROW && code != SQLITE_DONE)
        *status = dml_database_error(sqlite3_db_handle(rows));
    return code == SQLITE_ROW;
}

enum dml_status dml_database_end(sqlite3_stmt *rows, enum dml_status status) {
    sqlite3 *db = rows ? sqlite3_db_handle(rows) : NULL;
    int code = sqlite3_finalize(rows);
    return status || code == SQLITE_OK ? status : dml_database_error(db);
}

const char *dml_database_text(sqlite3_stmt *row, int column) {
    const char *text = (const char *)sqlite3_column_text(row, column);
    return text ? text : "";
}

double dml_database_number(sqlite3_stmt *row, int column) {
    int type = sqlite3_column_type(row, column);
    bool number = type == SQLITE_INTEGER || type == SQLITE_FLOAT;
    return number ? sqlite3_column_double(row, column) : NAN;
}
