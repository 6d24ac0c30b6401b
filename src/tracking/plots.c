#include "base/files.h"
#include "base/memory.h"
#include "base/text.h"
#include "tracking/gnuplot.h"
#include "tracking/names.h"
#include "tracking/process.h"
#include "tracking/tracking.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Progression_Plots/Graph_<part>_<group>.svg for every file of CSV_Logs, with the best values in
 * the title. The script (.gp) and its data (.csv) are beside the picture: `gnuplot Graph_X.gp`
 * there draws it again. The data are a copy of the log, with the epoch or step of each row before
 * it. One gnuplot in the background draws all; while it is busy, an epoch is left out, and the end
 * of the run draws again. */

#define GRAPH_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-+. "

enum { CLOSE_SECONDS = 20, POINTS = 2000, MAX_COLUMNS = 16 };

struct plots {
    char *logs, *folder, *gnuplot_log;
    pid_t child;    /* 0: none is running */
    char **scripts; /* that it draws */
    size_t count, capacity;
    bool stale; /* the drawings lack the last epoch */
};

static void forget_scripts(struct plots *plots) {
    while (plots->count > 0)
        free(plots->scripts[--plots->count]);
}

static void destroy(struct plots *plots) {
    forget_scripts(plots);
    free(plots->scripts);
    free(plots->logs);
    free(plots->folder);
    free(plots->gnuplot_log);
    free(plots);
}

static enum dml_status plots_open(const struct dml_run *run, void **state) {
    struct plots *plots = dml_alloc(1, sizeof *plots);
    *state = NULL;
    if (!plots)
        return DML_ERROR_MEMORY;
    plots->logs = dml_path_join(run->folder, "CSV_Logs");
    plots->folder = dml_path_join(run->folder, "Progression_Plots");
    plots->stale = run->resumed; /* it may have been killed before it drew what it logged */
    plots->gnuplot_log = dml_path_join(run->folder, "Progression_Plots/gnuplot.log");
    enum dml_status status = plots->logs && plots->folder && plots->gnuplot_log
                                 ? dml_make_folders(plots->folder)
                                 : DML_ERROR_MEMORY;
    if (status)
        destroy(plots);
    else
        *state = plots;
    return status;
}

/* The best value of a column, as gnuplot words for the title; "" for none. */
static void best_value(char *out, size_t size, const char *column, int number) {
    const char *which = NULL;
    enum dml_metric_order order = dml_metric_order_of(column);
    if (strstr(column, "loss") || order == DML_METRIC_SMALLER)
        which = "min";
    else if (strncmp(column, "Grad", 4) == 0 || order == DML_METRIC_LARGER)
        which = "max";
    if (which)
        snprintf(out, size, ", c%d_%s", number, which);
    else
        out[0] = 0;
}

static void graph_file(FILE *out, const char *name, const char *ending) {
    char file[300];
    snprintf(file, sizeof file, "Graph_%s.%s", name, ending);
    dml_text_gnuplot(out, file);
}

static bool of_steps(const char *name) {
    return strncmp(name, "Model Grad", 10) == 0;
}

