#ifndef DML_TRAIN_TRAINER_H
#define DML_TRAIN_TRAINER_H

#include "comm/comm.h"
#include "dml/params.h"

#include <signal.h>

/* A whole run: opens what the parameters name, trains, evaluates, tracks and writes checkpoints.
 * `command` is the command line for the log, without secrets. Once *stop is set (by a signal
 * handler; may be NULL) the run ends after the current step with everything written and returns
 * DML_ERROR_INTERRUPTED. A loss, gradient or embedding that is not finite ends it with
 * DML_ERROR_NUMERIC; earlier checkpoints stay. *folder (the pointer may be NULL) gets the run's
 * folder once it is known, however the run ends; free() it.
 *
 * All ranks of `comm` call it with the same parameters, and each computes its part of every batch:
 * with frozen batch norm the result is bit for bit that of one process with --micro_bs of that
 * size. Only rank 0 leaves anything behind. */
enum dml_status dml_train(struct dml_params *params, const char *command,
                          const volatile sig_atomic_t *stop, struct dml_comm *comm, char **folder);

#endif
