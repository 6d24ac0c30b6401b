#include "base/files.h"
#include "base/memory.h"
#include "support/run_fixture.h"
#include "sweep/sweep.h"

#include <glob.h>
#include <stdlib.h>
#include <string.h>

static char *write_sweep(const char *text) {
    char *path = dml_path_join(save_path, "study.txt");
    assert_ok(dml_write_file(path, text, strlen(text)));
    return path;
}

static void expect_runs(const char *text, size_t count, const char *const *flags) {
    struct dml_sweep sweep;
    char *path = write_sweep(text);
    assert_ok(dml_sweep_read(path, NULL, 0, &sweep));
    assert_string_equal(sweep.name, "study");
    assert_int_equal(sweep.count, count);
    for (size_t i = 0; i < count; i++)
        assert_string_equal(sweep.runs[i].flags, flags[i]);
    dml_sweep_free(&sweep);
    free(path);
}

static void expect_error(const char *text, const char *message) {
    struct dml_sweep sweep;
    char *path = write_sweep(text);
    assert_int_equal(dml_sweep_read(path, NULL, 0, &sweep), DML_ERROR_INPUT);
    if (!strstr(dml_error(), message))
        fail_msg("'%s' does not say '%s'", dml_error(), message);
    free(path);
}

static void test_lists_multiply(void **state) {
    (void)state;
    static const char *const flags[] = {"--seed 0 --loss margin", "--seed 0 --loss triplet",
                                        "--seed 1 --loss margin", "--seed 1 --loss triplet"};
    expect_runs("--seed {0..1} --loss {margin,triplet}\n", 4, flags);
}

static void test_numbered_lists_move_together(void **state) {
    (void)state;
    static const char *const flags[] = {
        "--dataset a --seed 0 --group A_x", "--dataset a --seed 1 --group A_x",
        "--dataset b --seed 0 --group B_x", "--dataset b --seed 1 --group B_x"};
    expect_runs("all --dataset {1:a,b} --seed {0..1}\n\n# comment\n"
                "--group {1:A,B}_x # and another\n",
                4, flags);
}

/* A sweep file as editors on Windows leave it. */
static void test_foreign_lines(void **state) {
    (void)state;
    static const char *const flags[] = {"--loss margin --tau 10 20", "--loss npair --seed 1"};
    expect_runs("\xEF\xBB\xBF"
                "dml train --loss margin \\\r\n   --tau 10 \\\r\n 20\r\n\r\n"
                "--loss npair --seed 1\r\n",
                2, flags);
    expect_error("--loss margin \\\r\n --tau 1\r\nnonsense\r\n", "study.txt:3: 'nonsense'");
}

static void test_line_form(void **state) {
    (void)state;
    static const char *const flags[] = {"--loss margin --tau 10 20", "--group 'a b'",
                                        "--source /data/x --loss npair"};
    setenv("SWEEP_TEST", "/data", 1);
    expect_runs("\"\"\"==== It's a heading ===\"\"\"\n"
                "dml train --loss margin \\\n   --tau 10 20\n"
                "python main.py --group 'a b'\n"
                "--source $SWEEP_TEST/x --loss npair",
                3, flags);
    unsetenv("SWEEP_TEST");
}

static void test_extra_flags_and_labels(void **state) {
    (void)state;
    struct dml_sweep sweep;
    char *extra[] = {"--save_path", "there"};
    char *path = write_sweep("all --bs 4 --seed {0..1}\n--loss margin\n");
    assert_ok(dml_sweep_read(path, extra, 2, &sweep));
    assert_int_equal(sweep.count, 2);
    assert_string_equal(sweep.runs[1].flags, "--bs 4 --seed 1 --loss margin --save_path there");
    assert_string_equal(sweep.runs[1].label, "--seed 1 --loss margin");
    assert_int_equal(sweep.runs[1].line, 2);
    dml_sweep_free(&sweep);
    free(path);
}

static void test_bad_files(void **state) {
    (void)state;
    expect_error("# nothing\n", "has no runs");
    expect_error("--a 1\n--b 'x\n", "study.txt:2: a quote ' is not closed");
    expect_error("all --x {1:a,b}\n--y {1:a,b,c}\n", "study.txt:2: the list {1:a,b,c} has 3 items");
    expect_error("--seed {3..1}\n", "has 0 items");
    expect_error("--seed {-9223372036854775808..9223372036854775807}\n", " items");
    expect_error("--seed {-3..9223372036854775807}\n", " items");
    expect_error("margin --loss\n", "'margin' is neither");
    expect_error("--s $SWEEP_TEST_IS_NOT_SET\n", "SWEEP_TEST_IS_NOT_SET is not set");
    expect_error("--s {0..999} --t {0..999}\n", "more than 100000 runs");
}

