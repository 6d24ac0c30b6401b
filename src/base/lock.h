#ifndef DML_BASE_LOCK_H
#define DML_BASE_LOCK_H

#include "dml/error.h"

#include <stdbool.h>

/* A file that one process at a time holds, so that nobody else works in a folder. It names its
 * holder; the system releases it when the process ends, however it ends. */
struct dml_lock {
    int fd; /* -1: none */
    char *path;
};

/* DML_ERROR_IO: somebody holds it, and the message names host and process; or the file cannot be
 * written. One left by a process that is gone is taken over, with a warning. */
enum dml_status dml_lock_take(const char *path, struct dml_lock *out);

/* Removes the file. No effect on a lock that was not taken. */
void dml_lock_release(struct dml_lock *lock);

/* Whether somebody holds it. `*unsure`: that cannot be told, as for another user's file. */
bool dml_lock_held(const char *path, bool *unsure);

/* The lock of a run, in its folder. */
#define DML_RUN_LOCK "run.lock"

/* The name of this machine; "host" where the system has none. */
enum { DML_HOST_SIZE = 128 };
const char *dml_host(char name[DML_HOST_SIZE]);

#endif
