#include "base/files.h"
#include "base/memory.h"
#include "base/text.h"
#include "dml/metrics.h"
#include "report/report.h"
#include "tracking/database.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Columns in the order in which tables show them; other metrics follow. */
static const struct {
    const char *part, *name, *label;
} known[] = {
    {"Test", "e_recall@1", "R@1"},
    {"Test", "e_recall@2", "R@2"},
    {"Test", "e_recall@4", "R@4"},
    {"Test", "e_recall@8", "R@8"},
    {"Test", "nmi", "NMI"},
    {"Test", "f1", "F1"},
    {"Test", "mAP", "mAP"},
    {"Test", "mAP_1000", "mAP_1000"},
    {"Test", "mAP_lim", "mAP_lim"},
    {"Test", "mAP_c", "mAP_c"},
    {"Train", "dists@intra", "train intra"},
    {"Train", "dists@inter", "train inter"},
    {"Train", "dists@intra_over_inter", "train intra/inter"},
    {"Train", "rho_spectrum@-1", "train rho@-1"},
    {"Train", "rho_spectrum@1", "train rho@1"},
    {"Train", "rho_spectrum@2", "train rho@2"},
    {"Train", "rho_spectrum@10", "train rho@10"},
};
enum { KNOWN = sizeof known / sizeof known[0] };

/* Of the training set only what describes the embedding space; of the test set only what says how
 * well it retrieves. */
static bool is_column(const char *part, const char *name) {
    bool space = strncmp(name, "dists@", 6) == 0 || strncmp(name, "rho_spectrum@", 13) == 0;
    return strcmp(part, "Train") == 0 ? space : strcmp(part, "Test") == 0 && !space;
}

int dml_report_find(const struct dml_report *report, const char *part, const char *name) {
    for (size_t i = 0; i < report->column_count; i++)
        if (strcmp(report->columns[i].name, name) == 0 &&
            strcmp(report->columns[i].part, part) == 0)
            return (int)i;
    return -1;
}

static enum dml_status add_column(struct dml_report *report, const char *part, const char *name,
                                  const char *label) {
    enum dml_status status = dml_grow(&report->columns, &report->column_capacity,
                                      report->column_count + 1, sizeof *report->columns);
    if (status)
        return status;
    struct dml_report_column *column = &report->columns[report->column_count++];
    snprintf(column->part, sizeof column->part, "%s", part);
    snprintf(column->name, sizeof column->name, "%s", name);
    if (label)
        snprintf(column->label, sizeof column->label, "%s", label);
    else
        snprintf(column->label, sizeof column->label, "%s%s",
                 strcmp(part, "Train") == 0 ? "train " : "", column->name);
    return DML_OK;
}

static enum dml_status collect_columns(sqlite3 *db, struct dml_report *report) {
    sqlite3_stmt *rows;
    enum dml_status status =
        dml_database_query(db, &rows, "SELECT DISTINCT part, name FROM metrics", "");
    if (status)
        return status;
    bool seen[KNOWN] = {false};
    while (dml_database_next(rows, &status))
        for (int i = 0; i < KNOWN; i++)
            seen[i] = seen[i] || (strcmp(dml_database_text(rows, 0), known[i].part) == 0 &&
                                  strcmp(dml_database_text(rows, 1), known[i].name) == 0);
    for (int i = 0; i < KNOWN && !status; i++)
        if (seen[i])
            status = add_column(report, known[i].part, known[i].name, known[i].label);
    sqlite3_reset(rows);
    while (dml_database_next(rows, &status)) {
        const char *part = dml_database_text(rows, 0);
        const char *name = dml_database_text(rows, 1);
        if (is_column(part, name) && dml_report_find(report, part, name) < 0)
            status = add_column(report, part, name, NULL);
    }
    return dml_database_end(rows, status);
}

static enum dml_status find_group(struct dml_report *report, const char *dataset, const char *name,
                                  struct dml_report_group **out) {
    *out = report->group_count ? &report->groups[report->group_count - 1] : NULL;
    if (*out && strcmp((*out)->name, name) == 0 && strcmp((*out)->dataset, dataset) == 0)
        return DML_OK; /* rows come by group */
    enum dml_status status =
        dml_grow(&report->groups, &report->group_capacity, report->group_count + 1, sizeof **out);
    if (status)
        return status;
    *out = &report->groups[report->group_count++];
    memset(*out, 0, sizeof **out);
    (*out)->dataset = dml_strdup(dataset);
    (*out)->name = dml_strdup(name);
    (*out)->label = dml_report_label(name, false);
    (*out)->latex = dml_report_label(name, true);
    (*out)->spreads = dml_alloc(report->column_count, sizeof *(*out)->spreads);
    bool made =
        (*out)->dataset && (*out)->name && (*out)->label && (*out)->latex && (*out)->spreads;
    return made ? DML_OK : DML_ERROR_MEMORY;
}

