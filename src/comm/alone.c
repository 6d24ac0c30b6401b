#include "base/memory.h"
#include "comm/wait.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OVER, AT_WORK }; /* what rank 0 tells the waiting ranks */

/* A thread of rank 0 that says that rank 0 is at work. Meanwhile nothing else is exchanged. */
struct dml_comm_alone {
    struct dml_comm *comm;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t end;
    bool over;
    double every; /* seconds */
    enum dml_status status;
    char error[1000];
};

static enum dml_status say(struct dml_comm *comm, char what) {
    struct dml_transfer sends[comm->size];
    for (int r = 1; r < comm->size; r++)
        sends[r - 1] = (struct dml_transfer){&what, 1, r};
    return dml_comm_exchange(comm, sends, (size_t)comm->size - 1, NULL, 0);
}

/* Sleeps until it is over, but for no more than `every` seconds; returns whether it is. */
static bool sleep_until_over(struct dml_comm_alone *alone) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += (long)((alone->every - (double)(time_t)alone->every) * 1e9);
    until.tv_sec += (time_t)alone->every + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&alone->lock);
    while (!alone->over && pthread_cond_timedwait(&alone->end, &alone->lock, &until) == 0) {
    }
    bool over = alone->over;
    pthread_mutex_unlock(&alone->lock);
    return over;
}

static void *keep_saying(void *data) {
    struct dml_comm_alone *alone = data;
    while (!alone->status && !sleep_until_over(alone))
        alone->status = say(alone->comm, AT_WORK);
    if (alone->status)
        snprintf(alone->error, sizeof alone->error, "%s", dml_error());
    return NULL;
}

enum dml_status dml_comm_alone_begin(struct dml_comm *comm) {
    static const double OFTEN = 5;
    if (comm->size == 1 || comm->rank > 0)
        return DML_OK;
    struct dml_comm_alone *alone = dml_alloc(1, sizeof *alone);
    if (!alone)
        return DML_ERROR_MEMORY;
    *alone = (struct dml_comm_alone){.comm = comm,
                                     .every = comm->limit / 4 < OFTEN ? comm->limit / 4 : OFTEN};
    pthread_mutex_init(&alone->lock, NULL);
    pthread_cond_init(&alone->end, NULL);
    sigset_t all, before; /* signals are for this thread */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int reason = pthread_create(&alone->thread, NULL, keep_saying, alone);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!reason) {
        comm->alone = alone;
        return DML_OK;
    }
    free(alone);
    return dml_fail(DML_ERROR_IO, "cannot start a thread: %s", strerror(reason));
}

/* Ends the thread; returns the failure that it met, if any. */
static enum dml_status end_thread(struct dml_comm *comm) {
    struct dml_comm_alone *alone = comm->alone;
    pthread_mutex_lock(&alone->lock);
    alone->over = true;
    pthread_cond_signal(&alone->end);
    pthread_mutex_unlock(&alone->lock);
    pthread_join(alone->thread, NULL);
    pthread_cond_destroy(&alone->end);
    pthread_mutex_destroy(&alone->lock);
    enum dml_status status = alone->status;
    if (status)
        dml_fail(status, "%s", alone->error);
    free(alone);
    comm->alone = NULL;
    return status;
}

enum dml_status dml_comm_alone_end(struct dml_comm *comm, enum dml_status status) {
    if (comm->size == 1)
        return status;
    if (comm->rank == 0) {
        char *error = status ? dml_strdup(dml_error()) : NULL;
        enum dml_status met = comm->alone ? end_thread(comm) : DML_OK;
        if (error) /* its own failure comes first */
            dml_fail(status, "%s", error);
        free(error);
        return status ? status : met ? met : say(comm, OVER);
    }
    for (char said = AT_WORK; !status && said == AT_WORK;)
        status = dml_comm_exchange(comm, NULL, 0, &(struct dml_transfer){&said, 1, 0}, 1);
    return status;
}
