#include "base/memory.h"
#include "base/number.h"
#include "base/text.h"
#include "report/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* "0.5512 +- 0.0031"; one run has no deviation to speak of. */
static void spread_text(const struct dml_spread *spread, char *text, size_t size) {
    if (spread->n == 0)
        snprintf(text, size, "-");
    else if (spread->n == 1)
        snprintf(text, size, "%.4f", spread->mean);
    else
        snprintf(text, size, "%.4f ± %.4f", spread->mean, spread->deviation);
}

static void epoch_text(const struct dml_report_group *group, char *text, size_t size) {
    if (group->epoch.n > 1)
        snprintf(text, size, "%.1f ± %.1f", group->epoch.mean, group->epoch.deviation);
    else
        snprintf(text, size, "%.0f", group->epoch.mean);
}

/* Bytes of UTF-8 that are not the start of a character: printf counts them as width. */
static int extra_bytes(const char *text) {
    int extra = 0;
    for (; *text; text++)
        extra += ((unsigned char)*text & 0xC0) == 0x80;
    return extra;
}

/* A name in a column of `width`. */
static void put_cell(FILE *out, const char *text, int width) {
    int columns = dml_text_put_line(out, text);
    fprintf(out, "%*s", columns < width ? width - columns : 0, "");
}

/* A terminal is not wide enough for all columns of all metrics, so a block of test metrics is
 * followed by one of the training set's. */
static void terminal_block(const struct dml_report *report, size_t first, size_t count,
                           const char *part, FILE *out) {
    enum { NAME = 30, CELL = 18 };
    char text[64];
    size_t columns = 0;
    for (size_t c = 0; c < report->column_count; c++)
        columns += strcmp(report->columns[c].part, part) == 0;
    if (columns == 0)
        return;
    fprintf(out, "  %-*s %4s  %-14s", NAME, "group", "runs", "best epoch");
    for (size_t c = 0; c < report->column_count; c++)
        if (strcmp(report->columns[c].part, part) == 0) {
            put_cell(out, report->columns[c].label, CELL);
        }
    fputc('\n', out);
    for (size_t g = first; g < first + count; g++) {
        const struct dml_report_group *group = &report->groups[g];
        epoch_text(group, text, sizeof text);
        fputs("  ", out);
        put_cell(out, group->name, NAME);
        fprintf(out, " %4zu  %-*s", group->run_count, 14 + extra_bytes(text), text);
        for (size_t c = 0; c < report->column_count; c++) {
            if (strcmp(report->columns[c].part, part) != 0)
                continue;
            spread_text(&group->spreads[c], text, sizeof text);
            fprintf(out, "%-*s", CELL + extra_bytes(text), text);
        }
        fputc('\n', out);
    }
    fputc('\n', out);
}

static void print_terminal(const struct dml_report *report, FILE *out) {
    size_t first, count;
    for (size_t i = 0; dml_report_dataset(report, i, &first, &count); i++) {
        put_cell(out, report->groups[first].dataset, 0);
        fputc('\n', out);
        terminal_block(report, first, count, "Test", out);
        terminal_block(report, first, count, "Train", out);
    }
}

static void print_markdown(const struct dml_report *report, FILE *out) {
    size_t first, count;
    char text[64];
    for (size_t i = 0; dml_report_dataset(report, i, &first, &count); i++) {
        fputs("### ", out);
        dml_text_markdown(out, report->groups[first].dataset);
        fputs("\n\n| group | runs | best epoch |", out);
        for (size_t c = 0; c < report->column_count; c++) {
            fputc(' ', out);
            dml_text_markdown(out, report->columns[c].label);
            fputs(" |", out);
        }
        fputs("\n|---|---|---|", out);
        for (size_t c = 0; c < report->column_count; c++)
            fputs("---|", out);
        fputc('\n', out);
        for (size_t g = first; g < first + count; g++) {
            const struct dml_report_group *group = &report->groups[g];
            epoch_text(group, text, sizeof text);
            fputs("| ", out);
            dml_text_markdown(out, group->name);
            fprintf(out, " | %zu | %s |", group->run_count, text);
            for (size_t c = 0; c < report->column_count; c++) {
                spread_text(&group->spreads[c], text, sizeof text);
                fprintf(out, " %s |", text);
            }
            fputc('\n', out);
        }
        fputc('\n', out);
    }
}

/* Every digit, means and deviations in columns of their own. */
static void print_csv(const struct dml_report *report, FILE *out) {
    char mean[DML_NUMBER_SIZE], deviation[DML_NUMBER_SIZE];
    fputs("dataset,group,regularised,runs,epoch mean,epoch std", out);
    for (size_t c = 0; c < report->column_count; c++)
        for (int i = 0; i < 2; i++) {
            char name[120];
            snprintf(name, sizeof name, "%s %s %s", report->columns[c].part,
                     report->columns[c].name, i ? "std" : "mean");
            fputc(',', out);
            dml_text_csv_line(out, name);
        }
    fputc('\n', out);
    for (size_t g = 0; g < report->group_count; g++) {
        const struct dml_report_group *group = &report->groups[g];
        dml_text_csv_name(out, group->dataset);
        fputc(',', out);
        dml_text_csv_name(out, group->name);
        fprintf(out, ",%d,%zu,%s,%s", group->regularised, group->run_count,
                dml_number_text(group->epoch.mean, mean),
                dml_number_text(group->epoch.deviation, deviation));
        for (size_t c = 0; c < report->column_count; c++)
            fprintf(out, ",%s,%s", dml_number_text(group->spreads[c].mean, mean),
                    dml_number_text(group->spreads[c].deviation, deviation));
        fputc('\n', out);
    }
}

