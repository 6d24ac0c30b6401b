#include "base/files.h"
#include "base/lock.h"
#include "base/memory.h"
#include "base/number.h"
#include "support/golden.h"
#include "support/run_fixture.h"
#include "tracking/best.h"
#include "tracking/database.h"
#include "tracking/names.h"
#include "tracking/tracking.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static double ask(sqlite3 *db, const char *sql) {
    sqlite3_stmt *statement;
    assert_ok(dml_database_query(db, &statement, sql, ""));
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    double value = sqlite3_column_double(statement, 0);
    sqlite3_finalize(statement);
    return value;
}

static sqlite3 *open_database(void) {
    sqlite3 *db;
    assert_ok(dml_database_open(save_path, false, 1000, &db));
    return db;
}

static void test_numbers_read_back(void **state) {
    (void)state;
    const double values[] = {0, 0.1, 1.0 / 3, 1e-300, 123456789.125, -2.5e17};
    char text[DML_NUMBER_SIZE];
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        assert_true(strtod(dml_number_text(values[i], text), NULL) == values[i]);
    assert_string_equal(dml_number_text(0.1, text), "0.1");
    assert_string_equal(dml_number_text(NAN, text), "nan");
    assert_string_equal(dml_number_text(-INFINITY, text), "-inf");
}

static void test_csv_layout_of_the_study(void **state) {
    (void)state;
    struct fixture fixture;
    struct dml_tracking *tracking = open_all(make_run(&fixture, 0));
    write_epochs(tracking, 0, 2);
    assert_ok(dml_tracking_close(tracking, DML_RUN_FINISHED, NULL));
    const struct {
        const char *name, *text;
    } files[] = {
        {"CSV_Logs/Data_Train_epochs.csv", "epochs\n0\n1\n"},
        {"CSV_Logs/Data_Train_loss.csv", "loss\n1\n0.5\n"},
        {"CSV_Logs/Data_Train_time.csv", "time\n2\n2\n"},
        {"CSV_Logs/Data_Test_discriminative_e_recall.csv",
         "e_recall@1,e_recall@2\n0.3,0.5\n0.5,0.7\n"},
        {"CSV_Logs/Data_Test_discriminative_dists.csv", "dists@intra\n0.4\n0.6\n"},
        {"CSV_Logs/Data_Train_discriminative_rho_spectrum@0.csv", NULL},
        {"CSV_Logs/Data_Train_mining.csv",
         "active_share,swapped_share,replaced_images\n0.5,0.25,0\n0.5,0.25,0\n"},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char *text = read_in(fixture.folder, files[i].name);
        if (files[i].text)
            assert_string_equal(text, files[i].text);
        else
            assert_memory_equal(text, "1,2,3\n0.5,0.3", 13);
        free(text);
    }
    char *text = read_in(fixture.folder, "CSV_Logs/Data_Model Grad_Max.csv");
    assert_memory_equal(text, "Grad Max\n7\n8\n9\n", 15);
    free(text);
}

/* The notes of a state, as a run that goes on from it finds them. */
static void take_up(struct dml_run *run, struct dml_tracking *tracking, uint64_t step,
                    uint64_t epoch) {
    char *notes;
    assert_ok(dml_tracking_sync(tracking, &notes));
    run->resumed = true;
    run->first_step = step;
    run->first_epoch = epoch;
    run->notes = cJSON_Parse(notes);
    assert_non_null(run->notes);
    free(notes);
}

