#include "base/files.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "report/report.h"
#include "tracking/gnuplot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Every figure is a data file and a script that draws it in all formats; both stay beside the
 * picture. */

enum { GNUPLOT_SECONDS = 120, LEAST_GROUPS = 3 };

struct figure {
    const struct dml_report *report;
    size_t first, count; /* the groups of one data set */
    const char *folder, *dataset, *metric;
    char *file; /* the data set as part of file names */
    const struct dml_strings *formats;
    int recall; /* column of the metric */
};

static struct dml_spread cell(const struct figure *figure, size_t g, int column) {
    return figure->report->groups[figure->first + g].spreads[column];
}

static const struct dml_report_group *group_at(const struct figure *figure, size_t g) {
    return &figure->report->groups[figure->first + g];
}

static enum dml_status open_file(const struct figure *figure, const char *name, const char *ending,
                                 struct dml_output *out) {
    char *path = dml_format("%s/%s_%s.%s", figure->folder, name, figure->file, ending);
    enum dml_status status = path ? dml_output_open(out, path) : DML_ERROR_MEMORY;
    free(path);
    return status;
}

static void terminal(FILE *out, const struct figure *figure, const char *format, const char *name,
                     int width, int height) {
    fputs("reset\n", out);
    if (strcmp(format, "pdf") == 0)
        fprintf(out, "set terminal pdfcairo size %.2fin,%.2fin font 'sans,9' noenhanced\n",
                width / 110.0, height / 110.0);
    else if (strcmp(format, "png") == 0)
        fprintf(out, "set terminal pngcairo size %d,%d font 'sans,11' noenhanced\n", width, height);
    else
        fprintf(out,
                "set terminal svg size %d,%d dynamic font 'sans,14' background '#ffffff'"
                " noenhanced\n",
                width, height);
    fprintf(out, "set output '%s_%s.%s'\nset datafile separator tab\ndata = '%s_%s.dat'\n", name,
            figure->file, format, name, figure->file);
}

static enum dml_status run_gnuplot(const struct figure *figure, const char *name) {
    char *script = dml_format("%s_%s.gp", name, figure->file);
    enum dml_status status =
        script ? dml_gnuplot_draw(figure->folder, script, GNUPLOT_SECONDS) : DML_ERROR_MEMORY;
    free(script);
    return status;
}

/* Writes data and script with the functions given, and draws. */
static enum dml_status make(const struct figure *figure, const char *name, int width, int height,
                            void (*data)(const struct figure *, FILE *),
                            void (*script)(const struct figure *, FILE *)) {
    struct dml_output out;
    enum dml_status status = open_file(figure, name, "dat", &out);
    if (status)
        return status;
    data(figure, out.file);
    status = dml_output_commit(&out);
    if (!status)
        status = open_file(figure, name, "gp", &out);
    if (status)
        return status;
    for (size_t i = 0; i < figure->formats->count; i++) {
        terminal(out.file, figure, figure->formats->items[i], name, width, height);
        script(figure, out.file);
        fputs("set output\n", out.file);
    }
    status = dml_output_commit(&out);
    return status ? status : run_gnuplot(figure, name);
}

static bool has_regularised(const struct figure *figure) {
    bool has = false;
    for (size_t g = 0; g < figure->count; g++)
        has = has || group_at(figure, g)->regularised;
    return has;
}

/* ---- recall against the embedding space's metrics ---- */

static bool is_space(const struct figure *figure, size_t column) {
    return strcmp(figure->report->columns[column].part, "Train") == 0;
}

/* label, regularised, metric, deviation, then two columns per embedding-space metric. */
static void relation_data(const struct figure *figure, FILE *out) {
    for (size_t g = 0; g < figure->count; g++) {
        struct dml_spread recall = cell(figure, g, figure->recall);
        dml_text_gnuplot_field(out, group_at(figure, g)->label);
        fprintf(out, "\t%d\t%.17g\t%.17g", group_at(figure, g)->regularised, recall.mean,
                recall.deviation);
        for (size_t c = 0; c < figure->report->column_count; c++)
            if (is_space(figure, c)) {
                struct dml_spread space = cell(figure, g, (int)c);
                fprintf(out, "\t%.17g\t%.17g", space.mean, space.deviation);
            }
        fputc('\n', out);
    }
}

/* The line is fitted to the plain criteria, as the study's is, where there are enough of them. */
static size_t collect_pairs(const struct figure *figure, size_t column, double *x, double *y) {
    size_t plain = 0, n = 0;
    for (size_t g = 0; g < figure->count; g++)
        plain += !group_at(figure, g)->regularised;
    for (size_t g = 0; g < figure->count; g++) {
        if (plain >= LEAST_GROUPS && group_at(figure, g)->regularised)
            continue;
        x[n] = cell(figure, g, (int)column).mean;
        y[n++] = cell(figure, g, figure->recall).mean;
    }
    return n;
}

