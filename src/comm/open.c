#include "base/files.h"
#include "base/level.h"
#include "base/memory.h"
#include "base/progress.h"
#include "comm/arrivals.h"
#include "comm/wait.h"
#include "dml/dml.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <omp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Finding the library of a transport, joining the ranks, and leaving them. */

void dml_comm_single(struct dml_comm *out) {
    *out = (struct dml_comm){.size = 1, .limit = INFINITY, .lost = -1, .errors = STDERR_FILENO};
}

/* Open MPI; Slurm's, MPICH's and other PMI. */
static const char *const names[][2] = {{"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"},
                                       {"PMI_SIZE", "PMI_RANK"},
                                       {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID"}};

void dml_comm_forget_start(void) {
    static const char *const beginnings[] = {"PMI_",           "PMIX_",        "OMPI_COMM_WORLD_",
                                             "OMPI_MCA_orte_", "OMPI_MCA_ess", "PRTE_"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        unsetenv(names[i][0]);
        unsetenv(names[i][1]);
    }
    for (size_t i = 0; environ && environ[i];) {
        char name[256];
        size_t length = strcspn(environ[i], "=");
        bool theirs = false;
        for (size_t b = 0; b < sizeof beginnings / sizeof *beginnings; b++)
            theirs = theirs || strncmp(environ[i], beginnings[b], strlen(beginnings[b])) == 0;
        snprintf(name, sizeof name, "%.*s", (int)length, environ[i]);
        if (!theirs || length >= sizeof name || unsetenv(name))
            i++;
    }
}

int dml_comm_started(int *rank) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *size = getenv(names[i][0]), *own = getenv(names[i][1]);
        if (!size || !own || atoi(size) < 1)
            continue;
        if (rank)
            *rank = atoi(own);
        return atoi(size);
    }
    if (rank)
        *rank = 0;
    return 1;
}

/* A thread that ends the process if MPI does not return in time, or if it is told to end meanwhile.
 */
struct guard {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t over;
    bool done;
    double limit;
    struct dml_comm *comm; /* joining others; NULL: leaving them, about which nothing is said */
    struct dml_arrivals *arrivals; /* who has come */
};

/* Waits for a moment, or less when it is over. */
static void guard_wait(struct guard *guard) {
    enum { LOOK_NS = 50000000 };
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += LOOK_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&guard->over, &guard->lock, &until);
}

/* Tells the user why the ranks are not joined: one has ended (`lost`), time is up (`late`), or this
 * one is being ended from outside, as by mpirun when it has lost a rank. */
static void tell_of_arrivals(const struct guard *guard, int lost, bool late) {
    const struct dml_comm *comm = guard->comm;
    char who[250], text[400], host[64] = "this machine";
    gethostname(host, sizeof host - 1);
    dml_arrivals_missing(guard->arrivals, who, sizeof who);
    if (lost >= 0)
        snprintf(text, sizeof text, "rank %d of %d is lost: its process %d on %s has ended", lost,
                 comm->size, guard->arrivals->pids[lost], host);
    else if (late)
        snprintf(text, sizeof text,
                 "not all of %d ranks have come within %.4g s (--rank_limit)%s%s", comm->size,
                 guard->limit, *who ? ": " : "", who);
    else
        snprintf(text, sizeof text,
                 "rank %d of %d is being ended from outside before all ranks have come: %s",
                 comm->rank, comm->size, *who ? who : "one of them may be lost");
    dprintf(comm->errors, "dml %s: %s\n", comm->command, text);
    dml_arrivals_told(guard->arrivals);
}

static void *watch(void *data) {
    struct guard *guard = data;
    double until = dml_now() + guard->limit;
    bool late = false, ended = false;
    int lost = -1;
    pthread_mutex_lock(&guard->lock);
    while (!guard->done && !late && !ended && lost < 0) {
        guard_wait(guard);
        late = dml_now() > until;
        ended = guard->comm && dml_comm_watch_ended();
        lost = guard->comm ? dml_arrivals_look(guard->arrivals) : -1;
    }
    if (!guard->done) {
        if (guard->comm && !dml_arrivals_speaks(guard->arrivals, lost))
            dml_arrivals_wait_for_speaker(guard->arrivals, lost);
        else if (guard->comm && !dml_comm_told())
            tell_of_arrivals(guard, lost, late);
        _exit(guard->comm ? 1 : 0);
    }
    pthread_mutex_unlock(&guard->lock);
    return NULL;
}

