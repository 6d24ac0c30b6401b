#include "base/files.h"
#include "base/memory.h"
#include "report/report.h"
#include "support/run_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const groups[] = {"CUB_Margin_b06_Distance", "CUB_Npair", "CUB_Triplet_Random",
                                     "CUBreg_Margin_b06_Distance"};
enum { GROUPS = 4, SEEDS = 3, EPOCHS = 4 };

/* What a group and a seed add to every metric. */
static double shift(int group, int seed) {
    return 0.02 * group * group + 0.005 * (seed * seed + group * seed);
}

static void write_run(int group, int seed, enum dml_run_end end) {
    struct fixture fixture;
    struct epoch_fixture epoch;
    void *csv, *database;
    struct dml_run *run = make_run(&fixture, group * 100 + seed);
    run->group = groups[group];
    run->seed = (uint64_t)seed;
    assert_ok(dml_tracker_csv.open(run, &csv));
    assert_ok(dml_tracker_sqlite.open(run, &database));
    for (uint64_t e = 0; e < EPOCHS; e++) {
        an_epoch(&epoch, e);
        for (int p = 0; p < 2; p++)
            for (int i = 0; i < 4; i++) /* seed 2 is best in epoch 2 instead of 1 */
                epoch.metrics[p][i].value +=
                    shift(group, seed) + (seed == 2 && e == 2 && i == 0 ? 0.15 : 0);
        assert_ok(dml_tracker_csv.epoch(csv, &epoch.record));
        assert_ok(dml_tracker_sqlite.epoch(database, &epoch.record));
    }
    assert_ok(dml_tracker_csv.close(csv, end, NULL));
    assert_ok(dml_tracker_sqlite.close(database, end, NULL));
}

static struct dml_report_options options_for_test(void) {
    return (struct dml_report_options){.save_path = save_path,
                                       .project = "",
                                       .dataset = "",
                                       .metric = "e_recall@1",
                                       .select = "Test",
                                       .min_epochs = 1};
}

static void write_all(void) {
    for (int g = 0; g < GROUPS; g++)
        for (int s = 0; s < SEEDS; s++)
            write_run(g, s, DML_RUN_FINISHED);
}

/* A column of a CSV file of a run, by hand. */
static void read_column(int number, const char *file, int column, double *out) {
    char folder[400];
    snprintf(folder, sizeof folder, "%s/emoji/group_s%d/CSV_Logs", save_path, number);
    char *text = read_in(folder, file), *line = strchr(text, '\n') + 1;
    for (int e = 0; e < EPOCHS; e++, line = strchr(line, '\n') + 1) {
        char *at = line;
        for (int c = 0; c < column; c++)
            at = strchr(at, ',') + 1;
        out[e] = strtod(at, NULL);
    }
    free(text);
}

static void assert_close(double a, double b) {
    if (!(fabs(a - b) < 1e-12))
        fail_msg("%.17g is not %.17g", a, b);
}