static void test_a_run_taken_up_again(void **state) {
    (void)state;
    struct fixture fixture;
    struct dml_run *run = make_run(&fixture, 0);
    run->identity = "0123456789abcdef";
    struct dml_tracking *tracking = open_all(run);
    write_epochs(tracking, 0, 2);
    take_up(run, tracking, 20, 2);
    write_epochs(tracking, 2, 3);
    struct dml_step_record extra = a_step(30); /* of an epoch that did not end */
    assert_ok(dml_tracking_step(tracking, &extra));
    assert_ok(dml_tracking_close(tracking, DML_RUN_INTERRUPTED, NULL));
    tracking = open_all(run);
    write_epochs(tracking, 2, 4);
    assert_ok(dml_tracking_close(tracking, DML_RUN_FINISHED, NULL));
    cJSON_Delete((cJSON *)run->notes);

    char *text = read_in(fixture.folder, "CSV_Logs/Data_Train_epochs.csv");
    assert_string_equal(text, "epochs\n0\n1\n2\n3\n");
    free(text);
    text = read_in(fixture.folder, "CSV_Logs/Data_Train_steps.csv");
    size_t lines = 0;
    for (const char *at = text; (at = strchr(at, '\n')); at++)
        lines++;
    assert_int_equal(lines, 41);
    free(text);
    sqlite3 *db = open_database();
    assert_true(ask(db, "SELECT COUNT(*) FROM steps") == 40);
    assert_true(ask(db, "SELECT COUNT(*) FROM epochs") == 4);
    assert_true(ask(db, "SELECT COUNT(*) FROM runs WHERE status = 'finished'") == 1);
    sqlite3_close_v2(db);
    /* The best of before it was taken up is remembered: epoch 1 of 0..3. */
    text = read_in(fixture.folder, "summary.json");
    cJSON *root = cJSON_Parse(text);
    cJSON *test = cJSON_GetObjectItem(cJSON_GetObjectItem(root, "metrics"), "Test");
    cJSON *best = cJSON_GetObjectItem(cJSON_GetObjectItem(test, "e_recall@1"), "best_epoch");
    assert_int_equal(best->valueint, 1);
    assert_int_equal(cJSON_GetObjectItem(root, "epochs")->valueint, 4);
    cJSON *seconds = cJSON_GetObjectItem(root, "seconds");
    assert_true(cJSON_GetObjectItem(seconds, "training")->valuedouble == 8);
    cJSON_Delete(root);
    free(text);
}

/* A folder is known by the run's identity, not by its path. */
static void test_a_run_that_moved_or_was_copied(void **state) {
    (void)state;
    struct fixture first, second;
    struct dml_run *run = make_run(&first, 0), *moved = make_run(&second, 1);
    run->identity = moved->identity = "0123456789abcdef";
    struct dml_tracking *tracking = open_all(run);
    write_epochs(tracking, 0, 2);
    assert_ok(dml_tracking_close(tracking, DML_RUN_INTERRUPTED, NULL));
    moved->resumed = true;
    moved->first_step = 10;
    moved->first_epoch = 1;
    moved->command = "dml train --resume";
    tracking = open_all(moved);
    assert_ok(dml_tracking_close(tracking, DML_RUN_INTERRUPTED, NULL));
    sqlite3 *db = open_database();
    assert_true(ask(db, "SELECT COUNT(*) FROM runs") == 1);
    assert_true(ask(db, "SELECT COUNT(*) FROM runs WHERE folder = 'emoji/group_s1'"
                        " AND command = 'dml train'") == 1);
    assert_true(ask(db, "SELECT COUNT(*) FROM steps") == 10);
    assert_true(ask(db, "SELECT COUNT(*) FROM epochs") == 1);
    run->identity = "fedcba9876543210"; /* a copy of it has its rows so far */
    run->copy_of = moved->identity;
    run->resumed = true;
    run->first_step = 5;
    run->first_epoch = 0;
    tracking = open_all(run);
    assert_ok(dml_tracking_close(tracking, DML_RUN_INTERRUPTED, NULL));
    assert_true(ask(db, "SELECT COUNT(*) FROM runs") == 2);
    assert_true(ask(db, "SELECT COUNT(*) FROM steps") == 15);
    assert_true(ask(db, "SELECT COUNT(*) FROM epochs") == 1);
    sqlite3_close_v2(db);
}

