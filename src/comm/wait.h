#ifndef DML_COMM_WAIT_H
#define DML_COMM_WAIT_H

#include "comm/comm.h"

/* Waiting for other ranks, and how it ends: at a limit, on a lost rank or on a failed one. */

/* Bytes to or from a rank. */
struct dml_transfer {
    void *data;
    size_t bytes;
    int rank;
};

/* Messages under way. */
struct dml_calls {
    struct dml_call {
        struct dml_request request;
        int rank;
    } * items;
    size_t count, capacity;
};

/* Tags of messages: from DML_TAG_SUMS on, those of sums. */
enum { DML_TAG_DATA = 1, DML_TAG_FAILURE, DML_TAG_OVER, DML_TAG_SUMS };

/* Begins to send and to receive all of these. */
enum dml_status dml_comm_post(struct dml_comm *comm, struct dml_calls *calls, int tag,
                              const struct dml_transfer *sends, size_t send_count,
                              const struct dml_transfer *receives, size_t receive_count);

/* Drops those that are done. */
enum dml_status dml_comm_test(struct dml_comm *comm, struct dml_calls *calls);

/* How far what is waited for has come. */
struct dml_waiting {
    bool done;
    bool moved; /* since the last look: the next may come at once */
    int rank;   /* one that is waited for; -1: it is not known which */
};

/* Calls advance(comm, what, ...), which never waits, until what it does is done. */
enum dml_status dml_comm_wait_while(struct dml_comm *comm,
                                    enum dml_status (*advance)(struct dml_comm *comm, void *what,
                                                               struct dml_waiting *waiting),
                                    void *what);

/* Fails: an earlier call has failed. */
enum dml_status dml_comm_disconnected(void);

/* Sends and receives all of these, and waits for them. */
enum dml_status dml_comm_exchange(struct dml_comm *comm, const struct dml_transfer *sends,
                                  size_t send_count, const struct dml_transfer *receives,
                                  size_t receive_count);

/* sums.c: frees what dml_comm_sum_start has made. Nothing may be under way any more. */
void dml_comm_sums_free(struct dml_comm *comm);

/* Makes and frees comm->calls, with which a rank listens for the failures of others. */
enum dml_status dml_comm_listen(struct dml_comm *comm);
void dml_comm_deafen(struct dml_comm *comm);

/* After a failure that all have been told of: rank 0 lets the others go, which have been waiting
 * while it still had something to write. */
void dml_comm_part(struct dml_comm *comm);

/* To be called before others know of this process. */
void dml_comm_watch_listen(void);

/* watch.c: a thread that checks whether the processes of this machine's other ranks are still
 * there. */
enum dml_status dml_comm_watch_start(struct dml_comm *comm);
void dml_comm_watch_end(struct dml_comm *comm);

/* Before and after each call of MPI, which is for a message to or from `rank` (-1: any). The watch
 * tells of one that does not return, and ends the process after twice the limit. */
void dml_comm_enter(struct dml_comm *comm, int rank);
void dml_comm_leave(struct dml_comm *comm);

/* The rank whose process it found ended, with a message that says so; -1: none. */
int dml_comm_watch_lost(struct dml_comm *comm);

/* The rank that tells the user of failures: the first that is left. */
int dml_comm_speaker(const struct dml_comm *comm);

/* Whether SIGTERM has come. */
bool dml_comm_watch_ended(void);

/* If SIGTERM has come while waiting for `rank`, on another machine, tells the user so: mpirun,
 * which sees all machines, sends it when it has lost a rank. */
void dml_comm_tell_of_end(const struct dml_comm *comm, int rank);

/* Whether another rank on this machine has told the user. */
bool dml_comm_told(void);

/* A process on this machine; ended: also one whose parent has yet to hear of it. */
enum dml_process_state { DML_PROCESS_RUNS, DML_PROCESS_STOPPED, DML_PROCESS_ENDED };
enum dml_process_state dml_comm_process_state(int pid);

/* Whether a rank's process has ended, as far as it can be seen from here. */
bool dml_comm_ended(const struct dml_comm *comm, int rank);

#endif
