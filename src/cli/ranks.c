#include "cli/ranks.h"

#include "base/memory.h"
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "train/options.h"

#include <stdlib.h>

/* One of the ranks that mpirun or srun started, or the only one. */
static enum dml_status run_rank(const char *command, const struct dml_setup_options *setup,
                                dml_cli_work work, void *data, const volatile sig_atomic_t *stop,
                                struct dml_comm *comm) {
    int64_t wanted = setup->ranks;
    if (!stop && dml_comm_started(NULL) > 1)
        stop = dml_cli_catch_interrupts(NULL);
    enum dml_status status = dml_comm_open(command, setup->rank_limit, comm);
    if (!status && wanted > 1 && wanted != comm->size)
        status = dml_fail(DML_ERROR_USAGE, "--ranks %lld: mpirun or srun has started %d",
                          (long long)wanted, comm->size);
    if (!status)
        status = work(data, comm, stop);
    return dml_comm_fail(comm, status);
}

/* One of several ranks that cannot even begin: rank 0 reports it. */
static enum dml_status fail_as_rank(const char *command, enum dml_status status,
                                    struct dml_comm *comm) {
    static const double LIMIT = 60;
    char *error = dml_strdup(dml_error());
    dml_comm_open(command, LIMIT, comm);
    dml_fail(status, "%s", error ? error : "out of memory");
    free(error);
    return dml_comm_fail(comm, status);
}

int dml_cli_run_ranks(const char *command, enum dml_status status, const struct dml_params *params,
                      char **argv, dml_cli_work work, void *data,
                      const volatile sig_atomic_t *stop) {
    struct dml_comm comm;
    int exit_status = 0;
    dml_comm_single(&comm);
    int started = dml_comm_started(&comm.rank); /* only rank 0 reports */
    const struct dml_setup_options *setup =
        status ? NULL : dml_params_options(params, &dml_setup_params);
    if (status && started > 1)
        status = fail_as_rank(command, status, &comm);
    else if (setup && started == 1 && setup->ranks > 1)
        status = dml_comm_launch((int)setup->ranks, argv,
                                 stop ? "\nstopping after this step; interrupt again to stop at "
                                        "once\n"
                                      : "\nstopping; interrupt again to stop at once\n",
                                 &exit_status);
    else if (setup)
        status = run_rank(command, setup, work, data, stop, &comm);
    if (status && comm.rank == 0 && comm.size == 1)
        exit_status = dml_cli_finish(command, status);
    else if (status) {
        exit_status = status == DML_ERROR_USAGE ? 2 : 1;
        dml_comm_tell(&comm);
    }
    dml_comm_close(&comm, exit_status);
    return exit_status;
}