static void test_means_equal_those_of_the_csv_files(void **state) {
    (void)state;
    struct dml_report report;
    struct dml_report_options options = options_for_test();
    write_all();
    assert_ok(dml_report_read(&options, &report));
    assert_int_equal(report.group_count, GROUPS);
    int recall = dml_report_find(&report, "Test", "e_recall@1");
    int nmi = dml_report_find(&report, "Test", "nmi");
    int intra = dml_report_find(&report, "Train", "dists@intra");
    assert_true(recall == 0 && nmi > 0 && intra > nmi);
    for (int g = 0; g < GROUPS; g++) {
        double at_best[3][SEEDS], epochs[SEEDS];
        const struct dml_report_group *group = &report.groups[g];
        assert_string_equal(group->name, groups[g]);
        assert_int_equal(group->run_count, SEEDS);
        assert_int_equal(group->regularised, g == 3);
        for (int s = 0; s < SEEDS; s++) {
            double r[EPOCHS], n[EPOCHS], d[EPOCHS];
            int best = 0;
            read_column(g * 100 + s, "Data_Test_discriminative_e_recall.csv", 0, r);
            read_column(g * 100 + s, "Data_Test_discriminative_nmi.csv", 0, n);
            read_column(g * 100 + s, "Data_Train_discriminative_dists.csv", 0, d);
            for (int e = 1; e < EPOCHS; e++)
                best = r[e] > r[best] ? e : best;
            at_best[0][s] = r[best];
            at_best[1][s] = n[best];
            at_best[2][s] = d[best];
            epochs[s] = best;
        }
        const int columns[] = {recall, nmi, intra};
        for (int i = 0; i < 3; i++) {
            double mean = (at_best[i][0] + at_best[i][1] + at_best[i][2]) / 3, sum = 0;
            for (int s = 0; s < SEEDS; s++)
                sum += (at_best[i][s] - mean) * (at_best[i][s] - mean);
            assert_close(group->spreads[columns[i]].mean, mean);
            assert_close(group->spreads[columns[i]].deviation, sqrt(sum / 3));
        }
        assert_close(group->epoch.mean, (epochs[0] + epochs[1] + epochs[2]) / 3 + 1);
        assert_true(epochs[2] == 2 && epochs[0] == 1);
    }
    dml_report_free(&report);
    /* As the study's script: every metric at its own best. nmi is best in epoch 1 for all. */
    options.own_best = true;
    assert_ok(dml_report_read(&options, &report));
    double n[EPOCHS];
    read_column(2, "Data_Test_discriminative_nmi.csv", 0, n);
    assert_close(report.groups[0].runs[2].values[nmi], n[1]);
    dml_report_free(&report);
}

static void test_which_runs_are_taken(void **state) {
    (void)state;
    struct dml_report report;
    struct dml_report_options options = options_for_test();
    assert_int_equal(dml_report_read(&options, &report), DML_ERROR_INPUT);
    assert_non_null(strstr(dml_error(), "runs.sqlite: does not exist"));
    write_run(0, 0, DML_RUN_FAILED);
    assert_int_equal(dml_report_read(&options, &report), DML_ERROR_INPUT);
    assert_non_null(strstr(dml_error(), "1 runs were left out"));
    write_run(0, 1, DML_RUN_FINISHED);
    write_run(1, 0, DML_RUN_FINISHED);
    assert_ok(dml_report_read(&options, &report));
    assert_int_equal(report.left_out, 1);
    assert_int_equal(report.groups[0].run_count, 1);
    dml_report_free(&report);
    options.all_runs = true;
    assert_ok(dml_report_read(&options, &report));
    assert_int_equal(report.groups[0].run_count, 2);
    dml_report_free(&report);
    char *name = "CUB_Npair";
    options.groups = (struct dml_strings){1, &name};
    assert_ok(dml_report_read(&options, &report));
    assert_int_equal(report.group_count, 1);
    dml_report_free(&report);
    options.min_epochs = 5;
    assert_int_equal(dml_report_read(&options, &report), DML_ERROR_INPUT);
    options.min_epochs = 1;
    options.metric = "e_recall@99";
    assert_int_equal(dml_report_read(&options, &report), DML_ERROR_INPUT);
}

static char *print(const struct dml_report *report, enum dml_report_format format) {
    char *path = dml_path_join(save_path, "table");
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    assert_ok(dml_report_print(report, format, out));
    fclose(out);
    free(path);
    return read_in(save_path, "table");
}

static void test_tables(void **state) {
    (void)state;
    struct dml_report report;
    struct dml_report_options options = options_for_test();
    write_all();
    assert_ok(dml_report_read(&options, &report));
    char *text = print(&report, DML_REPORT_LATEX);
    assert_non_null(strstr(text, "\\begin{tabular}{lcccc}"));
    assert_non_null(strstr(text, "\nMargin (D, $\\beta=0.6$) & $5"));
    assert_non_null(strstr(text, "\nR-Margin (D, $\\beta=0.6$) & $"));
    assert_non_null(strstr(text, "\nTriplet (R) & $"));
    free(text);
    text = print(&report, DML_REPORT_CSV);
    char *line = strstr(text, "emoji,CUB_Npair,0,3,");
    assert_non_null(line);
    for (int field = 0; field < 6; field++)
        line = strchr(line, ',') + 1;
    assert_true(strtod(line, NULL) == report.groups[1].spreads[0].mean);
    free(text);
    text = print(&report, DML_REPORT_MARKDOWN);
    assert_non_null(strstr(text, "| CUBreg_Margin_b06_Distance | 3 | 2.3 ± 0.5 |"));
    free(text);
    text = print(&report, DML_REPORT_TERMINAL);
    assert_non_null(strstr(text, "train intra"));
    free(text);
    dml_report_free(&report);
}

