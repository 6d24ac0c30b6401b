#include "comm/arrivals.h"

#include "base/memory.h"
#include "base/progress.h"
#include "comm/wait.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* A name for the job that all its ranks agree on: Open MPI's, Slurm's, or their common parent. */
static void name_job(char *out, size_t size) {
    const char *space = getenv("PMIX_NAMESPACE"), *job = getenv("SLURM_JOB_ID");
    const char *step = getenv("SLURM_STEP_ID");
    if (space)
        snprintf(out, size, "%.60s", space);
    else if (job && step)
        snprintf(out, size, "%.30s.%.30s", job, step);
    else
        snprintf(out, size, "%d", (int)getppid());
}

/* A name without a file: its first byte is 0. */
static socklen_t address_of(const struct dml_arrivals *a, int rank, struct sockaddr_un *out) {
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    int length = snprintf(out->sun_path + 1, sizeof out->sun_path - 1, "dml:%u:%s:%d",
                          (unsigned)getuid(), a->job, rank);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

/* The process at the other end, if it is this user's; 0: none is seen. */
static int process_at(int end) {
    struct ucred who = {0};
    socklen_t size = sizeof who;
    bool found = getsockopt(end, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0;
    return found && who.uid == getuid() ? (int)who.pid : 0;
}

static int connect_to(const struct dml_arrivals *a, int rank) {
    struct sockaddr_un address;
    socklen_t length = address_of(a, rank, &address);
    int end = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (end >= 0 && connect(end, (struct sockaddr *)&address, length)) {
        close(end);
        end = -1;
    }
    return end;
}

/* Tells those that are here who has come, and sees who they are. */
static void call_at_others(struct dml_arrivals *a) {
    for (int r = 0; r < a->size; r++) {
        int end = r == a->rank ? -1 : connect_to(a, r);
        if (end < 0)
            continue;
        if (send(end, &a->rank, sizeof a->rank, MSG_NOSIGNAL) == sizeof a->rank)
            a->pids[r] = process_at(end);
        close(end);
    }
}

void dml_arrivals_open(int rank, int size, struct dml_arrivals *out) {
    struct sockaddr_un address;
    *out = (struct dml_arrivals){.rank = rank, .size = size, .socket = -1};
    name_job(out->job, sizeof out->job);
    out->pids = calloc((size_t)size, sizeof *out->pids);
    if (!out->pids)
        return;
    out->pids[rank] = (int)getpid();
    out->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t length = address_of(out, rank, &address);
    if (out->socket >= 0 &&
        (bind(out->socket, (struct sockaddr *)&address, length) || listen(out->socket, size))) {
        close(out->socket);
        out->socket = -1;
    }
    if (out->socket >= 0)
        call_at_others(out);
}

void dml_arrivals_close(struct dml_arrivals *a) {
    if (a->socket >= 0)
        close(a->socket);
    free(a->pids);
    *a = (struct dml_arrivals){.socket = -1};
}

static void see_callers(struct dml_arrivals *a) {
    for (int end; (end = accept4(a->socket, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0;) {
        int rank = -1;
        ssize_t got = recv(end, &rank, sizeof rank, 0);
        if (got == sizeof rank && rank >= 0 && rank < a->size && !a->pids[rank])
            a->pids[rank] = process_at(end);
        close(end);
    }
}

int dml_arrivals_look(struct dml_arrivals *a) {
    if (a->socket < 0)
        return -1;
    see_callers(a);
    for (int r = 0; r < a->size; r++)
        if (a->pids[r] && dml_comm_process_state(a->pids[r]) == DML_PROCESS_ENDED)
            return r;
    return -1;
}

void dml_arrivals_told(const struct dml_arrivals *a) {
    for (int r = 0; a->socket >= 0 && r < a->size; r++)
        if (r != a->rank && a->pids[r])
            kill(a->pids[r], SIGUSR2);
}

static int speaker(const struct dml_arrivals *a, int lost) {
    for (int r = 0; a->socket >= 0 && r < a->rank; r++)
        if (r != lost && a->pids[r] && dml_comm_process_state(a->pids[r]) == DML_PROCESS_RUNS)
            return r;
    return a->rank;
}

bool dml_arrivals_speaks(const struct dml_arrivals *a, int lost) {
    return speaker(a, lost) == a->rank;
}

void dml_arrivals_wait_for_speaker(const struct dml_arrivals *a, int lost) {
    static const double SECONDS = 3;
    int rank = speaker(a, lost);
    for (double until = dml_now() + SECONDS;
         dml_now() < until && dml_comm_process_state(a->pids[rank]) != DML_PROCESS_ENDED;)
        nanosleep(&(struct timespec){0, 20000000}, NULL);
}

static bool is_stopped(const struct dml_arrivals *a, int rank) {
    return a->pids[rank] && dml_comm_process_state(a->pids[rank]) == DML_PROCESS_STOPPED;
}

void dml_arrivals_missing(const struct dml_arrivals *a, char *text, size_t size) {
    enum { SHOWN = 8 };
    char list[SHOWN * 12] = "", more[32] = "", host[64] = "this machine";
    int count = 0, at = 0;
    bool stopped = false;
    for (int r = 0; a->socket >= 0 && r < a->size; r++)
        stopped = stopped || is_stopped(a, r);
    for (int r = 0; a->socket >= 0 && r < a->size; r++)
        if ((stopped ? is_stopped(a, r) : !a->pids[r]) && count++ < SHOWN)
            at += snprintf(list + at, sizeof list - (size_t)at, "%s %d", count > 1 ? "," : "", r);
    if (count > SHOWN)
        snprintf(more, sizeof more, " and %d more", count - SHOWN);
    gethostname(host, sizeof host - 1);
    *text = 0;
    if (count > 0 && stopped)
        snprintf(text, size, "rank%s%s%s %s stopped", count > 1 ? "s" : "", list, more,
                 count > 1 ? "are" : "is");
    else if (count > 0)
        snprintf(text, size, "rank%s%s%s %s not seen on %s", count > 1 ? "s" : "", list, more,
                 count > 1 ? "were" : "was", host);
}