static void write_script(FILE *out, const char *name, char *header) {
    char *columns[MAX_COLUMNS], *rest = NULL;
    int count = 0;
    const char *group = strchr(name, '_') ? strchr(name, '_') + 1 : name;
    for (char *at = strtok_r(header, ",\r\n", &rest); at && count < MAX_COLUMNS;
         at = strtok_r(NULL, ",\r\n", &rest))
        columns[count++] = at;
    fprintf(out,
            "reset\nset terminal svg size 1250,950 dynamic font 'sans,18' background '#ffffff'\n"
            "set datafile separator ','\nset grid lc '#dddddd'\n"
            "set key outside bottom center horizontal noenhanced\nset xlabel '%s'\n"
            "rows = 0\ndata = ",
            of_steps(name) ? "step" : "epoch");
    graph_file(out, name, "csv");
    fputs("\nwhat = ", out);
    dml_text_gnuplot(out, group);
    fputs("\n", out);
    const char *separator = ": ";
    for (int i = 0; i < count; i++) {
        char value[32];
        best_value(value, sizeof value, columns[i], i + 2);
        fprintf(out,
                "stats data every ::1 using %d name 'c%d' nooutput\n"
                "if (exists('c%d_records')) { rows = c%d_records;",
                i + 2, i + 2, i + 2, i + 2);
        if (*value) {
            fprintf(out, " what = what.sprintf('%s%%s: %%.4f', ", separator);
            dml_text_gnuplot(out, columns[i]);
            fprintf(out, "%s);", value);
            separator = "  |  ";
        }
        fprintf(out, " }\n");
    }
    fprintf(out,
            "stride = rows > %d ? rows / %d : 1\n"
            "stats data every ::1 using 1 name 'x' nooutput\n"
            "if (exists('x_max') && x_max < 12) { set xtics 1 }\n"
            "if (rows > 0) {\n"
            "set title what noenhanced\nset output ",
            POINTS, POINTS);
    graph_file(out, name, "svg");
    fputs("\nplot ", out);
    for (int i = 0; i < count; i++) {
        char title[200];
        snprintf(title, sizeof title, "%.*s %s", (int)strcspn(name, "_"), name, columns[i]);
        fprintf(out, "%sdata every stride::1 using 1:%d with %s lw 2 title ", i ? ", \\\n " : "",
                i + 2, of_steps(name) ? "lines" : "linespoints pt 7 ps 0.4");
        dml_text_gnuplot(out, title);
    }
    fprintf(out, "\nset output\n}\n");
}

/* In which epoch, from 1, each row of a part's metrics was evaluated. */
struct rows {
    size_t count, known; /* the last `known` of `count` rows */
    char *epochs;        /* their lines: epochs from 0 */
};

static size_t lines_of(const char *text) {
    size_t count = 0;
    for (; (text = strchr(text, '\n')); text++)
        count++;
    return count;
}

/* Takes the next epoch of row `i`. Rows from before epochs were logged are put at equal distances
 * before the first that was. */
static double next_epoch(struct rows *rows, size_t i) {
    size_t unknown = rows->count - rows->known;
    if (rows->known == 0)
        return (double)(i + 1);
    if (i < unknown)
        return (strtod(rows->epochs, NULL) + 1) * (double)(i + 1) / (double)(unknown + 1);
    return strtod(rows->epochs, &rows->epochs) + 1;
}

/* The log with the epoch or step of each row before it. */
static enum dml_status write_data(const char *path, const char *name, char *text, char *epochs) {
    struct dml_output output;
    enum dml_status status = dml_output_open(&output, path);
    if (status)
        return status;
    size_t logged = lines_of(text), evaluated = epochs ? lines_of(epochs) : 0;
    struct rows rows = {.count = logged ? logged - 1 : 0};
    if (evaluated > 1)
        rows.known = evaluated - 1 < rows.count ? evaluated - 1 : rows.count;
    for (size_t i = 0; epochs && i < evaluated - rows.known; i++)
        epochs = strchr(epochs, '\n') + 1;
    rows.epochs = epochs;
    fputs(of_steps(name) ? "step," : "epoch,", output.file);
    for (size_t i = 0; i <= rows.count; i++) {
        int length = (int)strcspn(text, "\n");
        if (i > 0)
            fprintf(output.file, "%.10g,", next_epoch(&rows, i - 1));
        fprintf(output.file, "%.*s\n", length, text);
        text += length + (text[length] == '\n');
    }
    return dml_output_commit(&output);
}

/* The log of the epochs in which a part was evaluated, or NULL: every epoch or step has a row. */
static enum dml_status read_epochs(const struct plots *plots, const char *name, char **out) {
    const char *metric = strstr(name, "_discriminative_");
    *out = NULL;
    if (!metric)
        return DML_OK;
    char *path = dml_format("%s/Data_%.*s_discriminative_epochs.csv", plots->logs,
                            (int)(metric - name), name);
    enum dml_status status = path ? DML_OK : DML_ERROR_MEMORY;
    if (!status && dml_path_exists(path))
        status = dml_read_file(path, out, NULL);
    free(path);
    return status;
}

