#include "base/memory.h"
#include "comm/wait.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_MS = 50 }; /* between two looks */

/* mpirun ends all ranks a second or two after it has lost one, and a step may take longer: so a
 * thread watches the others, and tells the user at once. It also watches this rank's own calls of
 * MPI: one in which a connection breaks may never return (Open MPI 4.1 waits for its own lock). */
struct dml_comm_watch {
    pthread_t thread;
    atomic_int lost; /* -1: none */
    atomic_int call; /* whom MPI is being called for; OUTSIDE: it is not being called */
    atomic_uint calls;
    atomic_bool over;
};

enum { OUTSIDE = -2 };

/* Set by SIGUSR2, which a rank that has told the user sends to those on its machine: they have
 * nothing to add, least of all that its process has ended. */
static volatile sig_atomic_t told;

/* SIGTERM, with which mpirun ends the ranks that are left, a second before it kills them. */
static volatile sig_atomic_t ended;
static struct sigaction before_ended;

static void on_ended(int number) {
    ended = 1;
    if (before_ended.sa_handler != SIG_IGN && before_ended.sa_handler != SIG_DFL)
        before_ended.sa_handler(number);
    if (before_ended.sa_handler == SIG_DFL)
        _exit(128 + number);
}

static void on_told(int number) {
    (void)number;
    told = 1;
}

/* The signal may have come while the thread that it is for waits for a core. */
static bool has_been_told(void) {
    sigset_t pending;
    sigemptyset(&pending);
    sigpending(&pending);
    return told || sigismember(&pending, SIGUSR2);
}

enum dml_process_state dml_comm_process_state(int pid) {
    if (kill(pid, 0) < 0)
        return errno == ESRCH ? DML_PROCESS_ENDED : DML_PROCESS_RUNS;
    char path[40], line[256], state = 'R';
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (file && fgets(line, sizeof line, file) && strrchr(line, ')'))
        sscanf(strrchr(line, ')') + 1, " %c", &state);
    if (file)
        fclose(file);
    if (state == 'Z' || state == 'X')
        return DML_PROCESS_ENDED;
    return state == 'T' ? DML_PROCESS_STOPPED : DML_PROCESS_RUNS;
}

bool dml_comm_ended(const struct dml_comm *comm, int rank) {
    const struct dml_rank *other = &comm->ranks[rank];
    return other->machine == comm->ranks[comm->rank].machine &&
           dml_comm_process_state(other->pid) == DML_PROCESS_ENDED;
}

static void describe(const struct dml_comm *comm, int rank) {
    dml_fail(DML_ERROR_IO, "rank %d of %d is lost: its process %d on %s has ended", rank,
             comm->size, (int)comm->ranks[rank].pid, comm->ranks[rank].host);
}

static int speaker(int lost) {
    return lost == 0 ? 1 : 0;
}

int dml_comm_speaker(const struct dml_comm *comm) {
    return speaker(comm->lost);
}

/* One line is all that a run says of its end, by whichever thread. */
static atomic_flag telling = ATOMIC_FLAG_INIT;

static void tell(const struct dml_comm *comm, int lost) {
    if (comm->rank != speaker(lost) || has_been_told() || atomic_flag_test_and_set(&telling))
        return;
    dprintf(comm->errors, "dml %s: %s\n", comm->command, dml_error());
    for (int r = 0; comm->watch && r < comm->size; r++)
        if (r != comm->rank && comm->ranks[r].machine == comm->ranks[comm->rank].machine)
            kill(comm->ranks[r].pid, SIGUSR2);
}

void dml_comm_watch_listen(void) {
    sigaction(SIGUSR2, &(struct sigaction){.sa_handler = on_told}, NULL);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = on_ended}, &before_ended);
}

bool dml_comm_watch_ended(void) {
    return ended;
}

void dml_comm_tell_of_end(const struct dml_comm *comm, int rank) {
    const struct dml_rank *other = &comm->ranks[rank];
    if (!ended || other->machine == comm->ranks[comm->rank].machine ||
        comm->rank != speaker(rank) || atomic_flag_test_and_set(&telling))
        return;
    dprintf(
        comm->errors,
        "dml %s: this run is being ended from outside while rank %d of %d, process %d on %s, does "
        "not answer: it may be lost\n",
        comm->command, rank, comm->size, (int)other->pid, other->host);
}

