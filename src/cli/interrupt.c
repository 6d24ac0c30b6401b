#include "cli/interrupt.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted, since;
static const char *told;

static void on_interrupt(int signal_number) {
    struct timespec now; /* timeout(1) and terminals may send one signal twice at once */
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (interrupted && now.tv_sec - since > 1)
        _exit(128 + signal_number);
    if (interrupted)
        return;
    interrupted = 1;
    since = (sig_atomic_t)now.tv_sec;
    ssize_t shown = told ? write(STDERR_FILENO, told, strlen(told)) : 0;
    (void)shown; /* a terminal that is gone shows nothing */
}

volatile sig_atomic_t *dml_cli_catch_interrupts(const char *text) {
    struct sigaction action = {.sa_handler = on_interrupt}, before;
    told = text;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL); /* from Slurm, and to ranks from mpirun */
    if (sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler != SIG_IGN) /* as under nohup */
        sigaction(SIGHUP, &action, NULL);
    return &interrupted;
}
