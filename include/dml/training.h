#ifndef DML_TRAINING_H
#define DML_TRAINING_H

#include "dml/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A whole run, as `dml train` does it: data, network, methods, evaluation, checkpoints and logs.
 * Its progress goes to the listener (dml/messages.h). */
struct dml_training;

/* `flags` is a NULL-terminated list of words, as for `dml train`. DML_ERROR_USAGE: a flag that is
 * unknown or out of bounds; flags that contradict each other are reported by dml_training_run,
 * before anything is computed. Free with dml_training_free. */
DML_API enum dml_status dml_training_open(const char *const *flags, struct dml_training **out);
DML_API void dml_training_free(struct dml_training *training);

/* Trains to the end, once. DML_ERROR_INTERRUPTED: dml_training_stop ended it after a step, with
 * everything written that --resume needs to continue. */
DML_API enum dml_status dml_training_run(struct dml_training *training);

/* Asks the run to end after its current step: from another thread, a signal handler, or the
 * listener, which may call no other function. */
DML_API void dml_training_stop(struct dml_training *training);

/* The run's folder, which holds checkpoints and logs; NULL before it is made. */
DML_API const char *dml_training_folder(const struct dml_training *training);

#ifdef __cplusplus
}
#endif
#endif
