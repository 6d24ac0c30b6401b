#include "comm/comm.h"

#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <omp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t signals; /* that came for the ranks */

static void on_signal(int number) {
    (void)number;
    signals++;
}

/* What mpirun is asked for through its environment, which Open MPI 4 and 5 and others understand or
 * ignore: one machine without a network between ranks, more ranks than cores, ranks not bound to
 * cores, no complaints about what a container lacks, no long help text when a rank fails, which
 * reports it itself (Open MPI 5 prints it all the same). */
static void set_environment(int ranks) {
    static const char *const settings[][2] = {
        {"OMPI_MCA_plm", "isolated"},
        {"OMPI_MCA_rmaps_base_oversubscribe", "1"},
        {"PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe"},
        {"OMPI_MCA_hwloc_base_binding_policy", "none"},
        {"PRTE_MCA_hwloc_default_binding_policy", "none"},
        {"OMPI_MCA_orte_execute_quiet", "1"},
        {"OMPI_MCA_btl_base_warn_component_unused", "0"},
        {"OMPI_MCA_btl", "^tcp"},
        {"HWLOC_HIDE_ERRORS", "2"},
    };
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        setenv(settings[i][0], settings[i][1], 0);
    if (geteuid() == 0) { /* as in a container */
        setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 0);
        setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 0);
    }
    char threads[16];
    int share = omp_get_num_procs() / ranks;
    snprintf(threads, sizeof threads, "%d", share > 1 ? share : 1);
    setenv("OMP_NUM_THREADS", threads, 0);
}

/* In the child. `failed` closes by itself when mpirun takes its place. */
static void become_mpirun(int ranks, char **argv, pid_t parent, int failed) {
    char self[4096], number[16];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    size_t count = 0;
    while (argv[count])
        count++;
    const char **line = calloc(count + 8, sizeof *line);
    size_t at = 0;
    int reason = line && length > 0 ? 0 : ENOMEM;
    if (!reason) {
        self[length] = 0;
        snprintf(number, sizeof number, "%d", ranks);
        line[at++] = "mpirun";
        line[at++] = "-n";
        line[at++] = number;
        line[at++] = self;
        for (size_t i = 0; i < count; i++)
            line[at++] = argv[i];
        set_environment(ranks);
        setpgid(0, 0); /* a terminal's Ctrl-C is for the parent alone */
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        int none = open("/dev/null", O_RDONLY);
        if (none >= 0)
            dup2(none, STDIN_FILENO);
        if (getppid() == parent)
            execvp("mpirun", (char *const *)line);
        reason = errno;
    }
    ssize_t written = write(failed, &reason, sizeof reason);
    _exit(written == sizeof reason ? 127 : 126);
}

/* The first signal asks the ranks to stop after their step, a later one ends them. */
static int wait_and_pass_on(pid_t child, const char *told) {
    int state = 0, passed = 0;
    sigset_t blocked, before;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGINT);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGHUP);
    sigaddset(&blocked, SIGUSR1);
    sigaddset(&blocked, SIGCHLD);
    sigprocmask(SIG_BLOCK, &blocked, &before);
    while (waitpid(child, &state, WNOHANG) == 0) {
        sigsuspend(&before);
        for (; passed < signals; passed++) {
            if (passed == 0)
                fputs(told, stderr);
            kill(child, passed ? SIGTERM : SIGUSR1);
        }
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    int code = WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
    return code > 2 && !passed ? 1 : code; /* of a rank that was lost, which has been reported */
}

static void on_child(int number) {
    (void)number;
}

enum dml_status dml_comm_launch(int ranks, char **argv, const char *told, int *exit_status) {
    int ends[2], reason = 0;
    if (pipe2(ends, O_CLOEXEC))
        return dml_fail(DML_ERROR_IO, "--ranks %d: %s", ranks, strerror(errno));
    struct sigaction action = {.sa_handler = on_signal}, before;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL); /* from Slurm */
    if (sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
        sigaction(SIGHUP, &action, NULL);
    action.sa_handler = on_child;
    sigaction(SIGCHLD, &action, NULL);
    fflush(NULL);
    pid_t parent = getpid(), child = fork();
    if (child == 0)
        become_mpirun(ranks, argv, parent, ends[1]);
    close(ends[1]);
    ssize_t failed = child > 0 ? read(ends[0], &reason, sizeof reason) : 0;
    close(ends[0]);
    if (child < 0)
        return dml_fail(DML_ERROR_IO, "--ranks %d: %s", ranks, strerror(errno));
    *exit_status = wait_and_pass_on(child, told);
    if (failed == sizeof reason)
        return dml_fail(DML_ERROR_UNSUPPORTED,
                        "--ranks %d: mpirun cannot be started: %s (make deps-mpi installs it)",
                        ranks, strerror(reason));
    return DML_OK;
}
