#ifndef DML_CLI_RANKS_H
#define DML_CLI_RANKS_H

#include "comm/comm.h"
#include "dml/params.h"

#include <signal.h>

/* What a command does as a rank, or as the only process; `stop` becomes true at Ctrl-C. */
typedef enum dml_status (*dml_cli_work)(void *data, struct dml_comm *comm,
                                        const volatile sig_atomic_t *stop);

/* Ends a command that several processes may run together: those that mpirun or srun started, those
 * that --ranks asks for, or this one alone. `params` hold its flags, dml_setup_params among them;
 * `status` is the result of reading and checking them. Failures are reported once, by rank 0.
 * `stop`: from dml_cli_catch_interrupts; NULL: signals are caught for several ranks only, since a
 * process on its own may simply end. Returns the program's exit status. */
int dml_cli_run_ranks(const char *command, enum dml_status status, const struct dml_params *params,
                      char **argv, dml_cli_work work, void *data,
                      const volatile sig_atomic_t *stop);

#endif
