#include "base/files.h"
#include "base/lock.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/progress.h"
#include "base/text.h"
#include "comm/comm.h"
#include "sweep/sweep.h"
#include "tracking/database.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Every run is a `dml train` of this very program, with all its output in a log of its own. */

enum { MAX_JOBS = 256 };

struct job {
    pid_t child; /* 0: free */
    struct dml_sweep_run *run;
    struct dml_lock claim; /* on the run, against other processes */
    double started;
};

struct execution {
    struct dml_sweep *sweep;
    sqlite3 *db;
    char *folder; /* of the logs and claims */
    struct job jobs[MAX_JOBS];
    size_t running, done, total;
    long slots;
    bool passed_on; /* Ctrl-C, to the runs */
};

static enum dml_status note(struct execution *execution, const struct dml_sweep_run *run,
                            const char *word) {
    char now[DML_TIME_SIZE];
    dml_database_now(now);
    return dml_database_run(
        execution->db,
        "INSERT INTO sweep_runs (sweep, flags, line, status, error, log, started, ended)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, NULL) ON CONFLICT (sweep, flags) DO UPDATE SET"
        " line = ?3, status = ?4, error = ?5, log = ?6,"
        " started = CASE WHEN ?4 = 'running' THEN ?7 ELSE started END,"
        " ended = CASE WHEN ?4 = 'running' THEN NULL ELSE ?7 END",
        "ssissss", execution->sweep->name, run->flags, (int64_t)run->line, word, run->error,
        run->log, now);
}

/* In the child: signals as usual, output to the log, and it ends when the parent does. */
static void become_run(const struct dml_sweep_run *run, int claim, pid_t parent, long jobs) {
    char threads[32];
    char **argv = calloc((size_t)run->argc + 3, sizeof *argv);
    int log = open(run->log, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK, 0666);
    int nothing = open("/dev/null", O_RDONLY);
    if (!argv || log < 0 || nothing < 0)
        _exit(126);
    argv[0] = "dml";
    argv[1] = "train";
    memcpy(argv + 2, run->argv, (size_t)run->argc * sizeof *argv);
    dup2(nothing, STDIN_FILENO);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    fcntl(claim, F_SETFD, 0); /* until it has ended, even if the sweep ends first */
    setpgid(0, 0);            /* Ctrl-C reaches it through the sweep, once */
    prctl(PR_SET_PDEATHSIG, SIGINT);
    if (getppid() != parent)
        _exit(125);
    long share = sysconf(_SC_NPROCESSORS_ONLN) / jobs;
    snprintf(threads, sizeof threads, "%ld", share > 1 ? share : 1);
    if (jobs > 1)
        setenv("OMP_NUM_THREADS", threads, 0);
    dml_comm_forget_start();
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    execv("/proc/self/exe", argv);
    _exit(127);
}