static bool guard_start(struct guard *guard) {
    pthread_mutex_init(&guard->lock, NULL);
    pthread_cond_init(&guard->over, NULL);
    return pthread_create(&guard->thread, NULL, watch, guard) == 0;
}

static void guard_end(struct guard *guard) {
    pthread_mutex_lock(&guard->lock);
    guard->done = true;
    pthread_cond_signal(&guard->over);
    pthread_mutex_unlock(&guard->lock);
    pthread_join(guard->thread, NULL);
    pthread_cond_destroy(&guard->over);
    pthread_mutex_destroy(&guard->lock);
}

/* Beside the program, where it is installed, and in $DML_BACKENDS. */
static void *open_library(char *reason, size_t size) {
    static const char *const places[] = {"", "../lib/dml", "../" DML_LIBRARY_PATH "/dml"};
    char self[4096];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[length > 0 ? length : 0] = 0;
    char *slash = strrchr(self, '/');
    if (slash)
        *slash = 0;
    snprintf(reason, size, "MPI was not found when it was built (make deps-mpi)");
    for (size_t i = 0; i <= sizeof places / sizeof *places; i++) {
        bool own = i < sizeof places / sizeof *places;
        const char *folder = own ? self : getenv("DML_BACKENDS");
        char *path =
            folder ? dml_format("%s/%s/libdml_mpi.so", folder, own ? places[i] : "") : NULL;
        void *library = NULL;
        if (path && dml_path_exists(path)) { /* MPI's own parts look for its symbols */
            library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
            const char *said = library ? NULL : dlerror();
            if (said)
                snprintf(reason, size, "%s", said);
        }
        free(path);
        if (library)
            return library;
    }
    return NULL;
}

static enum dml_status find_transport(int started, const struct dml_transport **out) {
    char reason[1024];
    void *library = open_library(reason, sizeof reason);
    *out = library ? dlsym(library, "dml_transport") : NULL;
    if (!library)
        return dml_fail(DML_ERROR_UNSUPPORTED,
                        "started as one of %d processes, and this build does not support several: "
                        "%s",
                        started, reason);
    if (!*out || (*out)->interface != DML_TRANSPORT_INTERFACE)
        return dml_fail(DML_ERROR_UNSUPPORTED,
                        "libdml_mpi.so has a different version from this program");
    return DML_OK;
}

/* One number for processes that see each other: the machine since it was booted, and the processes
 * that can be seen there. */
static uint64_t machine(void) {
    char boot[64], host[64] = "";
    struct stat processes = {0};
    dml_read_start("/proc/sys/kernel/random/boot_id", boot, sizeof boot);
    if (!*boot)
        gethostname(host, sizeof host - 1);
    if (stat("/proc/self/ns/pid", &processes))
        processes.st_ino = 0;
    uint64_t hash = 14695981039346656037u ^ (uint64_t)processes.st_ino;
    for (const char *texts[] = {boot, host, NULL}, **text = texts; *text; text++)
        for (const char *c = *text; *c; c++)
            hash = (hash ^ (unsigned char)*c) * 1099511628211u;
    return hash;
}

static enum dml_status introduce(struct dml_comm *comm, const struct dml_arrivals *arrivals) {
    struct dml_rank own = {
        .machine = machine(), .pid = (int32_t)getpid(), .threads = (int32_t)omp_get_max_threads()};
    snprintf(own.version, sizeof own.version, "%s", dml_version());
    snprintf(own.level, sizeof own.level, "%s", dml_level_name());
    if (gethostname(own.host, sizeof own.host - 1))
        snprintf(own.host, sizeof own.host, "unknown");
    comm->ranks = dml_alloc((size_t)comm->size, sizeof *comm->ranks);
    if (!comm->ranks)
        return DML_ERROR_MEMORY;
    for (int r = 0; r < comm->size; r++) { /* until they are known */
        comm->ranks[r] = (struct dml_rank){.host = "a machine not yet known"};
        if (r < arrivals->size && arrivals->pids && arrivals->pids[r]) {
            comm->ranks[r] = own;
            comm->ranks[r].pid = (int32_t)arrivals->pids[r];
        }
    }
    enum dml_status status = dml_comm_listen(comm);
    if (!status)
        status = dml_comm_allgather(comm, &own, sizeof own, comm->ranks);
    if (!status)
        status = dml_comm_watch_start(comm);
    for (int r = 0; !status && r < comm->rank; r++)
        comm->local_rank += comm->ranks[r].machine == own.machine;
    const struct dml_rank *first = comm->ranks;
    for (int r = 1; !status && r < comm->size; r++) {
        const struct dml_rank *other = &comm->ranks[r];
        if (strcmp(other->version, first->version) != 0)
            status = dml_fail(DML_ERROR_INPUT,
                              "rank %d (%s) is dml %s, rank 0 (%s) is dml %s: all ranks need the "
                              "same version",
                              r, other->host, other->version, first->host, first->version);
        else if (strcmp(other->level, first->level) != 0)
            status = dml_fail(DML_ERROR_INPUT,
                              "rank %d (%s) has kernels for %s, rank 0 (%s) for %s: set DML_LEVEL "
                              "to the lower of them on all ranks",
                              r, other->host, other->level, first->host, first->level);
    }
    return status;
}