static void relation_panel(const struct figure *figure, size_t column, int at, FILE *out) {
    double *x = dml_alloc(2 * figure->count, sizeof *x), *y = x + figure->count;
    if (!x)
        return;
    size_t n = collect_pairs(figure, column, x, y);
    double correlation = dml_correlation(x, y, n);
    struct dml_line line = dml_fit_line(x, y, n);
    double low = INFINITY, high = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        low = fmin(low, x[i]);
        high = fmax(high, x[i]);
    }
    free(x);
    fputs("set title ", out);
    dml_text_gnuplot(out, figure->report->columns[column].label);
    fputs("\nunset label 1\n", out);
    if (isfinite(correlation))
        fprintf(out, "set label 1 'Corr: %.2f' at graph 0.05,0.07 front\n", correlation);
    fprintf(out,
            "plot data using ($2==0?$%d:NaN):3:4 with yerrorbars pt 7 ps 0.9 lw 2 lc '#1f77b4'"
            " title 'criteria'",
            at);
    if (has_regularised(figure))
        fprintf(out,
                ", \\\n data using ($2==1?$%d:NaN):3:4 with yerrorbars pt 7 ps 0.9 lw 2"
                " lc '#ff7f0e' title 'regularised'",
                at);
    if (isfinite(line.slope) && isfinite(correlation))
        fprintf(out,
                ", \\\n [%.17g:%.17g] %.17g*x + %.17g with lines dt 2 lw 2 lc '#444444' notitle",
                low, high, line.slope, line.offset);
    fputc('\n', out);
}

static int space_columns(const struct figure *figure) {
    int count = 0;
    for (size_t c = 0; c < figure->report->column_count; c++)
        count += is_space(figure, c);
    return count;
}

static void relation_script(const struct figure *figure, FILE *out) {
    int panels = space_columns(figure), columns = panels < 4 ? panels : 4, at = 5;
    fprintf(out, "set multiplot layout %d,%d title ", (panels + columns - 1) / columns, columns);
    dml_text_gnuplot(out, figure->dataset);
    fputs("\nset grid lc '#dddddd'\nset offsets graph 0.08, graph 0.08, graph 0.1, graph 0.2\n"
          "set key bottom right opaque\nset xtics rotate by -35\nset ylabel ",
          out);
    dml_text_gnuplot(out, figure->metric);
    fputc('\n', out);
    for (size_t c = 0; c < figure->report->column_count; c++)
        if (is_space(figure, c)) {
            relation_panel(figure, c, at, out);
            at += 2;
        }
    fputs("unset multiplot\n", out);
}

/* ---- correlation of all metrics ---- */

static void correlation_data(const struct figure *figure, FILE *out) {
    const struct dml_report *report = figure->report;
    double *x = dml_alloc(2 * figure->count, sizeof *x), *y = x + figure->count;
    for (size_t a = 0; x && a < report->column_count; a++)
        for (size_t b = 0; b < report->column_count; b++) {
            for (size_t g = 0; g < figure->count; g++) {
                x[g] = cell(figure, g, (int)a).mean;
                y[g] = cell(figure, g, (int)b).mean;
            }
            fprintf(out, "%zu\t%zu\t%.17g\n", a, b, dml_correlation(x, y, figure->count));
        }
    free(x);
}

static void correlation_script(const struct figure *figure, FILE *out) {
    const struct dml_report *report = figure->report;
    fputs("set title ", out);
    dml_text_gnuplot(out, figure->dataset);
    fprintf(out,
            "\nunset key\nset size ratio 1\nset xrange [-0.5:%zu.5]\nset yrange [-0.5:%zu.5]\n"
            "set cbrange [-1:1]\nset palette defined (-1 '#7f9cf0', 0 '#f4f4f4', 1 '#f0a070')\n"
            "set tics scale 0\nset xtics rotate by -45 (",
            report->column_count - 1, report->column_count - 1);
    for (size_t c = 0; c < report->column_count; c++) {
        fputs(c ? ", " : "", out);
        dml_text_gnuplot(out, report->columns[c].label);
        fprintf(out, " %zu", c);
    }
    fputs(")\nset ytics (", out);
    for (size_t c = 0; c < report->column_count; c++) {
        fputs(c ? ", " : "", out);
        dml_text_gnuplot(out, report->columns[c].label);
        fprintf(out, " %zu", c);
    }
    fputs(")\nplot data using 1:2:3 with image pixels, \\\n"
          " data using 1:2:(stringcolumn(3) eq 'nan' ? '' : sprintf('%.2f', $3)) with labels"
          " font ',10'\n",
          out);
}

/* ---- groups ranked by recall ---- */