/* The columns of the study's tables; in percent. */
static const char *const latex_metrics[][2] = {{"e_recall@1", "R@1"}, {"e_recall@2", "R@2"},
                                               {"f1", "F1"},          {"mAP", "mAP"},
                                               {"mAP_c", "mAP\\_c"},  {"nmi", "NMI"}};
enum { LATEX_METRICS = sizeof latex_metrics / sizeof latex_metrics[0] };

static void latex_cell(FILE *out, const struct dml_report *report,
                       const struct dml_report_group *group, const char *metric) {
    int column = group ? dml_report_find(report, "Test", metric) : -1;
    const struct dml_spread *spread = column < 0 ? NULL : &group->spreads[column];
    if (spread && spread->n > 0)
        fprintf(out, " & $%.2f\\pm%.2f$", spread->mean * 100, spread->deviation * 100);
    else
        fputs(" & --", out);
}

/* One data set, all metrics: Table "single" of the study. */
static void latex_single(const struct dml_report *report, size_t first, size_t count, FILE *out) {
    fputs("% ", out);
    dml_text_latex(out, report->groups[first].dataset);
    fputs("\n\\begin{tabular}{l", out);
    for (int m = 0; m < LATEX_METRICS; m++)
        if (dml_report_find(report, "Test", latex_metrics[m][0]) >= 0)
            fputc('c', out);
    fputs("c}\n\\hline\nApproach", out);
    for (int m = 0; m < LATEX_METRICS; m++)
        if (dml_report_find(report, "Test", latex_metrics[m][0]) >= 0)
            fprintf(out, " & %s", latex_metrics[m][1]);
    fputs(" & Epoch \\\\\n\\hline\n", out);
    for (size_t g = first; g < first + count; g++) {
        const struct dml_report_group *group = &report->groups[g];
        fputs(group->latex, out);
        for (int m = 0; m < LATEX_METRICS; m++)
            if (dml_report_find(report, "Test", latex_metrics[m][0]) >= 0)
                latex_cell(out, report, group, latex_metrics[m][0]);
        fprintf(out, " & $%.2f\\pm%.2f$ \\\\\n", group->epoch.mean, group->epoch.deviation);
    }
    fputs("\\hline\n\\end{tabular}\n\n", out);
}

static const struct dml_report_group *with_label(const struct dml_report *report, size_t first,
                                                 size_t count, const char *label) {
    for (size_t g = first; g < first + count; g++)
        if (strcmp(report->groups[g].label, label) == 0)
            return &report->groups[g];
    return NULL;
}

static void latex_shared_row(const struct dml_report *report, const struct dml_report_group *named,
                             FILE *out) {
    size_t first, count;
    fputs(named->latex, out);
    for (size_t i = 0; dml_report_dataset(report, i, &first, &count); i++) {
        const struct dml_report_group *group = with_label(report, first, count, named->label);
        latex_cell(out, report, group, "e_recall@1");
        latex_cell(out, report, group, "nmi");
    }
    fputs(" \\\\\n", out);
}

/* All data sets side by side, R@1 and NMI; regularised variants after the plain ones. */
static void latex_shared(const struct dml_report *report, FILE *out) {
    size_t first, count, datasets = 0;
    while (dml_report_dataset(report, datasets, &first, &count))
        datasets++;
    if (datasets < 2)
        return;
    fputs("% all data sets\n\\begin{tabular}{l", out);
    for (size_t i = 0; i < datasets; i++)
        fputs("cc", out);
    fputs("}\n\\hline\nApproach", out);
    for (size_t i = 0; dml_report_dataset(report, i, &first, &count); i++) {
        fputs(" & \\multicolumn{2}{c}{", out);
        dml_text_latex(out, report->groups[first].dataset);
        fputc('}', out);
    }
    fputs(" \\\\\n", out);
    for (size_t i = 0; i < datasets; i++)
        fputs(" & R@1 & NMI", out);
    fputs(" \\\\\n\\hline\n", out);
    for (int regularised = 0; regularised < 2; regularised++)
        for (size_t g = 0; g < report->group_count; g++)
            if (report->groups[g].regularised == regularised &&
                with_label(report, 0, g + 1, report->groups[g].label) == &report->groups[g])
                latex_shared_row(report, &report->groups[g], out);
    fputs("\\hline\n\\end{tabular}\n", out);
}

enum dml_status dml_report_print(const struct dml_report *report, enum dml_report_format format,
                                 FILE *out) {
    size_t first, count;
    switch (format) {
    case DML_REPORT_TERMINAL:
        print_terminal(report, out);
        break;
    case DML_REPORT_MARKDOWN:
        print_markdown(report, out);
        break;
    case DML_REPORT_CSV:
        print_csv(report, out);
        break;
    case DML_REPORT_LATEX:
        for (size_t i = 0; dml_report_dataset(report, i, &first, &count); i++)
            latex_single(report, first, count, out);
        latex_shared(report, out);
        break;
    }
    return ferror(out) ? dml_fail(DML_ERROR_IO, "the table cannot be written") : DML_OK;
}
