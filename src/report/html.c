#include "report/report.h"

#include "base/files.h"
#include "base/html.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "dml/metrics.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A picture file, if it is there; SVG or PNG by its name. Takes the path, which is NULL where its
 * allocation failed. */
static enum dml_status picture(FILE *out, char *path, const char *kind) {
    struct dml_mapping file;
    if (!path)
        return DML_ERROR_MEMORY;
    if (!dml_path_exists(path) || dml_map_file(path, &file) != DML_OK) {
        free(path);
        return DML_OK;
    }
    const char *type = dml_html_picture(file.data, file.size);
    if (type) {
        fprintf(out, "<img class=\"%s\" alt=\"", kind);
        dml_html_text(out, strrchr(path, '/') ? strrchr(path, '/') + 1 : path);
        fputs("\" ", out);
        dml_html_source(out, type, file.data, file.size);
        fputs(">\n", out);
    }
    dml_unmap_file(&file);
    free(path);
    return DML_OK;
}

static const char style[] =
    "body{font:15px/1.45 sans-serif;margin:2em auto;max-width:1400px;padding:0 1em;"
    "color:#222}\n"
    "table{border-collapse:collapse;margin:1em 0;font-size:13px;display:block;"
    "overflow-x:auto}\n"
    "th,td{padding:.3em .7em;border-bottom:1px solid #ddd;text-align:right;"
    "white-space:nowrap}\n"
    "th:first-child,td:first-child{text-align:left}\n"
    "tr.best td{font-weight:bold}tr.regularised td:first-child{color:#2e8b57}\n"
    "img.figure{max-width:100%;height:auto;display:block;margin:1em 0}\n"
    "img.plot{width:420px;height:auto;vertical-align:top}\n"
    "img.sheet{width:300px;height:auto;vertical-align:top}\n"
    "details{margin:.4em 0}summary{cursor:pointer}\n";

static void spread(FILE *out, const struct dml_spread *value) {
    if (value->n == 0)
        fputs("<td>–</td>", out);
    else if (value->n == 1)
        fprintf(out, "<td>%.4f</td>", value->mean);
    else
        fprintf(out, "<td>%.4f ± %.4f</td>", value->mean, value->deviation);
}

static void table(FILE *out, const struct dml_report *report, size_t first, size_t count,
                  const char *metric) {
    int column = dml_report_find(report, "Test", metric);
    size_t best = first;
    bool smaller = dml_metric_order_of(metric) == DML_METRIC_SMALLER;
    for (size_t g = first; column >= 0 && g < first + count; g++) {
        double mean = report->groups[g].spreads[column].mean;
        double best_mean = report->groups[best].spreads[column].mean;
        if (smaller ? mean < best_mean : mean > best_mean)
            best = g;
    }
    fputs("<table><tr><th>group</th><th>runs</th><th>best epoch</th>", out);
    for (size_t c = 0; c < report->column_count; c++) {
        fputs("<th>", out);
        dml_html_text(out, report->columns[c].label);
        fputs("</th>", out);
    }
    fputs("</tr>\n", out);
    for (size_t g = first; g < first + count; g++) {
        const struct dml_report_group *group = &report->groups[g];
        fprintf(out, "<tr class=\"%s %s\"><td>", g == best ? "best" : "",
                group->regularised ? "regularised" : "");
        dml_html_text(out, group->name);
        fprintf(out, "</td><td>%zu</td><td>%.1f ± %.1f</td>", group->run_count, group->epoch.mean,
                group->epoch.deviation);
        for (size_t c = 0; c < report->column_count; c++)
            spread(out, &group->spreads[c]);
        fputs("</tr>\n", out);
    }
    fputs("</table>\n", out);
}

/* Whether a folder named in the database lies below the save path: a foreign database could name
 * any other. */
static bool is_below(const char *folder) {
    size_t length = strlen(folder);
    return *folder != '/' && strncmp(folder, "../", 3) != 0 && strcmp(folder, "..") != 0 &&
           !strstr(folder, "/../") && (length < 3 || strcmp(folder + length - 3, "/..") != 0);
}

