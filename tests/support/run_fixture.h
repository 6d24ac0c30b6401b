#ifndef TESTS_SUPPORT_RUN_FIXTURE_H
#define TESTS_SUPPORT_RUN_FIXTURE_H

#include "support/golden.h"
#include "tracking/database.h"
#include "tracking/tracking.h"

/* Runs made by hand, for tests of what a run leaves behind. */

/* The trackers there are. */
extern const struct dml_tracker dml_tracker_console, dml_tracker_csv, dml_tracker_summary,
    dml_tracker_sqlite, dml_tracker_plots, dml_tracker_wandb, dml_tracker_tensorboard;

/* A save path of its own for every test, below the build folder. */
extern char save_path[256];
int fresh_folder(void **state);
int remove_folder(void **state);
#define TEST(name) cmocka_unit_test_setup_teardown(name, fresh_folder, remove_folder)

/* Run `number`, "group_sN" with seed N, on the data set "emoji"; its folder is made. */
struct fixture {
    char folder[320], savename[40];
    struct dml_run run;
};
struct dml_run *make_run(struct fixture *fixture, int number);

/* Ten steps are an epoch. All values differ from step to step. */
struct step_fixture {
    struct dml_named_value values[6];
    struct dml_step_record record;
};
const struct dml_step_record *a_step(struct step_fixture *fixture, uint64_t step);

/* Test and Train with e_recall@1, dists@intra, e_recall@2, nmi (each 0.1 above the one before) and
 * the spectrum (0.5, 0.3, 0.2). */
struct epoch_fixture {
    float spectrum[3];
    struct dml_metric_value metrics[2][5];
    struct dml_epoch_record record;
};
const struct dml_epoch_record *an_epoch(struct epoch_fixture *fixture, uint64_t epoch);

/* e_recall@1 of part 0, Test, or 1, Train: best in epoch 1 of each four. */
double fixture_recall(uint64_t epoch, size_t part);
double fixture_value(uint64_t epoch, size_t part, size_t metric);

/* Epochs from..to-1 with their steps. */
void write_epochs(struct dml_tracking *tracking, uint64_t from, uint64_t to);

/* Csv, summary, console and database. */
struct dml_tracking *open_all(const struct dml_run *run);

/* The database of the save path, and the number that a query gives. */
sqlite3 *open_database(void);
double ask(sqlite3 *db, const char *sql);

/* A whole file; free() it. */
char *read_in(const char *folder, const char *name);

#endif