/* A run that says `running` while nobody holds its folder was killed. */
static void test_a_dead_run_does_not_stay_running(void **state) {
    (void)state;
    struct fixture fixtures[2];
    struct dml_lock lock;
    struct dml_tracking *tracking[2];
    for (int i = 0; i < 2; i++) {
        struct dml_run *run = make_run(&fixtures[i], i);
        run->identity = i ? "1" : "0";
        if (i == 0) {
            char *path = dml_path_join(run->folder, DML_RUN_LOCK);
            assert_ok(dml_lock_take(path, &lock));
            free(path);
        }
        tracking[i] = open_all(run);
    }
    sqlite3 *db = open_database();
    assert_true(ask(db, "SELECT COUNT(*) FROM runs WHERE identity = '0' AND status = 'running'") ==
                1);
    assert_true(ask(db, "SELECT COUNT(*) FROM runs WHERE identity = '1' AND"
                        " status = 'interrupted' AND error LIKE '%killed%'") == 1);
    sqlite3_close_v2(db);
    for (int i = 0; i < 2; i++)
        assert_ok(dml_tracking_close(tracking[i], DML_RUN_FINISHED, NULL));
    dml_lock_release(&lock);
}

static void test_an_older_database_is_brought_up_to_date(void **state) {
    (void)state;
    struct fixture fixture;
    struct dml_tracking *tracking = open_all(make_run(&fixture, 0));
    write_epochs(tracking, 0, 1);
    assert_ok(dml_tracking_close(tracking, DML_RUN_FINISHED, NULL));
    sqlite3 *db = open_database();
    assert_int_equal(sqlite3_exec(db,
                                  "DROP INDEX runs_by_identity;"
                                  "ALTER TABLE runs DROP COLUMN identity;"
                                  "ALTER TABLE runs DROP COLUMN host; PRAGMA user_version = 1",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close_v2(db);
    db = open_database(); /* readers take it as it is */
    assert_true(ask(db, "PRAGMA user_version") == 1);
    sqlite3_close_v2(db);
    struct dml_run *run = make_run(&fixture, 1);
    run->identity = "0123456789abcdef";
    assert_ok(dml_tracking_close(open_all(run), DML_RUN_FINISHED, NULL));
    db = open_database();
    assert_true(ask(db, "PRAGMA user_version") == DML_DATABASE_VERSION);
    assert_true(ask(db, "SELECT COUNT(*) FROM runs") == 2);
    assert_true(ask(db, "SELECT COUNT(*) FROM steps") == 10);
    sqlite3_close_v2(db);
}

static void test_a_log_that_was_changed(void **state) {
    (void)state;
    struct fixture fixture;
    struct dml_run *run = make_run(&fixture, 0);
    struct dml_tracking *tracking = open_all(run);
    write_epochs(tracking, 0, 2);
    take_up(run, tracking, 20, 2);
    assert_ok(dml_tracking_close(tracking, DML_RUN_INTERRUPTED, NULL));
    char *path = dml_path_join(fixture.folder, "CSV_Logs/Data_Train_loss.csv");
    assert_ok(dml_write_file(path, "loss\n1\n0.", 9)); /* its last row is torn */
    tracking = open_all(run);
    write_epochs(tracking, 2, 3);
    assert_ok(dml_tracking_close(tracking, DML_RUN_FINISHED, NULL));
    char *text = read_in(fixture.folder, "CSV_Logs/Data_Train_loss.csv");
    assert_memory_equal(text, "loss\n1\n0.33333", 14);
    free(text);
    free(path);
    cJSON_Delete((cJSON *)run->notes);
}

static void test_other_columns_are_refused(void **state) {
    (void)state;
    struct fixture fixture;
    struct dml_tracking *tracking = open_all(make_run(&fixture, 0));
    char *path = dml_path_join(fixture.folder, "CSV_Logs/Data_Train_loss.csv");
    assert_ok(dml_write_file(path, "something\n1\n", 12));
    struct epoch_fixture epoch;
    assert_int_equal(dml_tracking_epoch(tracking, an_epoch(&epoch, 0)), DML_ERROR_INPUT);
    assert_non_null(strstr(dml_error(), "Data_Train_loss.csv"));
    dml_tracking_close(tracking, DML_RUN_FAILED, dml_error());
    free(path);
}

static void test_summary(void **state) {
    (void)state;
    struct fixture fixture;
    struct dml_tracking *tracking = open_all(make_run(&fixture, 3));
    write_epochs(tracking, 0, 3);
    assert_ok(dml_tracking_close(tracking, DML_RUN_FAILED, "the disk burnt"));
    char *text = read_in(fixture.folder, "summary.json");
    cJSON *root = cJSON_Parse(text);
    assert_string_equal(cJSON_GetObjectItem(root, "status")->valuestring, "failed");
    assert_string_equal(cJSON_GetObjectItem(root, "error")->valuestring, "the disk burnt");
    cJSON *metrics = cJSON_GetObjectItem(root, "metrics");
    cJSON *r1 = cJSON_GetObjectItem(cJSON_GetObjectItem(metrics, "Train"), "e_recall@1");
    assert_true(cJSON_GetObjectItem(r1, "last")->valuedouble == fixture_recall(2, 1));
    assert_true(cJSON_GetObjectItem(r1, "best")->valuedouble == fixture_recall(1, 1));
    assert_int_equal(cJSON_GetObjectItem(r1, "best_epoch")->valueint, 1);
    cJSON *intra = cJSON_GetObjectItem(cJSON_GetObjectItem(metrics, "Train"), "dists@intra");
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(intra, "best"))); /* a distance has no order */
    cJSON *rate = cJSON_GetObjectItem(root, "images_per_second");
    assert_true(cJSON_GetObjectItem(rate, "training")->valuedouble == 50);
    assert_true(cJSON_GetObjectItem(rate, "evaluation")->valuedouble == 250);
    cJSON *loss = cJSON_GetObjectItem(root, "loss");
    assert_int_equal(cJSON_GetObjectItem(loss, "best_epoch")->valueint, 2);
    cJSON_Delete(root);
    free(text);
}

