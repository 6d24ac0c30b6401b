#include "base/files.h"
#include "base/memory.h"
#include "base/number.h"
#include "dml/messages.h"
#include "support/golden.h"
#include "support/run_fixture.h"
#include "support/scratch.h"
#include "tracking/best.h"
#include "tracking/database.h"
#include "tracking/gnuplot.h"
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
        {"CSV_Logs/Data_Train_mining.csv", "active_share,swapped_share\n0.5,0.25\n0.5,0.25\n"},
        {"CSV_Logs/Data_Train_learning.csv", "lr/all\n0.001\n0.001\n"},
        {"CSV_Logs/Data_Train_new.csv", "never heard of\n7\n7\n"},
        {"CSV_Logs/Data_Train_steps.csv",
         "step,epoch,loss,seconds,tuples,active,swapped\n0,0,0.3333333333333333,0.25,100,0,0\n"
         "1,0,0.25,0.25,101,1,0\n"},
        {"CSV_Logs/Data_Train_steps_new.csv", "step,unheard of\n0,0\n1,3\n2,6\n"},
        {"CSV_Logs/Data_Model Grad_L2.csv", "Grad L2\n0\n0.1\n0.2\n"},
        {"CSV_Logs/Data_Model Grad_Max.csv", "Grad Max\n7\n8\n9\n"},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char *text = read_in(fixture.folder, files[i].name);
        bool of_steps = strstr(files[i].name, "steps") || strstr(files[i].name, "Grad");
        if (files[i].text && of_steps) /* their first rows */
            text[strlen(files[i].text)] = 0;
        if (files[i].text)
            assert_string_equal(text, files[i].text);
        else
            assert_memory_equal(text, "1,2,3\n0.5,0.3", 13);
        free(text);
    }
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
    assert_int_equal(cJSON_GetObjectItem(r1, "best_epoch")->valueint, 2);
    cJSON *intra = cJSON_GetObjectItem(cJSON_GetObjectItem(metrics, "Train"), "dists@intra");
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(intra, "best"))); /* a distance has no order */
    cJSON *rate = cJSON_GetObjectItem(root, "images_per_second");
    assert_true(cJSON_GetObjectItem(rate, "training")->valuedouble == 50);
    assert_true(cJSON_GetObjectItem(rate, "evaluation")->valuedouble == 250);
    cJSON *loss = cJSON_GetObjectItem(root, "loss");
    assert_int_equal(cJSON_GetObjectItem(loss, "best_epoch")->valueint, 3);
    cJSON_Delete(root);
    free(text);
}

/* `data` has room for 4000 bytes. */
static void keep_message(void *data, enum dml_message_kind kind, const char *line) {
    (void)kind;
    char *text = data;
    size_t used = strlen(text);
    snprintf(text + used, 4000 - used, "%s\n", line);
}

static void test_console_marks_the_best(void **state) {
    (void)state;
    struct fixture fixture;
    char text[4000] = "";
    dml_listen(&(struct dml_listener){.message = keep_message, .data = text});
    struct dml_tracking *tracking = open_all(make_run(&fixture, 0));
    write_epochs(tracking, 0, 3);
    dml_tracking_close(tracking, DML_RUN_FINISHED, NULL);
    dml_listen(NULL);
    const char *second = strstr(text, "Epoch 2 of 4: loss 0.5000, lr 0.001, 50 images/s");
    const char *third = strstr(text, "Epoch 3 of 4");
    assert_non_null(second);
    assert_non_null(third);
    assert_non_null(strstr(second, "0.5000 *"));
    assert_non_null(strstr(third, "0.4000  best 0.5000 at 2"));
    assert_null(strstr(text, "rho_spectrum@0"));
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
        struct step_fixture step;
        a_step(&step, count);
        assert_true(sqlite3_column_int64(rows, 1) == (int64_t)count);
        assert_true(sqlite3_column_double(rows, 3) == step.record.loss);
        assert_true(sqlite3_column_double(rows, 4) == step.values[0].value);
        assert_true(sqlite3_column_int64(rows, 8) == (int64_t)step.values[5].value);
    }
    sqlite3_finalize(rows);
    assert_int_equal(count, 30);
    assert_true(ask(db, "SELECT COUNT(*) FROM step_values") == 30);
    assert_true(ask(db, "SELECT value FROM step_values WHERE name = 'unheard of' AND step = 29") ==
                87);
    assert_true(ask(db, "SELECT value FROM largest WHERE part = 'Train' AND name = 'e_recall@1'") ==
                fixture_recall(1, 1));
    assert_true(ask(db, "SELECT epoch FROM largest WHERE part = 'Train' AND name = 'nmi'") == 1);
    assert_true(ask(db, "SELECT COUNT(*) FROM vectors WHERE vector LIKE '[0.5,0.3%'") == 6);
    assert_true(ask(db, "SELECT COUNT(*) FROM ranks WHERE rank = 1 AND host = 'right'"
                        " AND threads = 1 AND images_per_second = 30 AND wait_share = 0.5") == 3);
    assert_true(ask(db, "SELECT MIN(value) FROM metrics WHERE part = 'Train'"
                        " AND name = 'never heard of'") == 7);
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
    assert_true(ask(db, "SELECT COUNT(*) FROM metrics") == RUNS * 4 * (2 * 4 + 4));
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
    assert_true(ask(db, "SELECT COUNT(*) FROM metrics") == 2 * (2 * 4 + 4));
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
    assert_true(ask(db, "SELECT COUNT(*) FROM metrics") == 2 * (2 * 4 + 4));
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

