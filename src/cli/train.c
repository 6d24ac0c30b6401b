#include "cli/cli.h"

#include "base/memory.h"
#include "base/text.h"
#include "cli/interrupt.h"
#include "dml/plugin.h"
#include "tracking/tracking.h"
#include "train/options.h"
#include "train/read_params.h"
#include "train/trainer.h"

#include <stdlib.h>

static void print_help(const struct dml_params *params) {
    puts("usage: dml train [FLAGS]\n\n"
         "Trains a network with a deep metric learning criterion and evaluates it after each\n"
         "epoch. Flags are those of the study's PyTorch repository, lists take several values,\n"
         "and unambiguous beginnings of flags work.");
    dml_params_help(params, stdout);
}

/* One of the ranks that mpirun or srun started, or the only one. */
static enum dml_status run_rank(struct dml_params *params, const char *command,
                                struct dml_comm *comm) {
    bool alone = dml_comm_started(NULL) == 1;
    const volatile sig_atomic_t *stop = dml_cli_catch_interrupts(
        alone ? "\nstopping after this step; interrupt again to stop at once\n" : NULL);
    const struct dml_setup_options *setup = dml_params_options(params, &dml_setup_params);
    int64_t wanted = setup->ranks;
    enum dml_status status = dml_comm_open(setup->rank_limit, comm);
    if (!status && wanted > 1 && wanted != comm->size)
        status = dml_fail(DML_ERROR_USAGE, "--ranks %lld: mpirun or srun has started %d",
                          (long long)wanted, comm->size);
    if (!status)
        status = dml_train_read_params(params, comm);
    if (!status)
        status = dml_train(params, command, stop, comm, NULL);
    return dml_comm_fail(comm, status);
}

/* Flags, and then the run. */
static enum dml_status run(struct dml_params *params, int argc, char **argv, const char *command,
                           struct dml_comm *comm, int *exit_status) {
    const struct dml_setup_options *setup = dml_params_options(params, &dml_setup_params);
    enum dml_status status = dml_params_parse(params, argc - 1, argv + 1);
    if (status)
        return status;
    if (dml_comm_started(NULL) == 1 && setup->ranks > 1)
        return dml_comm_launch((int)setup->ranks, argv, exit_status);
    return run_rank(params, command, comm);
}

int dml_train_main(int argc, char **argv) {
    struct dml_params *params = NULL;
    struct dml_comm comm;
    int exit_status = 0;
    dml_comm_single(&comm);
    dml_comm_started(&comm.rank); /* rank 0 speaks */
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
    if (!status && dml_cli_wants_help(argc, argv))
        print_help(params);
    else if (!status)
        status = run(params, argc, argv, command, &comm, &exit_status);
    if (status && comm.rank == 0 && comm.size == 1)
        exit_status = dml_cli_finish("train", status);
    else if (status) {
        exit_status = status == DML_ERROR_USAGE ? 2 : 1;
        dml_comm_tell(&comm);
    }
    dml_comm_close(&comm, exit_status);
    dml_params_free(params);
    free(command);
    return exit_status;
}
