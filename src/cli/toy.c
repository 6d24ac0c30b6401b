#include "cli/cli.h"

#include "base/memory.h"
#include "toy/lines.h"

#include <stdio.h>
#include <stdlib.h>

static const char usage[] =
    "usage: dml toy [FLAGS]\n"
    "\n"
    "The study's diagonal lines: contrastive learning with and without swapped\n"
    "negatives on four segments of a diagonal, tested on segments off it.\n";

static void print_result(const char *name, const struct dml_toy_result *result) {
    printf("%-12s loss %.4f -> %.4f, spectrum %.3f %.3f, test recall@1 %.3f\n", name, result->first,
           result->last, result->spectrum[0], result->spectrum[1], result->test_recall);
}

static enum dml_status run_toy(const void *flags) {
    const struct dml_toy_options *options = flags;
    struct dml_toy_data data;
    struct dml_toy_result *results = dml_alloc(2, sizeof *results);
    if (!results)
        return DML_ERROR_MEMORY;
    dml_toy_make_data(&data, (uint64_t)options->seed);
    enum dml_status status = dml_toy_train(&data, options, false, &results[0]);
    if (!status)
        status = dml_toy_train(&data, options, true, &results[1]);
    if (!status) {
        print_result("contrastive", &results[0]);
        print_result("regularised", &results[1]);
        status = dml_toy_draw(&data, &results[0], &results[1], options);
    }
    if (!status)
        dml_cli_print("figure: %s/diagonal_lines.%s\n", options->output,
                      options->figure_formats.count ? options->figure_formats.items[0] : "gp");
    free(results);
    return status;
}

int dml_toy_main(int argc, char **argv) {
    return dml_cli_run("toy", &dml_toy_params, usage, run_toy, argc, argv);
}
