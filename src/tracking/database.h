#ifndef DML_TRACKING_DATABASE_H
#define DML_TRACKING_DATABASE_H

#include "dml/error.h"

#include <sqlite3.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

/* <save_path>/runs.sqlite: one database for all runs below a save path, in WAL mode, so that many
 * runs write at once and readers never wait. The schema is in database.c and docs/TRACKING.md. */

enum { DML_DATABASE_VERSION = 4 };

/* Opens it, and with `create` makes folder, file and schema where they are missing, and brings an
 * older schema up to date. Runs that say `running` and are dead are marked as interrupted.
 * DML_ERROR_INPUT: no such file, damaged, not a database of runs, or of a newer schema.
 * The caller closes with sqlite3_close_v2. Waits `wait_ms` for locks from then on. */
enum dml_status dml_database_open(const char *save_path, bool create, int wait_ms, sqlite3 **out);

/* The failure of the last call on `db`, with the file's name. */
enum dml_status dml_database_error(sqlite3 *db);

/* Whether a failure may pass: another process holds the lock, or the disk is full. */
bool dml_database_may_pass(sqlite3 *db);

/* Binds arguments from the first placeholder on. `types` has a letter for each: i (int64_t),
 * d (double; NULL where not a number), s (const char *, NULL allowed). */
enum dml_status dml_database_bind(sqlite3_stmt *statement, const char *types, ...);

/* Runs one statement that gives no rows. */
enum dml_status dml_database_run(sqlite3 *db, const char *sql, const char *types, ...);

/* A statement that gives rows, to be stepped by the caller and finalised. */
enum dml_status dml_database_query(sqlite3 *db, sqlite3_stmt **out, const char *sql,
                                   const char *types, ...);

/* The next row; false after the last, and when *status is set, now or before. */
bool dml_database_next(sqlite3_stmt *rows, enum dml_status *status);

/* Finalises it (NULL has no effect); returns `status`, or the failure that only shows here, such as
 * a lack of memory for a text. */
enum dml_status dml_database_end(sqlite3_stmt *rows, enum dml_status status);

/* Text of a column of the current row, valid until the next step; "" where it is NULL, as in a
 * database that somebody else or a damaged disk wrote. */
const char *dml_database_text(sqlite3_stmt *row, int column);

/* The number in a column of the current row; NAN where it is anything else: text would silently be
 * 0. */
double dml_database_number(sqlite3_stmt *row, int column);

/* Date and time now, UTC: "2020-02-19 17:03:09". */
enum { DML_TIME_SIZE = 24 };
void dml_database_now(char text[DML_TIME_SIZE]);

#endif