static void test_console_marks_the_best(void **state) {
    (void)state;
    struct fixture fixture;
    char *path = dml_path_join(save_path, "stdout");
    fflush(stdout);
    int before = dup(STDOUT_FILENO);
    assert_non_null(freopen(path, "w", stdout));
    struct dml_tracking *tracking = open_all(make_run(&fixture, 0));
    write_epochs(tracking, 0, 3);
    dml_tracking_close(tracking, DML_RUN_FINISHED, NULL);
    fflush(stdout);
    dup2(before, STDOUT_FILENO);
    close(before);
    char *text;
    assert_ok(dml_read_file(path, &text, NULL));
    const char *second = strstr(text, "Epoch 2 of 4: loss 0.5000, lr 0.001, 50 images/s");
    const char *third = strstr(text, "Epoch 3 of 4");
    assert_non_null(second);
    assert_non_null(third);
    assert_non_null(strstr(second, "0.5000 *"));
    assert_non_null(strstr(third, "0.4000  best 0.5000 at 2"));
    assert_null(strstr(text, "rho_spectrum@0"));
    free(text);
    free(path);
}

static void test_database_holds_every_value(void **state) {
    (void)state;
    struct fixture fixture;
    struct dml_tracking *tracking = open_all(make_run(&fixture, 7));
    write_epochs(tracking, 0, 3);
    sqlite3 *db = open_database(); /* readers do not wait for the run to end */
    assert_true(ask(db, "SELECT COUNT(*) FROM runs WHERE status = 'running'") == 1);
    assert_ok(dml_tracking_close(tracking, DML_RUN_FAILED, "no more"));
    sqlite3_stmt *rows;
    uint64_t count = 0;
    assert_ok(dml_database_query(db, &rows, "SELECT * FROM steps ORDER BY step", ""));
    for (; sqlite3_step(rows) == SQLITE_ROW; count++) {
        struct dml_step_record step = a_step(count);
        assert_true(sqlite3_column_int64(rows, 1) == (int64_t)step.step);
        assert_true(sqlite3_column_double(rows, 3) == step.loss);
        assert_true(sqlite3_column_double(rows, 4) == step.grad_rms);
        assert_true(sqlite3_column_int64(rows, 8) == (int64_t)step.swapped);
    }
    sqlite3_finalize(rows);
    assert_int_equal(count, 30);
    assert_true(ask(db, "SELECT value FROM largest WHERE part = 'Train' AND name = 'e_recall@1'") ==
                fixture_recall(1, 1));
    assert_true(ask(db, "SELECT epoch FROM largest WHERE part = 'Train' AND name = 'nmi'") == 1);
    assert_true(ask(db, "SELECT COUNT(*) FROM vectors WHERE vector LIKE '[0.5,0.3%'") == 6);
    assert_true(ask(db,
                    "SELECT COUNT(*) FROM runs WHERE status = 'failed' AND error = 'no more'"
                    " AND folder = 'emoji/group_s7' AND seed = 7 AND testing_images = 500") == 1);
    sqlite3_close_v2(db);
}