/* Writes the data of one graph and its script. */
static enum dml_status write_graph(const struct plots *plots, const char *name) {
    char *from = dml_format("%s/Data_%s.csv", plots->logs, name);
    char *to = dml_format("%s/Graph_%s.csv", plots->folder, name);
    char *script = dml_format("%s/Graph_%s.gp", plots->folder, name);
    char *text = NULL, *epochs = NULL;
    struct dml_output output;
    enum dml_status status =
        from && to && script ? dml_read_file(from, &text, NULL) : DML_ERROR_MEMORY;
    if (!status)
        status = read_epochs(plots, name, &epochs);
    if (!status)
        status = write_data(to, name, text, epochs);
    if (!status)
        status = dml_output_open(&output, script);
    if (!status) {
        text[strcspn(text, "\n")] = 0;
        write_script(output.file, name, text);
        status = dml_output_commit(&output);
    }
    free(text);
    free(epochs);
    free(from);
    free(to);
    free(script);
    return status;
}

/* "Test_discriminative_nmi" of "Data_Test_discriminative_nmi.csv"; NULL for what is not drawn. */
static char *graph_name(const char *file) {
    size_t length = strlen(file);
    if (length < 10 || strncmp(file, "Data_", 5) != 0 || strcmp(file + length - 4, ".csv") != 0)
        return NULL;
    char *name = dml_format("%.*s", (int)(length - 9), file + 5);
    static const char *const others[] = {"Train_epochs", "Train_mining"};
    /* Vectors have an @; files that no tracker of ours would name this way are left alone. */
    bool drawn = name && name[strspn(name, GRAPH_CHARACTERS)] == 0;
    drawn =
        drawn && strncmp(name, "Train_steps", 11) != 0 && !strstr(name, "_discriminative_epochs");
    for (size_t i = 0; i < sizeof others / sizeof others[0] && drawn; i++)
        drawn = strcmp(name, others[i]) != 0;
    if (!drawn) {
        free(name);
        name = NULL;
    }
    return name;
}

static enum dml_status draw(struct plots *plots) {
    enum dml_status status = DML_OK;
    DIR *folder = opendir(plots->logs);
    if (!folder)
        return dml_fail(DML_ERROR_IO, "%s: cannot be read", plots->logs);
    for (struct dirent *entry; !status && (entry = readdir(folder));) {
        char *name = graph_name(entry->d_name);
        if (!name)
            continue;
        status = write_graph(plots, name);
        if (!status)
            status = dml_grow(&plots->scripts, &plots->capacity, plots->count + 1,
                              sizeof *plots->scripts);
        if (!status && !(plots->scripts[plots->count++] = dml_format("Graph_%s.gp", name)))
            status = DML_ERROR_MEMORY;
        free(name);
    }
    closedir(folder);
    if (!status && plots->count > 0)
        status = dml_gnuplot_start(plots->folder, plots->scripts, plots->count, plots->gnuplot_log,
                                   &plots->child);
    if (status) {
        plots->child = 0;
        forget_scripts(plots);
    }
    plots->stale = false;
    return status;
}

/* Takes the result of a gnuplot that has ended within `seconds`. */
static enum dml_status collect(struct plots *plots, double seconds) {
    bool failed;
    if (plots->child == 0 || !dml_process_ended(plots->child, seconds, &failed))
        return DML_OK;
    plots->child = 0;
    enum dml_status status = DML_OK;
    for (size_t i = 0; i < plots->count; i++) {
        enum dml_status torn = dml_gnuplot_check(plots->folder, plots->scripts[i]);
        status = status ? status : torn;
    }
    forget_scripts(plots);
    return failed ? dml_fail(DML_ERROR_IO, "gnuplot failed: see %s", plots->gnuplot_log) : status;
}

static enum dml_status plots_epoch(void *state, const struct dml_epoch_record *record) {
    (void)record;
    struct plots *plots = state;
    enum dml_status status = collect(plots, 0);
    plots->stale = true;
    return status || plots->child ? status : draw(plots);
}

static enum dml_status plots_close(void *state, enum dml_run_end end, const char *error) {
    (void)end, (void)error;
    struct plots *plots = state;
    enum dml_status status = collect(plots, CLOSE_SECONDS);
    if (!status && !plots->child && plots->stale)
        status = draw(plots);
    if (!status)
        status = collect(plots, CLOSE_SECONDS);
    if (plots->child)
        dml_process_kill(plots->child);
    destroy(plots);
    return status;
}

const struct dml_tracker dml_tracker_plots = {
    .name = "plots", .open = plots_open, .epoch = plots_epoch, .close = plots_close};