static void ranks_table(FILE *out, const struct dml_report_run *run) {
    if (run->rank_count == 0)
        return;
    fputs("<table><tr><th>rank</th><th>host</th><th>threads</th><th>images/s</th>"
          "<th>waiting</th></tr>\n",
          out);
    for (size_t i = 0; i < run->rank_count; i++) {
        const struct dml_report_rank *rank = &run->ranks[i];
        fprintf(out, "<tr><td>%lld</td><td>", (long long)rank->rank);
        dml_html_text(out, rank->host);
        fprintf(out, "</td><td>%lld</td><td>%.4g</td><td>%.1f %%</td></tr>\n",
                (long long)rank->threads, rank->images_per_second, 100 * rank->wait_share);
    }
    fputs("</table>\n", out);
}

/* A run's table of ranks, progression plots and contact sheet, folded in. */
static enum dml_status run_details(FILE *out, const char *save_path,
                                   const struct dml_report_run *run) {
    static const char *const plots[] = {"Train_loss", "Test_discriminative_e_recall",
                                        "Train_discriminative_e_recall",
                                        "Train_discriminative_rho_spectrum"};
    fputs("<details><summary>", out);
    dml_html_text(out, run->folder);
    fprintf(out, " (best epoch %lld)</summary>\n", (long long)run->epoch);
    ranks_table(out, run);
    if (!is_below(run->folder)) {
        fputs("<p>Not a folder of this save path.</p></details>\n", out);
        return DML_OK;
    }
    enum dml_status status = DML_OK;
    for (size_t i = 0; i < sizeof plots / sizeof plots[0] && !status; i++)
        status = picture(
            out,
            dml_format("%s/%s/Progression_Plots/Graph_%s.svg", save_path, run->folder, plots[i]),
            "plot");
    if (!status)
        status = picture(out, dml_format("%s/%s/sample_recoveries.png", save_path, run->folder),
                         "sheet");
    fputs("</details>\n", out);
    return status;
}

static enum dml_status dataset_section(FILE *out, const struct dml_report *report,
                                       const struct dml_report_options *options, size_t first,
                                       size_t count, const char *figures) {
    static const char *const names[] = {"ranking", "relation", "correlation"};
    const char *dataset = report->groups[first].dataset;
    fputs("<h2>", out);
    dml_html_text(out, dataset);
    fputs("</h2>\n", out);
    table(out, report, first, count, options->metric);
    enum dml_status status = DML_OK;
    for (size_t i = 0; i < 3 && !status; i++) {
        char *file = dml_text_file_name(dataset);
        status = picture(out, file ? dml_format("%s/%s_%s.svg", figures, names[i], file) : NULL,
                         "figure");
        free(file);
    }
    fputs("<h3>Runs</h3>\n", out);
    for (size_t g = first; g < first + count; g++)
        for (size_t r = 0; r < report->groups[g].run_count && !status; r++)
            status = run_details(out, options->save_path, &report->groups[g].runs[r]);
    return status;
}

static void remove_folder(const char *folder) {
    DIR *files = opendir(folder);
    for (struct dirent *entry; files && (entry = readdir(files));) {
        char *path = dml_path_join(folder, entry->d_name);
        if (path)
            unlink(path); /* fails on . and .., as it should */
        free(path);
    }
    if (files)
        closedir(files);
    rmdir(folder);
}

enum dml_status dml_report_write_html(const struct dml_report *report,
                                      const struct dml_report_options *options, const char *path) {
    char figures[] = "/tmp/dml-report-XXXXXX";
    char *svg = "svg";
    struct dml_strings formats = {1, &svg};
    struct dml_output output;
    size_t first, count;
    enum dml_status status = dml_output_open(&output, path);
    if (status)
        return status;
    if (!mkdtemp(figures))
        status = dml_fail(DML_ERROR_IO, "/tmp: no folder can be made there for the figures");
    else if (dml_report_draw(report, figures, &formats, options->metric) != DML_OK)
        dml_warn("%s; the page has no figures", dml_error());
    dml_html_begin(output.file, *options->project ? options->project : "Runs", style);
    for (size_t i = 0; !status && dml_report_dataset(report, i, &first, &count); i++)
        status = dataset_section(output.file, report, options, first, count, figures);
    dml_html_end(output.file);
    remove_folder(figures);
    if (!status)
        return dml_output_commit(&output);
    dml_output_discard(&output);
    return status;
}