/* One number of one row, NAN where there is none. */
static enum dml_status ask(sqlite3_stmt *row, double *value) {
    enum dml_status status = DML_OK;
    *value = NAN;
    if (dml_database_next(row, &status))
        *value = dml_database_number(row, 0);
    return dml_database_end(row, status);
}

/* What a metric's values are multiplied by, so that the best one is the largest. */
static int64_t direction(const char *metric) {
    return dml_metric_order_of(metric) == DML_METRIC_SMALLER ? -1 : 1;
}

static enum dml_status read_value(sqlite3 *db, const struct dml_report_run *run,
                                  const struct dml_report_column *column, bool own_best,
                                  double *out) {
    sqlite3_stmt *row;
    enum dml_status status =
        own_best && strcmp(column->part, "Test") == 0
            ? dml_database_query(db, &row,
                                 "SELECT value FROM metrics"
                                 " WHERE run_id = ? AND part = ? AND name = ?"
                                 "  AND typeof(value) IN ('real', 'integer')"
                                 "  AND typeof(epoch) = 'integer'"
                                 "  AND epoch BETWEEN 0 AND 2147483646"
                                 " ORDER BY ? * value DESC LIMIT 1",
                                 "issi", run->id, column->part, column->name,
                                 direction(column->name))
            : dml_database_query(db, &row,
                                 "SELECT value FROM metrics"
                                 " WHERE run_id = ? AND part = ? AND name = ? AND epoch = ?",
                                 "issi", run->id, column->part, column->name, run->epoch - 1);
    return status ? status : ask(row, out);
}

static enum dml_status read_ranks(sqlite3 *db, struct dml_report_run *run) {
    sqlite3_stmt *rows;
    enum dml_status status = dml_database_query(
        db, &rows,
        "SELECT rank, host, threads, AVG(images_per_second), AVG(wait_share) FROM ranks"
        " WHERE run_id = ? GROUP BY rank, host, threads ORDER BY rank, host",
        "i", run->id);
    if (status)
        return status;
    while (dml_database_next(rows, &status)) {
        status =
            dml_grow(&run->ranks, &run->rank_capacity, run->rank_count + 1, sizeof *run->ranks);
        if (status)
            break;
        run->ranks[run->rank_count++] =
            (struct dml_report_rank){.rank = sqlite3_column_int64(rows, 0),
                                     .host = dml_strdup(dml_database_text(rows, 1)),
                                     .threads = sqlite3_column_int64(rows, 2),
                                     .images_per_second = sqlite3_column_double(rows, 3),
                                     .wait_share = sqlite3_column_double(rows, 4)};
        if (!run->ranks[run->rank_count - 1].host)
            status = DML_ERROR_MEMORY;
    }
    return dml_database_end(rows, status);
}

static enum dml_status add_run(sqlite3 *db, const struct dml_report_options *options,
                               bool has_ranks, struct dml_report *report, sqlite3_stmt *row) {
    struct dml_report_group *group;
    enum dml_status status =
        find_group(report, dml_database_text(row, 2), dml_database_text(row, 3), &group);
    if (!status)
        status =
            dml_grow(&group->runs, &group->run_capacity, group->run_count + 1, sizeof *group->runs);
    if (status)
        return status;
    struct dml_report_run *run = &group->runs[group->run_count++];
    *run = (struct dml_report_run){.id = sqlite3_column_int64(row, 0),
                                   .folder = dml_strdup(dml_database_text(row, 1)),
                                   .seed = sqlite3_column_int64(row, 4),
                                   .epoch = sqlite3_column_int64(row, 5) + 1,
                                   .values = dml_alloc(report->column_count, sizeof *run->values)};
    if (!run->folder || !run->values)
        return DML_ERROR_MEMORY;
    dml_text_unescape(run->folder);
    group->regularised = group->regularised || sqlite3_column_int(row, 6);
    for (size_t c = 0; c < report->column_count && !status; c++)
        status = read_value(db, run, &report->columns[c], options->own_best, &run->values[c]);
    return status || !has_ranks ? status : read_ranks(db, run);
}

/* Runs with the epoch in which the metric, times ?6, is largest, the first of equals. Only what can
 * be a value and an epoch counts: SQLite takes text as 0, and more than any number. */
