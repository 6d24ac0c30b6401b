/* Preloaded into the ranks of a run: something happens to one of them at a place of its work.
 *
 *     STRIKE_RANK=1 STRIKE=kill|stop|exit|sleep|hang STRIKE_AT=init|send|sent|receive|open|rename
 *     STRIKE_WHAT=... STRIKE_TIMES=n
 *
 * strikes at the n-th message of STRIKE_WHAT bytes, before or after it is sent, or at the n-th file
 * whose path has STRIKE_WHAT in it; init: when it joins the others. It sleeps for a second; a
 * call that hangs never returns, and says so. */
#include <dlfcn.h>
#include <fcntl.h>
#include <mpi.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *setting(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

static void strike(const char *at, const char *path, long bytes) {
    static atomic_int times;
    const char *what = setting("STRIKE_WHAT");
    bool here = strcmp(setting("STRIKE_AT"), at) == 0 &&
                strcmp(setting("OMPI_COMM_WORLD_RANK"), setting("STRIKE_RANK")) == 0 &&
                (path ? strstr(path, what) != NULL : !*what || atol(what) == bytes);
    if (!here || atomic_fetch_add(&times, 1) + 1 != atoi(setting("STRIKE_TIMES")))
        return;
    if (strcmp(setting("STRIKE"), "exit") == 0)
        _exit(0);
    if (strcmp(setting("STRIKE"), "sleep") == 0)
        sleep(1);
    else if (strcmp(setting("STRIKE"), "hang") == 0)
        for (dprintf(STDERR_FILENO, "a call hangs\n");;)
            pause();
    else
        raise(strcmp(setting("STRIKE"), "stop") == 0 ? SIGSTOP : SIGKILL);
}

/* The function of that name that would have been called without this one. */
static void *next(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) /* of a library that was opened later */
        abort();
    return found;
}

int open(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    strike("open", path, 0);
    return ((int (*)(const char *, int, ...))next("open"))(path, flags, mode);
}

int rename(const char *from, const char *to) {
    strike("rename", to, 0);
    return ((int (*)(const char *, const char *))next("rename"))(from, to);
}

int MPI_Init_thread(int *argc, char ***argv, int required, int *provided) {
    strike("init", NULL, 0);
    return PMPI_Init_thread(argc, argv, required, provided);
}

int MPI_Isend(const void *data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
              MPI_Request *request) {
    strike("send", NULL, count);
    int code = PMPI_Isend(data, count, type, to, tag, comm, request);
    strike("sent", NULL, count);
    return code;
}

int MPI_Irecv(void *data, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm,
              MPI_Request *request) {
    strike("receive", NULL, count);
    return PMPI_Irecv(data, count, type, from, tag, comm, request);
}