/* What a tracker could not write is told when it happens and once more at the end. */
static void test_a_loss_is_the_last_message(void **state) {
    (void)state;
    struct fixture fixture;
    struct epoch_fixture epoch;
    struct dml_tracking *tracking = open_all(make_run(&fixture, 0));
    char *path = dml_path_join(fixture.folder, "summary.json");
    assert_ok(dml_make_folders(path)); /* what is a folder cannot be written */
    assert_ok(dml_tracking_epoch(tracking, an_epoch(&epoch, 0)));
    assert_int_equal(dml_tracking_close(tracking, DML_RUN_FINISHED, NULL), DML_ERROR_IO);
    assert_string_equal(dml_error(), "the run finished, but not everything that it leaves could be "
                                     "written: summary.json is incomplete");
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
            struct step_fixture step;
            assert_ok(dml_tracker_csv.step(csv, a_step(&step, s)));
        }
        assert_ok(dml_tracker_csv.epoch(csv, an_epoch(&epoch, e)));
        assert_ok(dml_tracker_plots.epoch(plots, &epoch.record));
    }
    assert_ok(dml_tracker_plots.close(plots, DML_RUN_FINISHED, NULL));
    assert_ok(dml_tracker_csv.close(csv, DML_RUN_FINISHED, NULL));
    char *picture =
        read_in(fixture.folder, "Progression_Plots/Graph_Test_discriminative_e_recall.svg");
    assert_non_null(strstr(picture, "<svg"));
    assert_non_null(strstr(picture, "e_recall: e_recall@1: 0.5000  |  e_recall@2: 0.7000"));
    assert_null(strstr(picture, "> 0</tspan>")); /* epochs count from 1 */
    assert_non_null(strstr(picture, "> 1</tspan>"));
    free(picture);
    static const char *const others[] = {"Graph_Train_loss.svg", "Graph_Model Grad_L2.svg",
                                         "Graph_Train_loss.gp", "Graph_Train_loss.csv"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        char *path = dml_format("%s/Progression_Plots/%s", fixture.folder, others[i]);
        assert_true(dml_path_exists(path));
        free(path);
    }
}

/* Epochs in which nothing was evaluated have no row in the logs of metrics; the others stay where
 * they are, also where the log of their epochs begins late, as in a run of an older version. */
