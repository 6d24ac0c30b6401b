#ifndef DML_SWEEP_SWEEP_H
#define DML_SWEEP_SWEEP_H

#include "dml/error.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

/* A study as a text file of runs. Every line holds the flags of a run, with or without "dml train"
 * or "python main.py" before it; # begins a comment, a backslash at the end continues on the next
 * line, quotes are a shell's, $NAME is an environment variable, and a line that begins with three
 * double quotes is a heading (the study's run script has some).
 *
 * Lists multiply: --seed {0..4} --loss {margin,triplet} is ten runs. Lists with a number move
 * together: --dataset {1:cub200,cars196} --group {1:CUB,CARS}_Npair is two. A line that begins with
 * the word "all" sets flags that go before those of every following line, until the next "all". */

struct dml_sweep_run {
    size_t line;
    int argc;
    char **argv;    /* flags, without the key of W&B; NULL-terminated */
    char *flags;    /* the same as one text */
    char *label;    /* those that tell it from its neighbours */
    char *identity; /* parameters that differ from their defaults: tells whether it was done */
    enum dml_sweep_state {
        DML_SWEEP_WAITING,
        DML_SWEEP_RUNNING,
        DML_SWEEP_FINISHED,
        DML_SWEEP_FAILED
    } state;
    char *error, *log; /* of a failed run; otherwise NULL */
    char *noted;   /* what the database says about it, to see whether that changes; NULL: nothing */
    double result; /* best e_recall@1 on Test of a finished run, NAN if unknown */
};

struct dml_sweep {
    char *name;      /* of the file, without its ending */
    char *save_path; /* the same for all runs */
    struct dml_sweep_run *runs;
    size_t count, capacity;
};

/* Reads and expands the file, without looking at the flags. `extra` are flags that go after those
 * of every run. DML_ERROR_INPUT names file and line. */
enum dml_status dml_sweep_read(const char *path, char *const *extra, size_t extra_count,
                               struct dml_sweep *out);
void dml_sweep_free(struct dml_sweep *sweep);

/* Checks every run's flags as `dml train` would, fills save_path and identities, and drops
 * duplicate runs. DML_ERROR_USAGE: "FILE:LINE: what is wrong". */
enum dml_status dml_sweep_check(const char *path, struct dml_sweep *sweep);

/* Asks the database below the save path what has been done already; when called again, what has
 * been done since. */
enum dml_status dml_sweep_look_up(struct dml_sweep *sweep);

/* Runs those that wait (and with `retry` those that failed), `jobs` at a time, until done or *stop.
 * Other processes may be at work on the same sweep: each run is done by one of them, and those that
 * are under way elsewhere are left to it. */
enum dml_status dml_sweep_execute(struct dml_sweep *sweep, long jobs, bool retry,
                                  volatile sig_atomic_t *stop);

void dml_sweep_run_free(struct dml_sweep_run *run);

const char *dml_sweep_state_name(enum dml_sweep_state state);

#endif
