#ifndef DML_COMM_COMM_H
#define DML_COMM_COMM_H

#include "comm/transport.h"
#include "dml/error.h"

#include <stdint.h>

/* The processes (ranks) of a run, which exchange what they have computed. Every rank makes the same
 * calls in the same order, from one thread. A call waits no longer than the limit; a rank that is
 * lost or has failed ends it on all others, with a message that names the rank, and with it all
 * calls that follow. A process on its own is rank 0 of 1, for which calls do nothing.
 *
 * All data go straight from rank to rank, so that it is known which one is missing, and in the
 * order of ranks, so that results are reproducible. */

/* Who a rank is. */
struct dml_rank {
    char version[32], level[32]; /* of the program and its kernels */
    char host[64];
    uint64_t machine; /* the same for ranks that see each other's processes */
    int32_t pid, threads;
};

struct dml_comm {
    const char *command; /* whose failures are reported: "train" */
    int rank, size;
    int local_rank;                        /* among those on its machine */
    double limit;                          /* seconds */
    double waited;                         /* in all calls so far */
    int lost;                              /* rank that was found lost; -1: none */
    bool broken;                           /* a call has failed: no more are possible */
    int errors;                            /* what stderr was at the start */
    struct dml_rank *ranks;                /* (size) */
    const struct dml_transport *transport; /* NULL: on its own */
    struct dml_comm_calls *calls;          /* what is under way */
    struct dml_comm_sums *sums;            /* that go on while the caller computes */
    struct dml_comm_watch *watch;          /* over the processes of this machine's other ranks */
    struct dml_comm_alone *alone;          /* while rank 0 works alone */
};

/* A process on its own. */
void dml_comm_single(struct dml_comm *out);

/* How many processes mpirun or srun started together, this one included, according to the
 * environment; 1: it was started by itself. *rank may be NULL. */
int dml_comm_started(int *rank);

/* Makes the environment that of a process started by itself, for the programs that a rank starts,
 * each of which is to be a run of its own. */
void dml_comm_forget_start(void);

/* --ranks N: starts this program N times with these arguments, through mpirun, on this machine,
 * each with its share of the cores, and waits for them. Ctrl-C, SIGTERM and SIGUSR1 are passed on
 * as SIGUSR1, which tells them to stop soon, and `told` is shown; a second one ends the ranks.
 * *exit_status is mpirun's. DML_ERROR_UNSUPPORTED: there is no mpirun. */
enum dml_status dml_comm_launch(int ranks, char **argv, const char *told, int *exit_status);

/* Joins the ranks that mpirun or srun started for a command (of the program, a constant); a process
 * that was started by itself becomes a single one. From here on ranks other than 0 have no stdout
 * and stderr: rank 0 says what they have to say. If the process of a rank ends, that is reported at
 * once, whatever the others are doing, and it ends their next call. The limit (seconds) is at least
 * 20 s until all have joined. DML_ERROR_UNSUPPORTED: this
 * build lacks MPI, or MPI does not join them. DML_ERROR_INPUT: a rank has a different version of
 * the program or different kernels. */
enum dml_status dml_comm_open(const char *command, double limit, struct dml_comm *out);

/* Leaves the others. With an exit status other than 0, the process of one of several ranks ends
 * here, with that status: what is still under way between ranks will not arrive, and MPI does not
 * survive that. */
void dml_comm_close(struct dml_comm *comm, int exit_status);

/* `bytes` of every rank, to every rank: all (size, bytes). `mine` may lie in its place in `all`. */
enum dml_status dml_comm_allgather(struct dml_comm *comm, const void *mine, size_t bytes,
                                   void *all);

/* Rank r has the bytes at[r]..at[r + 1] - 1 of `data`; afterwards all ranks have all of it or, with
 * `root`, only rank 0 has. */
enum dml_status dml_comm_collect(struct dml_comm *comm, void *data, const size_t *at, bool root);

/* From rank 0 to all others. */
enum dml_status dml_comm_broadcast(struct dml_comm *comm, void *data, size_t bytes);

/* values = the sum over all ranks, added one after the other from rank 0 on, in float32: the bits
 * of one process that adds the same arrays in that order. */
enum dml_status dml_comm_sum(struct dml_comm *comm, float *values, size_t count);

/* The same in steps, while the caller computes something else and makes other calls: begins a sum
 * (the values stay where they are until it is done), moves all on that were begun, as far as
 * messages have come, and with `wait` until they are done. All ranks begin the same sums in the
 * same order. */
enum dml_status dml_comm_sum_start(struct dml_comm *comm, float *values, size_t count);
enum dml_status dml_comm_sum_advance(struct dml_comm *comm, bool wait);

/* Values that are summed at a time. It is not worth beginning sums of fewer. */
size_t dml_comm_sum_piece(const struct dml_comm *comm);

/* Waits until done(what), which is called again and again, while the ranks' devices exchange
 * something themselves. Ends like any other call when a rank is lost or has failed; at the limit no
 * rank is known to be the one. */
enum dml_status dml_comm_wait(struct dml_comm *comm, bool (*done)(void *what), void *what);

/* To be called before and after what rank 0 does alone, however long it takes: the others wait for
 * it at the end, and a thread of rank 0 tells them that it is at work, so that the limit applies to
 * its silence. `status` is the result of its work; nothing else is exchanged in between. */
enum dml_status dml_comm_alone_begin(struct dml_comm *comm);
enum dml_status dml_comm_alone_end(struct dml_comm *comm, enum dml_status status);

/* Tells all others that this rank has failed with `status` and dml_error(); their calls end. If
 * this one fails because another rank was lost, the message becomes that. Returns the status. */
enum dml_status dml_comm_fail(struct dml_comm *comm, enum dml_status status);

/* Prints the command and dml_error() on stderr if this is the rank that tells the user of a
 * failure, rank 0 or the first one left, and it has not done so yet. */
void dml_comm_tell(struct dml_comm *comm);

#endif
