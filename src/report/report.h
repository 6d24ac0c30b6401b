#ifndef DML_REPORT_REPORT_H
#define DML_REPORT_REPORT_H

#include "dml/params.h"
#include "report/statistics.h"

#include <stdbool.h>
#include <stdio.h>

/* What a set of runs found, read from their database: groups of runs (one setup, several seeds)
 * with their metrics at each run's best epoch. */

enum dml_report_format {
    DML_REPORT_TERMINAL,
    DML_REPORT_MARKDOWN,
    DML_REPORT_CSV,
    DML_REPORT_LATEX
};

struct dml_report_options {
    char *save_path;
    char *project, *dataset;   /* "" for all */
    struct dml_strings groups; /* none: all */
    char *metric;              /* decides the best epoch: e_recall@1 */
    char *select;              /* part in which it decides: Test, or Val */
    bool own_best;             /* each tested metric at its own best epoch, as the study's script */
    bool all_runs;             /* those that did not finish, too */
    int64_t min_epochs;
    enum dml_report_format format;
    char *output;
    char *figures;
    struct dml_strings figure_formats;
    char *html;
};
extern const struct dml_param_table dml_report_params;

/* A column: a metric of a part ("Test" for performance, "Train" for the embedding space). */
struct dml_report_column {
    char part[24], name[56];
    char label[64]; /* "R@1", "train intra" */
};

/* One of a run's ranks: means over its epochs. */
struct dml_report_rank {
    int64_t rank, threads;
    char *host;
    double images_per_second, wait_share;
};

struct dml_report_run {
    int64_t id, seed;
    char *folder;   /* below the save path */
    int64_t epoch;  /* the best, from 1 as people count; the database counts from 0 */
    double *values; /* (columns), NAN where not measured */
    struct dml_report_rank *ranks; /* none for a run on one process */
    size_t rank_count, rank_capacity;
};

struct dml_report_group {
    char *dataset, *name, *label; /* label: the name as figures show it */
    char *latex;                  /* and as LaTeX */
    bool regularised;             /* mined with rho_distance, or named so */
    struct dml_report_run *runs;
    size_t run_count, run_capacity;
    struct dml_spread *spreads; /* (columns) */
    struct dml_spread epoch;
};

struct dml_report {
    struct dml_report_column *columns;
    size_t column_count, column_capacity;
    struct dml_report_group *groups; /* by data set, then name */
    size_t group_count, group_capacity;
    size_t left_out; /* runs that did not finish or are too short */
};

/* DML_ERROR_INPUT: no database, or no run in it that fits. Freed by dml_report_free. */
enum dml_status dml_report_read(const struct dml_report_options *options, struct dml_report *out);
void dml_report_free(struct dml_report *report);

/* The column of a metric, or -1. */
int dml_report_find(const struct dml_report *report, const char *part, const char *name);

/* The i-th data set's groups are the `count` from `first` on; false after the last. */
bool dml_report_dataset(const struct dml_report *report, size_t i, size_t *first, size_t *count);

/* A group's name for readers, as the study writes it: "R-Margin (D, beta=0.6)" for
 * "CUBreg_Margin_b06_Distance"; with LaTeX's beta and escapes where `latex`. free() it. */
char *dml_report_label(const char *group, bool latex);

/* Tables: "terminal", "markdown", "csv", "latex". */
enum dml_status dml_report_print(const struct dml_report *report, enum dml_report_format format,
                                 FILE *out);

/* Figures with their scripts and data, in `folder`: relation_<dataset>, correlation_<dataset> and
 * ranking_<dataset>, in each of `formats` (svg, pdf, png). A figure that has too few groups is left
 * out with a line on stderr. DML_ERROR_UNSUPPORTED: gnuplot is missing. */
enum dml_status dml_report_draw(const struct dml_report *report, const char *folder,
                                const struct dml_strings *formats, const char *metric);

/* One page with tables, figures, plots and contact sheets, all inside the file. */
enum dml_status dml_report_write_html(const struct dml_report *report,
                                      const struct dml_report_options *options, const char *path);

#endif