/* Flags as dml train takes them; wrong ones with the line. */
static void test_check(void **state) {
    (void)state;
    struct dml_sweep sweep;
    char *path = write_sweep("--seed 1 --loss margin\n--loss margin --kernels 3\n--seed 2\n");
    assert_ok(dml_sweep_read(path, NULL, 0, &sweep));
    assert_ok(dml_sweep_check(path, &sweep));
    assert_int_equal(sweep.count, 2); /* the defaults are the first line's; kernels do not count */
    assert_string_equal(sweep.runs[1].identity, "seed=2\n");
    dml_sweep_free(&sweep);
    free(path);
    static const char *const wrong[][2] = {{"--seed 1\n--lss margin\n", "study.txt:2: "},
                                           {"--loss margn\n", "study.txt:1: "},
                                           {"--lr -1\n", "study.txt:1: "},
                                           {"--seed 1\n--arch resnet50_gm\n", "study.txt:2: "},
                                           {"--optim adamm\n", "study.txt:1: "},
                                           {"--scheduler steps\n", "study.txt:1: "},
                                           {"--transforms flop\n", "study.txt:1: "},
                                           {"--evaluation_metrics recall\n", "study.txt:1: "},
                                           {"--bs 9 --samples_per_class 2\n", "study.txt:1: "},
                                           {"--save_path a\n--save_path b\n", "study.txt:2: "}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        path = write_sweep(wrong[i][0]);
        assert_ok(dml_sweep_read(path, NULL, 0, &sweep));
        assert_int_equal(dml_sweep_check(path, &sweep), DML_ERROR_USAGE);
        if (!strstr(dml_error(), wrong[i][1]))
            fail_msg("'%s' has no '%s'", dml_error(), wrong[i][1]);
        dml_sweep_free(&sweep);
        free(path);
    }
}

/* The study's list: 23 rows on three data sets with five seeds, all of them with flags and methods
 * that exist. A flag after -- wins over the file's. */
static void test_the_study(void **state) {
    (void)state;
    struct dml_sweep sweep;
    const char *path = DML_SOURCE_DIR "/experiments/study.txt";
    assert_ok(dml_sweep_read(path, NULL, 0, &sweep));
    assert_ok(dml_sweep_check(path, &sweep));
    assert_int_equal(sweep.count, 23 * 3 * 5);
    for (size_t i = 0; i < sweep.count; i++)
        assert_int_equal(strstr(sweep.runs[i].flags, "online_products") != NULL,
                         strstr(sweep.runs[i].flags, "--n_epochs 100") != NULL);
    dml_sweep_free(&sweep);
    char *longer[] = {"--n_epochs", "150"};
    assert_ok(dml_sweep_read(path, longer, 2, &sweep));
    assert_ok(dml_sweep_check(path, &sweep));
    for (size_t i = 0; i < sweep.count; i++) /* 150 is the default, and so not in what differs */
        assert_null(strstr(sweep.runs[i].identity, "n_epochs"));
    dml_sweep_free(&sweep);
    path = DML_SOURCE_DIR "/experiments/emoji_rho.txt";
    assert_ok(dml_sweep_read(path, NULL, 0, &sweep));
    assert_ok(dml_sweep_check(path, &sweep));
    assert_int_equal(sweep.count, 10);
    dml_sweep_free(&sweep);
}

/* Every list of experiments/ is accepted, without a run that is there twice. */
static void test_all_experiments(void **state) {
    (void)state;
    glob_t found;
    assert_int_equal(glob(DML_SOURCE_DIR "/experiments/*.txt", 0, NULL, &found), 0);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        struct dml_sweep sweep;
        const char *path = found.gl_pathv[i];
        assert_ok(dml_sweep_read(path, NULL, 0, &sweep));
        size_t runs = sweep.count;
        assert_true(runs > 0);
        if (dml_sweep_check(path, &sweep) != DML_OK)
            fail_msg("%s", dml_error());
        assert_int_equal(sweep.count, runs);
        print_message("%s: %zu runs\n", path, runs);
        dml_sweep_free(&sweep);
    }
    assert_true(found.gl_pathc >= 2);
    globfree(&found);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_lists_multiply),
        TEST(test_numbered_lists_move_together),
        TEST(test_line_form),
        TEST(test_foreign_lines),
        TEST(test_extra_flags_and_labels),
        TEST(test_bad_files),
        TEST(test_check),
        TEST(test_the_study),
        TEST(test_all_experiments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
