#include "cli/cli.h"

#include "base/memory.h"
#include "base/text.h"
#include "cli/interrupt.h"
#include "cli/ranks.h"
#include "dml/plugin.h"
#include "tracking/tracking.h"
#include "train/options.h"
#include "train/read_params.h"
#include "train/trainer.h"

#include <stdlib.h>

static void print_help(const struct dml_params *params) {
    puts("usage: dml train [FLAGS]\n"
         "\n"
         "Trains a network with a deep metric learning criterion and evaluates it after each\n"
         "epoch. Flags are those of the study's PyTorch repository; lists take several values,\n"
         "and flags may be abbreviated unambiguously.");
    dml_params_help(params, stdout);
}

struct work {
    struct dml_params *params;
    const char *command;
};

static enum dml_status train(void *data, struct dml_comm *comm, const volatile sig_atomic_t *stop) {
    struct work *work = data;
    enum dml_status status = dml_train_read_params(work->params, comm);
    return status ? status : dml_train(work->params, work->command, stop, comm, NULL);
}

int dml_train_main(int argc, char **argv) {
    struct dml_params *params = NULL;
    bool help = false, alone = dml_comm_started(NULL) == 1;
    enum dml_status status = dml_tracking_take_key(&argc, argv);
    /* as a shell would read it back */
    char *words = dml_text_shell(argv, argc), *command = words ? dml_format("dml %s", words) : NULL;
    free(words);
    if (!status && !command)
        status = DML_ERROR_MEMORY;
    if (!status)
        status = dml_plugin_load_flags(argc - 1, argv + 1);
    if (!status)
        status = dml_train_params(&params);
    if (!status && (help = dml_cli_wants_help(argc, argv)))
        print_help(params);
    else if (!status)
        status = dml_params_parse(params, argc - 1, argv + 1);
    const volatile sig_atomic_t *stop = dml_cli_catch_interrupts(
        alone ? "\nstopping after this step; interrupt again to stop at once\n" : NULL);
    struct work work = {params, command};
    int code = help ? 0 : dml_cli_run_ranks("train", status, params, argv, train, &work, stop);
    dml_params_free(params);
    free(command);
    return code;
}