/* Indices of the groups, worst first. */
static size_t *ranking(const struct figure *figure) {
    size_t *order = dml_alloc(figure->count, sizeof *order);
    for (size_t g = 0; order && g < figure->count; g++) {
        size_t at = g;
        double value = cell(figure, g, figure->recall).mean;
        for (; at > 0 && cell(figure, order[at - 1], figure->recall).mean > value; at--)
            order[at] = order[at - 1];
        order[at] = g;
    }
    return order;
}

static void ranking_data(const struct figure *figure, FILE *out) {
    size_t *order = ranking(figure);
    for (size_t i = 0; order && i < figure->count; i++) {
        struct dml_spread recall = cell(figure, order[i], figure->recall);
        dml_text_gnuplot_field(out, group_at(figure, order[i])->label);
        fprintf(out, "\t%d\t%.17g\t%.17g\n", group_at(figure, order[i])->regularised, recall.mean,
                recall.deviation);
    }
    free(order);
}

static void ranking_script(const struct figure *figure, FILE *out) {
    double low = INFINITY, high = -INFINITY;
    for (size_t g = 0; g < figure->count; g++) {
        struct dml_spread recall = cell(figure, g, figure->recall);
        low = fmin(low, recall.mean - recall.deviation);
        high = fmax(high, recall.mean + recall.deviation);
    }
    double margin = high > low ? (high - low) * 0.15 : 0.01;
    low = fmax(0, low - margin);
    fputs("set title ", out);
    dml_text_gnuplot(out, figure->dataset);
    fputs("\nset xlabel ", out);
    dml_text_gnuplot(out, figure->metric);
    fprintf(out,
            "\nset key outside bottom center horizontal\nset grid x lc '#dddddd'\n"
            "set xrange [%.17g:%.17g]\nset yrange [-0.6:%zu.4]\nset style fill solid 0.75\n"
            "set tics nomirror\nunset mytics\n"
            "plot data using (%.17g):0:(%.17g):($2==0?$3:NaN):($0-0.38):($0+0.38):ytic(1)"
            " with boxxyerror lc '#f5a142' title 'criteria', \\\n"
            " data using (%.17g):0:(%.17g):($2==1?$3:NaN):($0-0.38):($0+0.38)"
            " with boxxyerror lc '#2e8b57' title 'regularised variants', \\\n"
            " data using 3:0:4 with xerrorbars pt -1 lw 2 lc '#333333' notitle\n",
            low, high + margin, figure->count - 1, low, low, low, low);
}

/* ---- all of them ---- */

static enum dml_status check_formats(const struct dml_strings *formats) {
    for (size_t i = 0; i < formats->count; i++)
        if (strcmp(formats->items[i], "svg") != 0 && strcmp(formats->items[i], "pdf") != 0 &&
            strcmp(formats->items[i], "png") != 0)
            return dml_fail(DML_ERROR_USAGE, "--figure_formats: '%s' is not svg, pdf or png",
                            formats->items[i]);
    return DML_OK;
}

static enum dml_status draw_dataset(const struct figure *figure) {
    int panels = space_columns(figure), rows = (panels + 3) / 4;
    int side = 420 + 55 * (int)figure->report->column_count;
    int bars = 170 + 34 * (int)figure->count;
    enum dml_status status = make(figure, "ranking", 1000, bars, ranking_data, ranking_script);
    if (status)
        return status;
    if (figure->count < LEAST_GROUPS) {
        dml_warn("%s has %zu groups; relations and correlations need at least %d", figure->dataset,
                 figure->count, LEAST_GROUPS);
        return DML_OK;
    }
    if (rows > 0)
        status = make(figure, "relation", 30 + 410 * (panels < 4 ? panels : 4), 60 + 420 * rows,
                      relation_data, relation_script);
    if (!status)
        status = make(figure, "correlation", side, side, correlation_data, correlation_script);
    return status;
}

enum dml_status dml_report_draw(const struct dml_report *report, const char *folder,
                                const struct dml_strings *formats, const char *metric) {
    struct figure figure = {
        .report = report, .folder = folder, .formats = formats, .metric = metric};
    enum dml_status status = check_formats(formats);
    if (!status)
        status = dml_make_folders(folder);
    figure.recall = dml_report_find(report, "Test", metric);
    if (!status && figure.recall < 0)
        status = dml_fail(DML_ERROR_INPUT, "no run has %s of Test: nothing to draw", metric);
    for (size_t i = 0; !status && dml_report_dataset(report, i, &figure.first, &figure.count);
         i++) {
        figure.dataset = report->groups[figure.first].dataset;
        figure.file = dml_text_file_name(figure.dataset);
        status = figure.file ? draw_dataset(&figure) : DML_ERROR_MEMORY;
        free(figure.file);
    }
    return status;
}