/* The file held by whoever works on a run, named by a hash (FNV-1a) of its flags. */
static char *claim_path(const struct execution *execution, const struct dml_sweep_run *run) {
    uint64_t hash = 14695981039346656037u;
    for (const char *c = run->flags; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 1099511628211u;
    return dml_format("%s/%016llx.lock", execution->folder, (unsigned long long)hash);
}

/* Takes a run for this process. claim->fd stays -1 if another one is working on it, or has done so:
 * then its state is what the other one left. */
static enum dml_status take(struct execution *execution, struct dml_sweep_run *run,
                            struct dml_lock *claim) {
    *claim = (struct dml_lock){.fd = -1};
    char *path = claim_path(execution, run);
    char *before = dml_strdup(run->noted ? run->noted : "");
    enum dml_status status = path && before ? DML_OK : DML_ERROR_MEMORY;
    bool unsure, elsewhere = !status && dml_lock_held(path, &unsure);
    if (!status && !elsewhere) {
        status = dml_lock_take(path, claim);
        elsewhere = status && dml_lock_held(path, &unsure); /* since this very moment */
    }
    if (elsewhere) {
        run->state = DML_SWEEP_RUNNING;
        status = DML_OK;
    }
    free(path);
    if (!status && !elsewhere)
        status = dml_sweep_look_up(execution->sweep);
    if (!status && !elsewhere &&
        (run->state == DML_SWEEP_FINISHED ||
         (run->state == DML_SWEEP_FAILED && strcmp(before, run->noted) != 0))) {
        dml_lock_release(claim);
        execution->done++;
        dml_inform("%-9s line %zu, by another process (%zu of %zu)",
                   dml_sweep_state_name(run->state), run->line, execution->done, execution->total);
    }
    free(before);
    return status;
}

static enum dml_status start(struct execution *execution, struct dml_sweep_run *run,
                             struct dml_lock claim) {
    struct job *job = execution->jobs;
    while (job->child)
        job++;
    free(run->error);
    free(run->log);
    run->error = NULL;
    run->log =
        dml_format("%s/%04zu.log", execution->folder, (size_t)(run - execution->sweep->runs) + 1);
    enum dml_status status = run->log ? note(execution, run, "running") : DML_ERROR_MEMORY;
    if (status) {
        dml_lock_release(&claim);
        return status;
    }
    fflush(stdout);
    pid_t parent = getpid(), child = fork();
    if (child < 0) {
        status = dml_fail(DML_ERROR_IO, "a run cannot be started: %s", strerror(errno));
        dml_lock_release(&claim);
        return status;
    }
    if (child == 0)
        become_run(run, claim.fd, parent, execution->slots);
    *job = (struct job){.child = child, .run = run, .claim = claim, .started = dml_now()};
    run->state = DML_SWEEP_RUNNING;
    execution->running++;
    char *label = dml_text_line(run->label);
    dml_inform("started   line %zu: %s", run->line, label ? label : "");
    free(label);
    return DML_OK;
}

/* The last line of a log that says something, without "dml train: " before it. */
static char *last_words(const char *path) {
    char *text = NULL;
    if (dml_read_file(path, &text, NULL) != DML_OK)
        return dml_strdup("it left no message");
    size_t end = strlen(text);
    while (end > 0 && strchr("\n\r \t", text[end - 1]))
        text[--end] = 0;
    char *line = text + end;
    while (line > text && line[-1] != '\n' && line[-1] != '\r')
        line--;
    if (strncmp(line, "dml train: ", 11) == 0)
        line += 11;
    char *words = dml_strdup(*line ? line : "it left no message");
    free(text);
    return words;
}

static enum dml_status finish(struct execution *execution, struct job *job, int code) {
    struct dml_sweep_run *run = job->run;
    double seconds = dml_now() - job->started;
    job->child = 0;
    execution->running--;
    if (WIFEXITED(code) && WEXITSTATUS(code) == 0) {
        run->state = DML_SWEEP_FINISHED;
    } else if (execution->passed_on) {
        run->state = DML_SWEEP_WAITING;
    } else {
        run->state = DML_SWEEP_FAILED;
        run->error = WIFSIGNALED(code) ? dml_format("killed by signal %d (%s)", WTERMSIG(code),
                                                    strsignal(WTERMSIG(code)))
                                       : last_words(run->log);
    }
    execution->done++;
    char *error = run->error ? dml_text_line(run->error) : NULL;
    dml_inform("%-9s line %zu after %.0f s (%zu of %zu)%s%s",
               run->state == DML_SWEEP_WAITING ? "stopped" : dml_sweep_state_name(run->state),
               run->line, seconds, execution->done, execution->total, error ? ": " : "",
               error ? error : "");
    free(error);
    enum dml_status status =
        note(execution, run,
             run->state == DML_SWEEP_WAITING ? "interrupted" : dml_sweep_state_name(run->state));
    dml_lock_release(&job->claim); /* whoever takes it now sees that */
    return status;
}

/* Waits for the end of one run; passes Ctrl-C on to all. */
static enum dml_status wait_for_one(struct execution *execution, volatile sig_atomic_t *stop) {
    for (;;) {
        int code;
        if (*stop && !execution->passed_on) {
            execution->passed_on = true;
            for (int i = 0; i < MAX_JOBS; i++)
                if (execution->jobs[i].child)
                    kill(execution->jobs[i].child, SIGINT);
        }
        pid_t ended = waitpid(-1, &code, WNOHANG);
        for (int i = 0; i < MAX_JOBS && ended > 0; i++)
            if (execution->jobs[i].child == ended)
                return finish(execution, &execution->jobs[i], code);
        if (ended < 0 && errno != EINTR)
            return dml_fail(DML_ERROR_IO, "waiting for a run: %s", strerror(errno));
        usleep(50000);
    }
}

static bool is_due(const struct dml_sweep_run *run, bool retry) {
    return run->state == DML_SWEEP_WAITING || run->state == DML_SWEEP_RUNNING ||
           (retry && run->state == DML_SWEEP_FAILED);
}

/* Starts the first run that is due and not taken elsewhere; NULL: there is none. `over` marks those
 * that this process is done with. */
static enum dml_status start_next(struct execution *execution, bool retry, bool *over,
                                  struct dml_sweep_run **out) {
    struct dml_sweep *sweep = execution->sweep;
    enum dml_status status = DML_OK;
    *out = NULL;
    for (size_t i = 0; i < sweep->count && !status && !*out; i++) {
        struct dml_lock claim;
        if (over[i] || !is_due(&sweep->runs[i], retry))
            continue;
        status = take(execution, &sweep->runs[i], &claim);
        if (status || claim.fd < 0)
            continue;
        over[i] = true;
        status = start(execution, &sweep->runs[i], claim);
        *out = &sweep->runs[i];
    }
    return status;
}

static enum dml_status run_all(struct execution *execution, bool retry,
                               volatile sig_atomic_t *stop) {
    struct dml_sweep *sweep = execution->sweep;
    struct dml_sweep_run *started = NULL;
    bool *over = dml_alloc(sweep->count, sizeof *over);
    enum dml_status status = over ? DML_OK : DML_ERROR_MEMORY;
    for (size_t i = 0; i < sweep->count; i++)
        execution->total += is_due(&sweep->runs[i], retry);
    do {
        while (!status && (long)execution->running >= execution->slots)
            status = wait_for_one(execution, stop);
        if (!status && !*stop)
            status = start_next(execution, retry, over, &started);
        /* one that another process leaves behind may be due once one of these has ended */
        if (!status && !*stop && !started && execution->running > 0)
            status = wait_for_one(execution, stop);
    } while (!status && !*stop && (started || execution->running > 0));
    while (execution->running > 0) {
        enum dml_status waited = wait_for_one(execution, stop);
        status = status ? status : waited;
        if (waited)
            break;
    }
    free(over);
    return status;
}

enum dml_status dml_sweep_execute(struct dml_sweep *sweep, long jobs, bool retry,
                                  volatile sig_atomic_t *stop) {
    struct execution *execution = dml_alloc(1, sizeof *execution);
    if (!execution)
        return DML_ERROR_MEMORY;
    execution->sweep = sweep;
    execution->slots = jobs < 1 ? 1 : jobs > MAX_JOBS ? MAX_JOBS : jobs;
    execution->folder = dml_format("%s/sweeps/%s", sweep->save_path, sweep->name);
    enum dml_status status =
        execution->folder ? dml_make_folders(execution->folder) : DML_ERROR_MEMORY;
    if (!status)
        status = dml_database_open(sweep->save_path, true, 60000, &execution->db);
    if (!status)
        status = run_all(execution, retry, stop);
    sqlite3_close_v2(execution->db);
    free(execution->folder);
    free(execution);
    return status;
}
