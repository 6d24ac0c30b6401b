#include "cli/cli.h"

#include "base/files.h"
#include "report/report.h"

#include <stdio.h>
#include <string.h>

static const char usage[] =
    "usage: dml report [FLAGS]\n\n"
    "Tables and figures of the runs below --save_path: mean and standard deviation over\n"
    "the runs of each group, at each run's best epoch.\n";

static enum dml_status write_table(const struct dml_report *report,
                                   const struct dml_report_options *options) {
    if (!*options->output)
        return dml_report_print(report, options->format, stdout);
    struct dml_output output;
    enum dml_status status = dml_output_open(&output, options->output);
    if (status)
        return status;
    status = dml_report_print(report, options->format, output.file);
    if (!status)
        return dml_output_commit(&output);
    dml_output_discard(&output);
    return status;
}

static enum dml_status make_report(const void *flags) {
    const struct dml_report_options *options = flags;
    struct dml_report report;
    enum dml_status status = dml_report_read(options, &report);
    if (status)
        return status;
    if (report.left_out)
        fprintf(stderr,
                "dml report: %zu runs are left out: not finished (see --all_runs) or too short\n",
                report.left_out);
    status = write_table(&report, options);
    if (!status && *options->figures)
        status =
            dml_report_draw(&report, options->figures, &options->figure_formats, options->metric);
    if (!status && *options->html)
        status = dml_report_write_html(&report, options, options->html);
    dml_report_free(&report);
    return status;
}

int dml_report_main(int argc, char **argv) {
    return dml_cli_run("report", &dml_report_params, usage, make_report, argc, argv);
}
