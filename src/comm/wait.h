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

/* Sends and receives all of these, and waits for them. */
enum dml_status dml_comm_exchange(struct dml_comm *comm, const struct dml_transfer *sends,
                                  size_t send_count, const struct dml_transfer *receives,
                                  size_t receive_count);

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