bool dml_comm_told(void) {
    return has_been_told();
}

void dml_comm_tell(struct dml_comm *comm) {
    fflush(stdout); /* in a file that takes both, the message comes last */
    tell(comm, comm->lost);
}

static void look_away(void) {
    nanosleep(&(struct timespec){0, LOOK_MS * 1000000L}, NULL);
}

void dml_comm_enter(struct dml_comm *comm, int rank) {
    if (!comm->watch)
        return;
    atomic_fetch_add(&comm->watch->calls, 1);
    atomic_store(&comm->watch->call, rank);
}

void dml_comm_leave(struct dml_comm *comm) {
    if (comm->watch)
        atomic_store(&comm->watch->call, OUTSIDE);
}

/* A call of MPI that has not returned, as far as `watch` has seen. */
struct stuck {
    unsigned call;
    unsigned looks;
};

/* Tells of a call that does not return, and ends the process if it never does. The others name this
 * rank before: one that is late by the limit, and then waits for as long, is ahead of it. */
static void look_at_call(struct dml_comm *comm, struct stuck *stuck) {
    static const double SECONDS = 0.5, MORE = 2;
    unsigned call = atomic_load(&comm->watch->calls);
    int rank = atomic_load(&comm->watch->call);
    if (rank == OUTSIDE || call != stuck->call) {
        *stuck = (struct stuck){.call = call};
        return;
    }
    /* not by the clock, so that time during which all were suspended is not in it */
    double passed = ++stuck->looks * (LOOK_MS / 1000.0);
    rank = rank >= 0 ? rank : comm->rank == 0;
    if (passed > SECONDS)
        dml_comm_tell_of_end(comm, rank);
    if (passed < 2 * comm->limit + MORE)
        return;
    dml_fail(DML_ERROR_IO,
             "rank %d of %d is lost: a call of MPI for its process %d on %s has not returned for "
             "%.4g s, twice --rank_limit",
             rank, comm->size, (int)comm->ranks[rank].pid, comm->ranks[rank].host, passed);
    tell(comm, rank);
    _exit(1);
}

static void *watch(void *data) {
    struct dml_comm *comm = data;
    struct dml_comm_watch *own = comm->watch;
    sigset_t blocked; /* so that this thread sees it pending */
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &blocked, NULL);
    struct stuck stuck = {0};
    while (!atomic_load(&own->over)) {
        look_away();
        look_at_call(comm, &stuck);
        for (int r = 0; r < comm->size && atomic_load(&own->lost) < 0; r++) {
            if (r == comm->rank || !dml_comm_ended(comm, r) || atomic_load(&own->over))
                continue;
            look_away(); /* it may just have reported it */
            if (atomic_load(&own->over))
                return NULL;
            atomic_store(&own->lost, r);
            describe(comm, r);
            tell(comm, r);
        }
    }
    return NULL;
}

enum dml_status dml_comm_watch_start(struct dml_comm *comm) {
    comm->watch = dml_alloc(1, sizeof *comm->watch);
    if (!comm->watch)
        return DML_ERROR_MEMORY;
    atomic_init(&comm->watch->lost, -1);
    atomic_init(&comm->watch->call, OUTSIDE);
    int reason = pthread_create(&comm->watch->thread, NULL, watch, comm);
    if (!reason)
        return DML_OK;
    free(comm->watch);
    comm->watch = NULL;
    return dml_fail(DML_ERROR_IO, "cannot start a thread: %s", strerror(reason));
}

void dml_comm_watch_end(struct dml_comm *comm) {
    if (!comm->watch)
        return;
    atomic_store(&comm->watch->over, true);
    pthread_join(comm->watch->thread, NULL);
    free(comm->watch);
    comm->watch = NULL;
}

int dml_comm_watch_lost(struct dml_comm *comm) {
    int lost = comm->watch ? atomic_load(&comm->watch->lost) : -1;
    for (int r = 0; lost < 0 && r < comm->size; r++)
        if (r != comm->rank && dml_comm_ended(comm, r))
            lost = r;
    if (lost >= 0)
        describe(comm, lost);
    return lost;
}