/* Ranks other than 0 are silent. */
static void hush(struct dml_comm *comm) {
    int none = open("/dev/null", O_WRONLY | O_CLOEXEC);
    comm->errors = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    if (none < 0 || comm->rank == 0)
        return;
    fflush(NULL);
    dup2(none, STDOUT_FILENO);
    dup2(none, STDERR_FILENO);
    close(none);
}

/* MPI joins the ranks; meanwhile the user is told whatever is known of those that do not come. */
static const char *join(struct dml_comm *comm, double limit, struct dml_arrivals *arrivals) {
    struct guard guard = {.limit = limit, .comm = comm, .arrivals = arrivals};
    int rank, size;
    bool guarded = guard_start(&guard);
    const char *error = comm->transport->open(&rank, &size);
    if (guarded)
        guard_end(&guard);
    if (!error) {
        comm->rank = rank;
        comm->size = size;
    }
    return error;
}

enum dml_status dml_comm_open(const char *command, double limit, struct dml_comm *out) {
    static const double JOINING = 20; /* seconds: processes do not all start at the same time */
    int rank, started = dml_comm_started(&rank);
    dml_comm_single(out);
    out->command = command;
    if (started == 1)
        return DML_OK;
    out->rank = rank;
    hush(out);
    struct dml_arrivals arrivals;
    const struct dml_transport *transport;
    enum dml_status status = find_transport(started, &transport);
    if (status)
        return status;
    out->transport = transport;
    dml_comm_watch_listen();
    dml_arrivals_open(rank, started, &arrivals);
    out->size = started;
    out->limit = limit > JOINING ? limit : JOINING;
    const char *error = join(out, out->limit, &arrivals);
    if (error) {
        out->transport = NULL;
        status = dml_fail(DML_ERROR_IO, "MPI: %s", error);
    } else if (out->size == 1)
        status = dml_fail(DML_ERROR_UNSUPPORTED,
                          "started as one of %d processes that MPI (%s) does not join: start them "
                          "with its own mpirun, or with srun --mpi=pmix",
                          started, out->transport->version());
    if (status) {
        out->size = 1;
        out->rank = rank;
    } else {
        status = introduce(out, &arrivals);
        out->limit = limit;
    }
    dml_arrivals_close(&arrivals);
    return status;
}

/* Others may still have to tell the user why: mpirun ends them once this process has ended. */
static void wait_for_speaker(const struct dml_comm *comm) {
    int speaker = dml_comm_speaker(comm);
    for (double until = dml_now() + 3;
         dml_now() < until && !dml_comm_told() && !dml_comm_ended(comm, speaker);)
        nanosleep(&(struct timespec){0, 20000000}, NULL);
}

void dml_comm_close(struct dml_comm *comm, int exit_status) {
    if (exit_status && comm->size > 1) {
        if (comm->lost < 0)
            dml_comm_part(comm);
        else if (comm->rank != dml_comm_speaker(comm))
            wait_for_speaker(comm);
        fflush(NULL);
        _exit(exit_status);
    }
    dml_comm_watch_end(comm);
    if (comm->transport) {
        struct guard guard = {.limit = comm->limit};
        bool guarded = guard_start(&guard);
        fflush(NULL);
        dml_comm_deafen(comm);
        comm->transport->close();
        if (guarded)
            guard_end(&guard);
    }
    dml_comm_sums_free(comm);
    free(comm->ranks);
    dml_comm_single(comm);
}
