#include "base/files.h"
#include "base/memory.h"
#include "toy/lines.h"
#include "tracking/gnuplot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GNUPLOT_SECONDS = 60 };

/* Columns: unseen, class, point (2), plain embedding (2), regularised embedding (2). */
static enum dml_status write_data(const char *path, const struct dml_toy_data *data,
                                  const struct dml_toy_result *plain,
                                  const struct dml_toy_result *swapped) {
    struct dml_output out;
    enum dml_status status = dml_output_open(&out, path);
    if (status)
        return status;
    for (int unseen = 0; unseen < 2; unseen++)
        for (int i = 0; i < DML_TOY_ALL; i++) {
            const double *point = unseen ? data->test[i] : data->train[i];
            const double *a = unseen ? plain->test[i] : plain->train[i];
            const double *b = unseen ? swapped->test[i] : swapped->train[i];
            fprintf(out.file, "%d %d %.9g %.9g %.9g %.9g %.9g %.9g\n", unseen, data->labels[i],
                    point[0], point[1], a[0], a[1], b[0], b[1]);
        }
    return dml_output_commit(&out);
}

static void plot_classes(FILE *out, int column, bool titles) {
    static const char *const train[] = {"#7f00ff", "#2a7fff", "#00b5eb", "#4dd0b0"};
    static const char *const test[] = {"#d62728", "#000000", "#8c564b", "#e020c0"};
    static const int marks[] = {2, 2, 9, 9};
    for (int c = 0; c < 2 * DML_TOY_CLASSES; c++) {
        int unseen = c / DML_TOY_CLASSES, class = c % DML_TOY_CLASSES;
        fprintf(out,
                "%s data using ($1==%d&&$2==%d?$%d:NaN):%d with points pt %d ps 1 lw 2 lc '%s'",
                c ? ", \\\n" : "", unseen, class, column, column + 1, unseen ? marks[class] : 7,
                unseen ? test[class] : train[class]);
        if (titles)
            fprintf(out, " title '%s class %d'", unseen ? "test" : "train", class + 1);
        else
            fputs(" notitle", out);
    }
}

static void embedding_panel(FILE *out, const char *title, int column) {
    fprintf(out,
            "set title '%s'\nset size ratio -1\nset xrange [-1.15:1.15]\nset yrange [-1.15:1.15]\n"
            "set parametric\nset trange [0:2*pi]\n"
            "plot cos(t),sin(t) with lines dt 2 lc '#999999' notitle, \\\n",
            title);
    plot_classes(out, column, false);
    fputs("\nunset parametric\n", out);
}

static void write_body(FILE *out, const struct dml_toy_result *plain,
                       const struct dml_toy_result *swapped) {
    fputs("data = 'diagonal_lines.dat'\nset multiplot layout 1,4\nset grid lc '#e5e5e5'\n"
          "set title 'training and test data'\nset key top left samplen 1 maxrows 4 width -3\n"
          "set xrange [0:1.15]\nset yrange [0:1.75]\nplot ",
          out);
    plot_classes(out, 3, true);
    fputs("\nset key top center\n", out);
    embedding_panel(out, "contrastive", 5);
    embedding_panel(out, "regularised", 7);
    fprintf(out,
            "set title 'singular values'\nset size noratio\nset xrange [-0.3:2]\n"
            "set yrange [0:1.15]\nset style fill solid 0.6 border lc '#333333'\nset boxwidth 0.3\n"
            "set xtics ('1' 0, '2' 0.35, '1' 1.1, '2' 1.45)\n"
            "$spectra << END\n0 %.9g 0\n0.35 %.9g 0\n1.1 %.9g 1\n1.45 %.9g 1\nEND\n"
            "plot $spectra using ($3==0?$1:NaN):2 with boxes lc '#1f77b4' title 'contrastive',"
            " \\\n $spectra using ($3==1?$1:NaN):2 with boxes lc '#ff7f0e' title 'regularised'\n"
            "unset multiplot\nset output\n",
            plain->spectrum[0], plain->spectrum[1], swapped->spectrum[0], swapped->spectrum[1]);
}

static enum dml_status write_script(const char *path, const struct dml_toy_options *options,
                                    const struct dml_toy_result *plain,
                                    const struct dml_toy_result *swapped) {
    static const char *const formats[][2] = {
        {"svg", "svg size 1800,520 dynamic font 'sans,13' background '#ffffff'"},
        {"png", "pngcairo size 1800,520 font 'sans,11'"},
        {"pdf", "pdfcairo size 16in,4.6in font 'sans,11'"}};
    struct dml_output out;
    enum dml_status status = dml_output_open(&out, path);
    if (status)
        return status;
    for (size_t i = 0; i < options->figure_formats.count && !status; i++) {
        const char *name = options->figure_formats.items[i];
        size_t f = 0;
        while (f < 3 && strcmp(formats[f][0], name) != 0)
            f++;
        if (f == 3) {
            status =
                dml_fail(DML_ERROR_USAGE, "--figure_formats: '%s' is not svg, pdf or png", name);
            break;
        }
        fprintf(out.file, "reset\nset terminal %s\nset output 'diagonal_lines.%s'\n", formats[f][1],
                name);
        write_body(out.file, plain, swapped);
    }
    if (!status)
        return dml_output_commit(&out);
    dml_output_discard(&out);
    return status;
}

enum dml_status dml_toy_draw(const struct dml_toy_data *data, const struct dml_toy_result *plain,
                             const struct dml_toy_result *swapped,
                             const struct dml_toy_options *options) {
    char *numbers = dml_path_join(options->output, "diagonal_lines.dat");
    char *script = dml_path_join(options->output, "diagonal_lines.gp");
    enum dml_status status =
        numbers && script ? dml_make_folders(options->output) : DML_ERROR_MEMORY;
    if (!status)
        status = write_data(numbers, data, plain, swapped);
    if (!status)
        status = write_script(script, options, plain, swapped);
    if (!status)
        status = dml_gnuplot_draw(options->output, "diagonal_lines.gp", GNUPLOT_SECONDS);
    free(numbers);
    free(script);
    return status;
}