static const char runs_query[] =
    "SELECT r.id, r.folder, COALESCE(r.dataset, ''), COALESCE(r.run_group, ''), r.seed,"
    " (SELECT epoch FROM metrics m WHERE m.run_id = r.id AND m.part = ?1 AND m.name = ?2"
    "  AND typeof(m.value) IN ('real', 'integer') AND typeof(m.epoch) = 'integer'"
    "  AND m.epoch BETWEEN 0 AND 2147483646 ORDER BY ?6 * value DESC, epoch LIMIT 1) AS best,"
    " EXISTS (SELECT 1 FROM params p WHERE p.run_id = r.id AND p.name = 'batch_mining'"
    "  AND p.value = '\"rho_distance\"') OR r.run_group GLOB '*reg_*',"
    " r.status = 'finished' OR ?3, (SELECT COUNT(*) FROM epochs e WHERE e.run_id = r.id)"
    " FROM runs r WHERE (?4 = '' OR r.project = ?4) AND (?5 = '' OR r.dataset = ?5)"
    " ORDER BY r.dataset, r.run_group, r.seed, r.id";

static bool is_wanted(const struct dml_strings *groups, const char *name) {
    bool wanted = groups->count == 0;
    for (size_t i = 0; i < groups->count && !wanted; i++)
        wanted = strcmp(groups->items[i], name) == 0;
    return wanted;
}

static enum dml_status read_runs(sqlite3 *db, const struct dml_report_options *options,
                                 struct dml_report *report) {
    sqlite3_stmt *rows;
    double ranks = 0; /* a database that no run of this version has written to has no such table */
    enum dml_status status = dml_database_query(
        db, &rows, "SELECT COUNT(*) FROM sqlite_master WHERE name = 'ranks'", "");
    if (!status)
        status = ask(rows, &ranks);
    if (status)
        return status;
    status = dml_database_query(db, &rows, runs_query, "ssissi", options->select, options->metric,
                                (int64_t)options->all_runs, options->project, options->dataset,
                                direction(options->metric));
    if (status)
        return status;
    while (dml_database_next(rows, &status)) {
        const char *name = dml_database_text(rows, 3);
        if (!is_wanted(&options->groups, name))
            continue;
        if (sqlite3_column_type(rows, 5) == SQLITE_NULL || !sqlite3_column_int(rows, 7) ||
            sqlite3_column_int64(rows, 8) < options->min_epochs)
            report->left_out++;
        else
            status = add_run(db, options, ranks > 0, report, rows);
    }
    return dml_database_end(rows, status);
}

static enum dml_status summarise(struct dml_report *report) {
    for (size_t g = 0; g < report->group_count; g++) {
        struct dml_report_group *group = &report->groups[g];
        double *values = dml_alloc(group->run_count, sizeof *values);
        if (!values)
            return DML_ERROR_MEMORY;
        for (size_t c = 0; c < report->column_count; c++) {
            for (size_t r = 0; r < group->run_count; r++)
                values[r] = group->runs[r].values[c];
            group->spreads[c] = dml_spread_of(values, group->run_count);
        }
        for (size_t r = 0; r < group->run_count; r++)
            values[r] = (double)group->runs[r].epoch;
        group->epoch = dml_spread_of(values, group->run_count);
        free(values);
    }
    return DML_OK;
}

enum dml_status dml_report_read(const struct dml_report_options *options, struct dml_report *out) {
    sqlite3 *db;
    memset(out, 0, sizeof *out);
    enum dml_status status = dml_database_open(options->save_path, false, 10000, &db);
    if (status)
        return status;
    status = collect_columns(db, out);
    if (!status)
        status = read_runs(db, options, out);
    if (!status && out->group_count == 0)
        status = dml_fail(DML_ERROR_INPUT,
                          "%s/runs.sqlite: no finished run has %s of %s%s (%zu runs were left out; "
                          "--all_runs includes those that did not finish)",
                          options->save_path, options->metric, options->select,
                          *options->project || *options->dataset || options->groups.count
                              ? " and was asked for"
                              : "",
                          out->left_out);
    if (!status)
        status = summarise(out);
    sqlite3_close_v2(db);
    if (status)
        dml_report_free(out);
    return status;
}

void dml_report_free(struct dml_report *report) {
    for (size_t g = 0; g < report->group_count; g++) {
        struct dml_report_group *group = &report->groups[g];
        for (size_t r = 0; r < group->run_count; r++) {
            free(group->runs[r].folder);
            free(group->runs[r].values);
            for (size_t i = 0; i < group->runs[r].rank_count; i++)
                free(group->runs[r].ranks[i].host);
            free(group->runs[r].ranks);
        }
        free(group->runs);
        free(group->dataset);
        free(group->name);
        free(group->label);
        free(group->latex);
        free(group->spreads);
    }
    free(report->groups);
    free(report->columns);
    memset(report, 0, sizeof *report);
}

bool dml_report_dataset(const struct dml_report *report, size_t i, size_t *first, size_t *count) {
    size_t at = 0;
    for (;; i--) {
        if (at >= report->group_count)
            return false;
        *first = at;
        while (at < report->group_count &&
               strcmp(report->groups[at].dataset, report->groups[*first].dataset) == 0)
            at++;
        *count = at - *first;
        if (i == 0)
            return true;
    }
}
