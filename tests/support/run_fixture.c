#include "support/run_fixture.h"

#include "base/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char save_path[256];

int fresh_folder(void **state) {
    (void)state;
    snprintf(save_path, sizeof save_path, DML_BINARY_DIR "/tracking_XXXXXX");
    return mkdtemp(save_path) ? 0 : -1;
}

int remove_folder(void **state) {
    (void)state;
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", save_path);
    return system(command);
}

struct dml_run *make_run(struct fixture *fixture, int number) {
    snprintf(fixture->savename, sizeof fixture->savename, "group_s%d", number);
    snprintf(fixture->folder, sizeof fixture->folder, "%s/emoji/%s", save_path, fixture->savename);
    assert_ok(dml_make_folders(fixture->folder));
    fixture->run = (struct dml_run){.folder = fixture->folder,
                                    .save_path = save_path,
                                    .dataset = "emoji",
                                    .savename = fixture->savename,
                                    .project = "project",
                                    .group = "group",
                                    .seed = (uint64_t)number,
                                    .command = "dml train",
                                    .version = "1",
                                    .processor = "cpu",
                                    .threads = 2,
                                    .training = {100, 1000},
                                    .testing = {50, 500},
                                    .steps_per_epoch = 10,
                                    .epochs = 4,
                                    .parameters = 12345};
    return &fixture->run;
}

const struct dml_step_record *a_step(struct step_fixture *fixture, uint64_t step) {
    const struct dml_named_value values[] = {
        {"gradient", "grad_rms", 0.1 * (double)step},  {"gradient", "grad_max", 7 + (double)step},
        {"steps", "tuples", (double)(100 + step)},     {"steps", "active", (double)step},
        {"steps_new", "unheard of", 3 * (double)step}, {"steps", "swapped", (double)(step / 2)}};
    memcpy(fixture->values, values, sizeof values);
    fixture->record = (struct dml_step_record){.step = step,
                                               .epoch = step / 10,
                                               .loss = 1.0 / (double)(step + 3),
                                               .seconds = 0.25,
                                               .values = fixture->values,
                                               .value_count = sizeof values / sizeof values[0]};
    return &fixture->record;
}

double fixture_value(uint64_t epoch, size_t part, size_t metric) {
    static const double values[] = {0.3, 0.5, 0.4, 0.45};
    return values[epoch % 4] + 0.01 * (double)part + 0.1 * (double)metric;
}

double fixture_recall(uint64_t epoch, size_t part) {
    return fixture_value(epoch, part, 0);
}

const struct dml_epoch_record *an_epoch(struct epoch_fixture *fixture, uint64_t epoch) {
    static const char *const names[] = {"e_recall@1", "dists@intra", "e_recall@2", "nmi",
                                        "rho_spectrum@0"};
    memcpy(fixture->spectrum, (float[]){0.5f, 0.3f, 0.2f}, sizeof fixture->spectrum);
    for (size_t p = 0; p < 2; p++)
        for (size_t i = 0; i < 5; i++) {
            struct dml_metric_value *value = &fixture->metrics[p][i];
            *value = (struct dml_metric_value){.value = fixture_value(epoch, p, i)};
            snprintf(value->name, sizeof value->name, "%s", names[i]);
            value->vector = i == 4 ? fixture->spectrum : NULL;
            value->vector_count = i == 4 ? 3 : 0;
        }
    static const struct dml_named_value values[] = {{"mining", "active_share", 0.5},
                                                    {"learning", "lr/all", 0.001},
                                                    {"mining", "swapped_share", 0.25},
                                                    {"new", "never heard of", 7}};
    static const struct dml_rank_record ranks[] = {{0, 2, "left", 20, 0.25},
                                                   {1, 1, "right", 30, 0.5}};
    fixture->record = (struct dml_epoch_record){
        .epoch = epoch,
        .loss = 1.0 / (double)(epoch + 1),
        .train_seconds = 2,
        .eval_seconds = 4,
        .train_images = 100,
        .eval_images = 1000,
        .lr = 0.001,
        .values = values,
        .value_count = sizeof values / sizeof *values,
        .ranks = ranks,
        .rank_count = 2,
        .parts = {{"Test", fixture->metrics[0], 5}, {"Train", fixture->metrics[1], 5}},
        .part_count = 2};
    return &fixture->record;
}

void write_epochs(struct dml_tracking *tracking, uint64_t from, uint64_t to) {
    struct epoch_fixture fixture;
    for (uint64_t e = from; e < to; e++) {
        for (uint64_t s = e * 10; s < e * 10 + 10; s++) {
            struct step_fixture step;
            assert_ok(dml_tracking_step(tracking, a_step(&step, s)));
        }
        assert_ok(dml_tracking_epoch(tracking, an_epoch(&fixture, e)));
    }
}

struct dml_tracking *open_all(const struct dml_run *run) {
    struct dml_tracking_options options = {.no_plots = true};
    struct dml_tracking *tracking;
    assert_ok(dml_tracking_open(run, &options, &tracking));
    return tracking;
}

char *read_in(const char *folder, const char *name) {
    char *path = dml_path_join(folder, name), *text;
    assert_ok(dml_read_file(path, &text, NULL));
    free(path);
    return text;
}

double ask(sqlite3 *db, const char *sql) {
    sqlite3_stmt *statement;
    assert_ok(dml_database_query(db, &statement, sql, ""));
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    double value = sqlite3_column_double(statement, 0);
    sqlite3_finalize(statement);
    return value;
}

sqlite3 *open_database(void) {
    sqlite3 *db;
    assert_ok(dml_database_open(save_path, false, 1000, &db));
    return db;
}