static void test_plots_know_the_epochs_that_were_evaluated(void **state) {
    (void)state;
    struct fixture fixture;
    struct epoch_fixture epoch;
    void *csv, *plots;
    make_run(&fixture, 0);
    assert_ok(dml_tracker_csv.open(&fixture.run, &csv));
    for (uint64_t e = 0; e < 6; e++) {
        an_epoch(&epoch, e);
        epoch.record.part_count = e % 2 ? 2 : 0;
        assert_ok(dml_tracker_csv.epoch(csv, &epoch.record));
    }
    char *epochs = dml_path_join(fixture.folder, "CSV_Logs/Data_Test_discriminative_epochs.csv");
    for (int late = 0; late < 2; late++) {
        char *text = read_in(fixture.folder, "CSV_Logs/Data_Test_discriminative_epochs.csv");
        assert_string_equal(text, late ? "epochs\n5\n" : "epochs\n1\n3\n5\n");
        free(text);
        assert_ok(dml_tracker_plots.open(&fixture.run, &plots));
        assert_ok(dml_tracker_plots.epoch(plots, &epoch.record));
        assert_ok(dml_tracker_plots.close(plots, DML_RUN_FINISHED, NULL));
        text = read_in(fixture.folder, "Progression_Plots/Graph_Test_discriminative_nmi.csv");
        assert_string_equal(text, "epoch,nmi\n2,0.8\n4,0.75\n6,0.8\n");
        free(text);
        text = read_in(fixture.folder, "Progression_Plots/Graph_Train_loss.csv");
        assert_memory_equal(text, "epoch,loss\n1,1\n2,0.5\n3,", 23);
        free(text);
        text = read_in(fixture.folder, "Progression_Plots/Graph_Test_discriminative_nmi.svg");
        assert_non_null(strstr(text, "> 6</tspan>"));
        free(text);
        assert_ok(dml_write_file(epochs, "epochs\n5\n", 9));
    }
    free(epochs);
    assert_ok(dml_tracker_csv.close(csv, DML_RUN_FINISHED, NULL));
}

/* gnuplot ends well on a full disk, and leaves half a picture. */
static void test_half_a_picture_is_told(void **state) {
    const char *path = scratch_path("half.svg"), *folder = scratch_path(".");
    static const char whole[] = "<svg width=\"10\" height=\"10\">\n<g/>\n</svg>\n\n";
    (void)state;
    for (size_t size = 0; size < sizeof whole; size++) {
        assert_ok(dml_write_file(path, whole, size));
        bool cut = size < strlen(whole) - 2;
        assert_int_equal(dml_gnuplot_check(folder, "half.gp"), cut ? DML_ERROR_IO : DML_OK);
        assert_int_equal(dml_path_exists(path), !cut);
        if (cut)
            assert_non_null(strstr(dml_error(), "half.svg: gnuplot could not write all"));
    }
    static const char script[] = "set terminal svg\nset output 'half.svg'\nplot x\n"
                                 "set terminal pngcairo\nset output 'half.png'\nplot x\n"
                                 "set terminal pdfcairo\nset output 'half.pdf'\nplot x\n";
    char name[] = "half.gp";
    scratch_text(name, script);
    enum dml_status status = dml_gnuplot_draw(folder, name, 60);
    assert_true(status == DML_OK || status == DML_ERROR_UNSUPPORTED); /* it is not installed */
}

/* Without gnuplot and wandb in PATH the run says so and goes on. */
static void test_missing_programs(void **state) {
    (void)state;
    struct fixture fixture;
    struct dml_tracking *tracking;
    struct dml_tracking_options options = {.log_online = true};
    char *before = dml_strdup(getenv("PATH"));
    char text[4000] = "";
    setenv("PATH", "/nonexistent", 1);
    dml_listen(&(struct dml_listener){.message = keep_message, .data = text});
    assert_ok(dml_tracking_open(make_run(&fixture, 0), &options, &tracking));
    write_epochs(tracking, 0, 3);
    assert_ok(dml_tracking_close(tracking, DML_RUN_FINISHED, NULL));
    dml_listen(NULL);
    setenv("PATH", before, 1);
    const char *first = strstr(text, "gnuplot: is not installed; the run continues without plots");
    assert_non_null(first);
    assert_null(strstr(first + 1, "gnuplot")); /* once */
    assert_non_null(strstr(text, "to send the run: wandb sync "));
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
        TEST(test_other_columns_are_refused),
        TEST(test_summary),
        TEST(test_console_marks_the_best),
        TEST(test_database_holds_every_value),
        TEST(test_twenty_processes_lose_nothing),
        TEST(test_a_locked_database_holds_nobody_up),
        TEST(test_a_full_disk_loses_nothing_of_the_database),
        TEST(test_a_full_disk_stops_the_csv_with_its_name),
        TEST(test_a_loss_is_the_last_message),
        TEST(test_databases_that_are_refused),
        TEST(test_a_database_that_is_not_there),
        TEST(test_the_key_leaves_the_command_line),
        TEST(test_plots_are_drawn),
        TEST(test_plots_know_the_epochs_that_were_evaluated),
        cmocka_unit_test_setup_teardown(test_half_a_picture_is_told, scratch_setup,
                                        scratch_teardown),
        TEST(test_missing_programs),
        TEST(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