static void test_labels(void **state) {
    (void)state;
    static const char *const cases[][2] = {{"CARSreg_SNR_Distance", "R-SNR (D)"},
                                           {"SOP_Triplet_Semihard", "Triplet (S)"},
                                           {"CUB_MS", "MS"},
                                           {"CUB_Margin_b12_Distance", "Margin (D, beta=1.2)"},
                                           {"my_group", "my_group"},
                                           {"Distance", "Distance"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *label = dml_report_label(cases[i][0], false);
        assert_string_equal(label, cases[i][1]);
        free(label);
    }
    char *label = dml_report_label("my_group", true);
    assert_string_equal(label, "my\\_group");
    free(label);
}

static void test_statistics(void **state) {
    (void)state;
    const double x[] = {1, 2, 3, 4, NAN}, y[] = {2, 4, 5, 9, 1};
    assert_close(dml_correlation(x, y, 5), 11.0 / sqrt(5 * 26.0));
    struct dml_line line = dml_fit_line(x, y, 5);
    assert_close(line.slope, 2.2);
    assert_close(line.offset, -0.5);
    struct dml_spread spread = dml_spread_of(x, 5);
    assert_int_equal(spread.n, 4);
    assert_close(spread.deviation, sqrt(1.25));
    assert_true(isnan(dml_correlation(x, y, 1)));
    assert_true(isnan(dml_correlation((double[]){3, 3}, y, 2)));
}

static void assert_exists(const char *folder, const char *name) {
    char *path = dml_path_join(folder, name);
    if (!dml_path_exists(path))
        fail_msg("%s is missing", path);
    free(path);
}

static void test_figures_and_page(void **state) {
    (void)state;
    struct dml_report report;
    struct dml_report_options options = options_for_test();
    char *names[] = {"svg", "png", "pdf"};
    struct dml_strings formats = {3, names};
    write_all();
    assert_ok(dml_report_read(&options, &report));
    char *folder = dml_path_join(save_path, "figures");
    assert_ok(dml_report_draw(&report, folder, &formats, "e_recall@1"));
    static const char *const files[] = {"ranking_emoji.svg", "relation_emoji.png",
                                        "correlation_emoji.pdf", "relation_emoji.gp",
                                        "relation_emoji.dat"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        assert_exists(folder, files[i]);
    char *svg = read_in(folder, "relation_emoji.svg");
    assert_non_null(strstr(svg, "Corr: "));
    free(svg);
    char *page = dml_path_join(save_path, "page.html");
    assert_ok(dml_report_write_html(&report, &options, page));
    char *text = read_in(save_path, "page.html");
    assert_non_null(strstr(text, "<td>CUBreg_Margin_b06_Distance</td>"));
    assert_non_null(strstr(text, "data:image/svg+xml;base64,"));
    assert_non_null(
        strstr(text, "<tr><td>1</td><td>right</td><td>1</td><td>30</td><td>50.0 %</td>"));
    assert_null(strstr(text, "src=\"/"));
    free(text);
    names[0] = "bmp";
    assert_int_equal(dml_report_draw(&report, folder, &formats, "e_recall@1"), DML_ERROR_USAGE);
    dml_report_free(&report);
    free(page);
    free(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_means_equal_those_of_the_csv_files),
        TEST(test_which_runs_are_taken),
        TEST(test_tables),
        TEST(test_labels),
        TEST(test_statistics),
        TEST(test_figures_and_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