static void test_twenty_processes_lose_nothing(void **state) {
    (void)state;
    enum { RUNS = 20 };
    pid_t children[RUNS];
    fflush(stdout);
    for (int i = 0; i < RUNS; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            struct fixture fixture;
            if (!freopen("/dev/null", "w", stdout))
                _exit(2);
            struct dml_tracking *tracking = open_all(make_run(&fixture, i));
            write_epochs(tracking, 0, 4);
            _exit(dml_tracking_close(tracking, DML_RUN_FINISHED, NULL) != DML_OK);
        }
    }
    for (int i = 0; i < RUNS; i++) {
        int result;
        waitpid(children[i], &result, 0);
        assert_int_equal(result, 0);
    }
    sqlite3 *db = open_database();
    assert_true(ask(db, "SELECT COUNT(*) FROM runs WHERE status = 'finished'") == RUNS);
    assert_true(ask(db, "SELECT COUNT(*) FROM steps") == RUNS * 40);
    assert_true(ask(db, "SELECT COUNT(*) FROM metrics") == RUNS * 4 * 2 * 4);
    assert_true(ask(db, "SELECT COUNT(DISTINCT loss) FROM steps") == 40);
    assert_true(ask(db, "SELECT COUNT(*) FROM pragma_integrity_check"
                        " WHERE integrity_check = 'ok'") == 1);
    sqlite3_close_v2(db);
}

static void test_a_locked_database_holds_nobody_up(void **state) {
    (void)state;
    struct fixture fixture;
    struct dml_tracking *tracking = open_all(make_run(&fixture, 0));
    sqlite3 *db = open_database();
    assert_int_equal(sqlite3_exec(db, "BEGIN EXCLUSIVE", NULL, NULL, NULL), SQLITE_OK);
    write_epochs(tracking, 0, 1);
    assert_int_equal(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    write_epochs(tracking, 1, 2);
    assert_ok(dml_tracking_close(tracking, DML_RUN_FINISHED, NULL));
    assert_true(ask(db, "SELECT COUNT(*) FROM steps") == 20);
    assert_true(ask(db, "SELECT COUNT(*) FROM metrics") == 16);
    sqlite3_close_v2(db);
}

/* A full disk is played by a limit on the size of files, in a process of its own. */
static void test_a_full_disk_loses_nothing_of_the_database(void **state) {
    (void)state;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct fixture fixture;
        struct rlimit limit;
        void *recorder;
        signal(SIGXFSZ, SIG_IGN);
        assert_ok(dml_tracker_sqlite.open(make_run(&fixture, 0), &recorder));
        getrlimit(RLIMIT_FSIZE, &limit);
        struct rlimit small = {4096, limit.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small);
        struct epoch_fixture epoch;
        bool fine = dml_tracker_sqlite.epoch(recorder, an_epoch(&epoch, 0)) == DML_OK;
        setrlimit(RLIMIT_FSIZE, &limit);
        fine = dml_tracker_sqlite.epoch(recorder, an_epoch(&epoch, 1)) == DML_OK && fine;
        fine = dml_tracker_sqlite.close(recorder, DML_RUN_FINISHED, NULL) == DML_OK && fine;
        _exit(!fine);
    }
    int result;
    waitpid(child, &result, 0);
    assert_int_equal(result, 0);
    sqlite3 *db = open_database();
    assert_true(ask(db, "SELECT COUNT(*) FROM metrics") == 16);
    assert_true(ask(db, "SELECT COUNT(*) FROM epochs") == 2);
    sqlite3_close_v2(db);
}

