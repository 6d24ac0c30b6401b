#include "tracking/process.h"

#include "base/progress.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { NICENESS = 10 };

/* posix_spawn does not copy the page tables of a large training process, as fork would. */
enum dml_status dml_process_start(const char *const *command, const char *folder, const char *log,
                                  pid_t *child) {
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none, defaults;
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attributes);
    sigemptyset(&none);
    sigfillset(&defaults);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                              POSIX_SPAWN_SETSIGDEF);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, log ? log : "/dev/null",
                                     O_WRONLY | O_CREAT | O_TRUNC | (log ? O_NOFOLLOW : 0), 0666);
    if (folder) /* after the log, whose path is seen from here */
        posix_spawn_file_actions_addchdir_np(&files, folder);
    posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO);
    int code =
        posix_spawnp(child, command[0], &files, &attributes, (char *const *)command, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    if (code != 0 && log)
        unlink(log); /* nothing ran that could have said something */
    if (code == ENOENT)
        return dml_fail(DML_ERROR_UNSUPPORTED, "%s: is not installed", command[0]);
    if (code != 0)
        return dml_fail(DML_ERROR_IO, "%s: cannot be started: %s", command[0], strerror(code));
    setpriority(PRIO_PROCESS, (id_t)*child, NICENESS);
    return DML_OK;
}

bool dml_process_ended(pid_t child, double seconds, bool *failed) {
    double until = dml_now() + seconds;
    for (;;) {
        int status;
        pid_t ended = waitpid(child, &status, WNOHANG);
        if (ended == child || (ended < 0 && errno != EINTR)) {
            *failed = ended < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0;
            return true;
        }
        if (dml_now() >= until)
            return false;
        usleep(20000);
    }
}

void dml_process_kill(pid_t child) {
    kill(child, SIGKILL);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        ;
}
