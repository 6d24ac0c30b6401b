#ifndef DML_TRACKING_PROCESS_H
#define DML_TRACKING_PROCESS_H

#include "dml/error.h"

#include <stdbool.h>
#include <sys/types.h>

/* Starts a program found in PATH in the background, in `folder` (NULL: here), with input from
 * /dev/null and everything it says in `log` (NULL: nowhere; else as seen from here), in a process
 * group of its own so that Ctrl-C does not reach it, and at low priority. `command` ends with NULL.
 * DML_ERROR_UNSUPPORTED: it is not installed. */
enum dml_status dml_process_start(const char *const *command, const char *folder, const char *log,
                                  pid_t *child);

/* Whether it has ended, waiting at most `seconds`; `*failed` says whether its exit status was not
 * 0. */
bool dml_process_ended(pid_t child, double seconds, bool *failed);

/* Ends it and takes its exit status. */
void dml_process_kill(pid_t child);

#endif