static void test_a_full_disk_stops_the_csv_with_its_name(void **state) {
    (void)state;
    struct fixture fixture;
    struct epoch_fixture epoch;
    struct dml_tracking *tracking = open_all(make_run(&fixture, 0));
    char *path = dml_path_join(fixture.folder, "CSV_Logs/Data_Train_loss.csv");
    assert_int_equal(symlink("/dev/full", path), 0);
    assert_int_equal(dml_tracking_epoch(tracking, an_epoch(&epoch, 0)), DML_ERROR_IO);
    assert_non_null(strstr(dml_error(), "Data_Train_loss.csv: cannot be written: No space left"));
    dml_tracking_close(tracking, DML_RUN_FAILED, dml_error());
    free(path);
}

static void expect_refused(const char *sql_or_bytes, bool bytes, const char *message) {
    char *path = dml_path_join(save_path, "runs.sqlite");
    sqlite3 *db;
    unlink(path);
    if (bytes)
        assert_ok(dml_write_file(path, sql_or_bytes, strlen(sql_or_bytes)));
    else {
        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, sql_or_bytes, NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(db);
    }
    assert_int_equal(dml_database_open(save_path, true, 1000, &db), DML_ERROR_INPUT);
    assert_null(db);
    assert_non_null(strstr(dml_error(), "runs.sqlite"));
    assert_non_null(strstr(dml_error(), message));
    /* The run goes on without the database. */
    struct fixture fixture;
    struct dml_tracking *tracking = open_all(make_run(&fixture, 0));
    write_epochs(tracking, 0, 1);
    assert_ok(dml_tracking_close(tracking, DML_RUN_FINISHED, NULL));
    free(path);
}

static void test_databases_that_are_refused(void **state) {
    (void)state;
    char junk[5000];
    memset(junk, 'x', sizeof junk);
    junk[sizeof junk - 1] = 0;
    expect_refused(junk, true, "not a database");
    expect_refused("CREATE TABLE mine (a)", false, "not one of runs");
    expect_refused("PRAGMA application_id = 1684892721; PRAGMA user_version = 99;"
                   "CREATE TABLE runs (a)",
                   false, "schema version 99");
}

static void test_a_database_that_is_not_there(void **state) {
    (void)state;
    sqlite3 *db;
    assert_int_equal(dml_database_open(save_path, false, 0, &db), DML_ERROR_INPUT);
    assert_non_null(strstr(dml_error(), "does not exist"));
}

static void test_the_key_leaves_the_command_line(void **state) {
    (void)state;
    char program[] = "dml", flag[] = "--wandb_key", key[] = "0123", rest[] = "--seed";
    char joined[] = "--wandb_key=4567";
    char *argv[] = {program, flag, key, rest, joined, NULL};
    int argc = 5;
    assert_ok(dml_tracking_take_key(&argc, argv));
    assert_int_equal(argc, 2);
    assert_string_equal(argv[1], "--seed");
    assert_null(argv[2]);
    assert_string_equal(getenv("WANDB_API_KEY"), "4567");
    assert_int_equal(key[0], 0);
    for (size_t i = 0; i < sizeof joined; i++)
        assert_int_equal(joined[i], 0);
    char again[] = "--wandb_key";
    char *without[] = {program, again, NULL};
    argc = 2;
    assert_int_equal(dml_tracking_take_key(&argc, without), DML_ERROR_USAGE);
    unsetenv("WANDB_API_KEY");
}

