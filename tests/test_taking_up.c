/* What trackers do with a run that goes on: in its folder, in another one, as a copy. */
#include "base/files.h"
#include "base/lock.h"
#include "base/memory.h"
#include "support/golden.h"
#include "support/run_fixture.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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
    struct step_fixture extra; /* of an epoch that did not end */
    assert_ok(dml_tracking_step(tracking, a_step(&extra, 30)));
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
    assert_true(ask(db, "SELECT COUNT(*) FROM step_values") == 40);
    assert_true(ask(db, "SELECT COUNT(*) FROM epochs") == 4);
    assert_true(ask(db, "SELECT COUNT(*) FROM ranks") == 8);
    assert_true(ask(db, "SELECT COUNT(*) FROM runs WHERE status = 'finished'") == 1);
    sqlite3_close_v2(db);
    /* The best of before it was taken up is remembered: the second of four. */
    text = read_in(fixture.folder, "summary.json");
    cJSON *root = cJSON_Parse(text);
    cJSON *test = cJSON_GetObjectItem(cJSON_GetObjectItem(root, "metrics"), "Test");
    cJSON *best = cJSON_GetObjectItem(cJSON_GetObjectItem(test, "e_recall@1"), "best_epoch");
    assert_int_equal(best->valueint, 2);
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
    assert_true(ask(db, "SELECT COUNT(*) FROM ranks") == 2);
    run->identity = "fedcba9876543210"; /* a copy of it has its rows so far */
    run->copy_of = moved->identity;
    run->resumed = true;
    run->first_step = 5;
    run->first_epoch = 0;
    tracking = open_all(run);
    assert_ok(dml_tracking_close(tracking, DML_RUN_INTERRUPTED, NULL));
    assert_true(ask(db, "SELECT COUNT(*) FROM runs") == 2);
    assert_true(ask(db, "SELECT COUNT(*) FROM steps") == 15);
    assert_true(ask(db, "SELECT COUNT(*) FROM step_values") == 15);
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
                                  "DROP TABLE ranks; DROP TABLE step_values;"
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
    assert_int_equal(
        sqlite3_exec(db, "DROP TABLE step_values; PRAGMA user_version = 3", NULL, NULL, NULL),
        SQLITE_OK);
    sqlite3_close_v2(db);
    tracking = open_all(make_run(&fixture, 2));
    write_epochs(tracking, 0, 1);
    assert_ok(dml_tracking_close(tracking, DML_RUN_FINISHED, NULL));
    db = open_database();
    assert_true(ask(db, "PRAGMA user_version") == DML_DATABASE_VERSION);
    assert_true(ask(db, "SELECT COUNT(*) FROM step_values") == 10);
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

/* A folder from elsewhere, whose logs are links and whose notes name other files: what they lead to
 * stays as it is. */
static void test_a_foreign_folder_reaches_nothing_else(void **state) {
    (void)state;
    struct fixture fixture;
    struct dml_run *run = make_run(&fixture, 0);
    void *tracker;
    char *precious = dml_path_join(save_path, "precious");
    assert_ok(dml_write_file(precious, "precious\nlines\n", 15));
    char *logs = dml_path_join(fixture.folder, "CSV_Logs");
    assert_ok(dml_make_folders(logs));
    char *log = dml_path_join(logs, "Data_Train_loss.csv");
    char *events = dml_path_join(fixture.folder, "events.out.tfevents.1");
    assert_int_equal(symlink(precious, log), 0);
    assert_int_equal(symlink(precious, events), 0);
    static const char *const notes[] = {
        "{\"csv\":{\"Data_Train_loss.csv\":9},"
        "\"TensorBoard\":{\"file\":\"events.out.tfevents.1\",\"bytes\":9},"
        "\"W&B\":{\"folder\":\"..\",\"bytes\":9,\"records\":1}}",
        "{\"csv\":{\"Data_Train_loss.csv\":1e300},"
        "\"TensorBoard\":{\"file\":\"../../precious\",\"bytes\":9},"
        "\"W&B\":{\"folder\":\"../..\",\"bytes\":1e300,\"records\":-1}}"};
    run->resumed = true;
    for (size_t i = 0; i < 2; i++) {
        run->notes = cJSON_Parse(notes[i]);
        assert_non_null(run->notes);
        if (i == 0) {
            assert_int_equal(dml_tracker_csv.open(run, &tracker), DML_ERROR_INPUT);
            assert_non_null(strstr(dml_error(), "Data_Train_loss.csv: is not a file of this run"));
        }
        assert_ok(dml_tracker_tensorboard.open(run, &tracker));
        dml_tracker_tensorboard.close(tracker, DML_RUN_INTERRUPTED, NULL);
        assert_ok(dml_tracker_wandb.open(run, &tracker));
        dml_tracker_wandb.close(tracker, DML_RUN_INTERRUPTED, NULL);
        cJSON_Delete((cJSON *)run->notes);
        char *text = read_in(save_path, "precious");
        assert_string_equal(text, "precious\nlines\n");
        free(text);
    }
    free(events);
    free(log);
    free(logs);
    free(precious);
}

/* What is not a file of this program's own is neither waited for, nor followed, nor replaced. */
static void test_links_and_pipes(void **state) {
    (void)state;
    struct dml_lock lock;
    struct dml_output output;
    bool unsure;
    char *precious = dml_path_join(save_path, "precious");
    char *link = dml_path_join(save_path, "link.lock"), *pipe = dml_path_join(save_path, "pipe");
    assert_ok(dml_write_file(precious, "precious\nlines\n", 15));
    assert_int_equal(symlink(precious, link), 0);
    assert_int_equal(mkfifo(pipe, 0600), 0);
    assert_int_equal(dml_lock_take(link, &lock), DML_ERROR_IO);
    assert_false(dml_lock_held(link, &unsure));
    assert_false(dml_lock_held(pipe, &unsure));
    const char *const others[] = {pipe, save_path, "/dev/null", "/dev/stdout", "/dev/none"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_int_equal(dml_output_open(&output, others[i]), DML_ERROR_IO);
        assert_int_equal(dml_output_check(others[i]), DML_ERROR_IO);
        assert_non_null(strstr(dml_error(), "cannot be written: "));
    }
    char *temporary = dml_format("%s/page.tmp-%ld", save_path, (long)getpid());
    char *page = dml_path_join(save_path, "page");
    assert_int_equal(symlink(precious, temporary), 0);
    assert_int_equal(dml_output_open(&output, page), DML_ERROR_IO);
    char *text = read_in(save_path, "precious");
    assert_string_equal(text, "precious\nlines\n");
    free(text);
    free(page);
    free(temporary);
    free(pipe);
    free(link);
    free(precious);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_a_run_taken_up_again),
        TEST(test_a_run_that_moved_or_was_copied),
        TEST(test_a_dead_run_does_not_stay_running),
        TEST(test_an_older_database_is_brought_up_to_date),
        TEST(test_a_log_that_was_changed),
        TEST(test_a_foreign_folder_reaches_nothing_else),
        TEST(test_links_and_pipes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
