#include "cli/cli.h"

#include "base/text.h"
#include "cli/interrupt.h"
#include "sweep/sweep.h"
#include "tracking/tracking.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sweep_options {
    int64_t jobs;
    bool status, retry;
};

static const struct dml_param parameters[] = {
    {.name = "jobs",
     .type = DML_PARAM_INT,
     .offset = offsetof(struct sweep_options, jobs),
     .fallback = "1",
     .min = 1,
     .max = 256,
     .help = "Runs at a time; they share the processor's cores."},
    {.name = "status",
     .type = DML_PARAM_FLAG,
     .offset = offsetof(struct sweep_options, status),
     .help = "Only show what is done, running, failed and waiting."},
    {.name = "retry",
     .type = DML_PARAM_FLAG,
     .offset = offsetof(struct sweep_options, retry),
     .help = "Run again the runs that failed."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Sweep", struct sweep_options, parameters);

static void print_run(const struct dml_sweep_run *run) {
    char result[32] = "";
    if (isfinite(run->result))
        snprintf(result, sizeof result, "R@1 %.4f", run->result);
    printf("  %-9s line %-4zu %-11s ", dml_sweep_state_name(run->state), run->line, result);
    dml_text_put_line(stdout, run->label);
    if (run->error) {
        printf("\n            ");
        dml_text_put_line(stdout, run->error);
        printf(" (see ");
        dml_text_put_line(stdout, run->log);
        printf(")");
    }
    putchar('\n');
}

static size_t print_status(const struct dml_sweep *sweep, bool all) {
    size_t counts[4] = {0};
    for (size_t i = 0; i < sweep->count; i++)
        counts[sweep->runs[i].state]++;
    printf("%zu runs: %zu finished, %zu failed, %zu running or cut off, %zu waiting\n",
           sweep->count, counts[DML_SWEEP_FINISHED], counts[DML_SWEEP_FAILED],
           counts[DML_SWEEP_RUNNING], counts[DML_SWEEP_WAITING]);
    for (size_t i = 0; i < sweep->count; i++)
        if (all || sweep->runs[i].state == DML_SWEEP_FAILED)
            print_run(&sweep->runs[i]);
    return counts[DML_SWEEP_FAILED];
}

static enum dml_status run_sweep(const char *path, const struct sweep_options *options,
                                 char *const *extra, size_t extra_count, size_t *failed) {
    struct dml_sweep sweep;
    enum dml_status status = dml_sweep_read(path, extra, extra_count, &sweep);
    if (status)
        return status;
    status = dml_sweep_check(path, &sweep);
    if (!status)
        status = dml_sweep_look_up(&sweep);
    if (!status)
        *failed = print_status(&sweep, options->status);
    if (!status && !options->status) {
        volatile sig_atomic_t *stop = dml_cli_catch_interrupts(NULL);
        fflush(stdout);
        status = dml_sweep_execute(&sweep, (long)options->jobs, options->retry, stop);
        if (!status)
            *failed = print_status(&sweep, false);
        if (!status && *stop)
            status =
                dml_fail(DML_ERROR_INTERRUPTED, "stopped; the same command continues from here");
    }
    dml_sweep_free(&sweep);
    return status;
}

static void print_help(const struct dml_params *params) {
    puts("usage: dml sweep FILE [FLAGS] [-- FLAGS FOR EVERY RUN]\n"
         "\n"
         "Runs a text file of runs, one a line, and continues where it was stopped. Lists\n"
         "multiply (--seed {0..4}), numbered ones move together (--dataset {1:a,b} --group\n"
         "{1:A,B}), and a line `all FLAGS` sets what the following lines share.");
    dml_params_help(params, stdout);
}

int dml_sweep_main(int argc, char **argv) {
    struct dml_params *params = NULL;
    size_t failed = 0;
    int own = 1;
    enum dml_status status = dml_tracking_take_key(&argc, argv);
    while (own < argc && strcmp(argv[own], "--") != 0)
        own++;
    if (!status)
        status = dml_params_new(&params);
    if (!status)
        status = dml_params_add(params, &table);
    if (!status && dml_cli_wants_help(own, argv)) {
        print_help(params);
        dml_params_free(params);
        return 0;
    }
    if (!status && (own < 2 || argv[1][0] == '-'))
        status = dml_fail(DML_ERROR_USAGE, "the file of runs is missing: dml sweep FILE");
    if (!status)
        status = dml_params_parse(params, own - 2, argv + 2);
    if (!status) {
        int after = own < argc ? own + 1 : own;
        status = run_sweep(argv[1], dml_params_options(params, &table), argv + after,
                           (size_t)(argc - after), &failed);
    }
    dml_params_free(params);
    int code = dml_cli_finish("sweep", status);
    return code ? code : failed > 0;
}