static void test_plots_are_drawn(void **state) {
    (void)state;
    struct fixture fixture;
    struct epoch_fixture epoch;
    void *csv, *plots;
    make_run(&fixture, 0);
    assert_ok(dml_tracker_csv.open(&fixture.run, &csv));
    assert_ok(dml_tracker_plots.open(&fixture.run, &plots));
    for (uint64_t e = 0; e < 3; e++) {
        for (uint64_t s = e * 10; s < e * 10 + 10; s++) {
            struct dml_step_record step = a_step(s);
            assert_ok(dml_tracker_csv.step(csv, &step));
        }
        assert_ok(dml_tracker_csv.epoch(csv, an_epoch(&epoch, e)));
        assert_ok(dml_tracker_plots.epoch(plots, &epoch.record));
    }
    assert_ok(dml_tracker_plots.close(plots, DML_RUN_FINISHED, NULL));
    assert_ok(dml_tracker_csv.close(csv, DML_RUN_FINISHED, NULL));
    char *picture =
        read_in(fixture.folder, "Progression_Plots/Graph_Test_discriminative_e_recall.svg");
    assert_non_null(strstr(picture, "<svg"));
    assert_non_null(strstr(picture, "e_recall@1: 0.5000  |  e_recall@2: 0.7000"));
    free(picture);
    static const char *const others[] = {"Graph_Train_loss.svg", "Graph_Model Grad_L2.svg",
                                         "Graph_Train_loss.gp", "Graph_Train_loss.csv"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        char *path = dml_format("%s/Progression_Plots/%s", fixture.folder, others[i]);
        assert_true(dml_path_exists(path));
        free(path);
    }
}

/* Without gnuplot and wandb in PATH the run says so and goes on. */
static void test_missing_programs(void **state) {
    (void)state;
    struct fixture fixture;
    struct dml_tracking *tracking;
    struct dml_tracking_options options = {.log_online = true};
    char *before = dml_strdup(getenv("PATH"));
    char *log = dml_path_join(save_path, "stderr");
    setenv("PATH", "/nonexistent", 1);
    fflush(stderr);
    int saved = dup(STDERR_FILENO);
    assert_non_null(freopen(log, "w", stderr));
    assert_ok(dml_tracking_open(make_run(&fixture, 0), &options, &tracking));
    write_epochs(tracking, 0, 3);
    assert_ok(dml_tracking_close(tracking, DML_RUN_FINISHED, NULL));
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    setenv("PATH", before, 1);
    char *text;
    assert_ok(dml_read_file(log, &text, NULL));
    const char *first = strstr(text, "gnuplot: is not installed; the run goes on without plots");
    assert_non_null(first);
    assert_null(strstr(first + 1, "gnuplot")); /* once */
    assert_non_null(strstr(text, "to send the run: wandb sync "));
    free(text);
    free(log);
    free(before);
}

static void test_names(void **state) {
    (void)state;
    char name[DML_NAME_SIZE];
    dml_metric_online_name("Test", "e_recall@1", name);
    assert_string_equal(name, "Test: discriminative_e_recall: e_recall@1");
    dml_metric_online_name("Train", "nmi", name);
    assert_string_equal(name, "Train: discriminative_nmi: nmi");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_numbers_read_back),
        TEST(test_csv_layout_of_the_study),
        TEST(test_a_run_taken_up_again),
        TEST(test_a_run_that_moved_or_was_copied),
        TEST(test_a_dead_run_does_not_stay_running),
        TEST(test_an_older_database_is_brought_up_to_date),
        TEST(test_a_log_that_was_changed),
        TEST(test_other_columns_are_refused),
        TEST(test_summary),
        TEST(test_console_marks_the_best),
        TEST(test_database_holds_every_value),
        TEST(test_twenty_processes_lose_nothing),
        TEST(test_a_locked_database_holds_nobody_up),
        TEST(test_a_full_disk_loses_nothing_of_the_database),
        TEST(test_a_full_disk_stops_the_csv_with_its_name),
        TEST(test_databases_that_are_refused),
        TEST(test_a_database_that_is_not_there),
        TEST(test_the_key_leaves_the_command_line),
        TEST(test_plots_are_drawn),
        TEST(test_missing_programs),
        TEST(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
