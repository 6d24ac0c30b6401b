#ifndef DML_COMM_ARRIVALS_H
#define DML_COMM_ARRIVALS_H

#include <stdbool.h>
#include <stddef.h>

/* Which ranks have come to MPI's rendezvous; MPI itself says nothing until all have come. Each
 * listens on a socket, without a file, that is named after the job and its rank, and calls at those
 * of the others: of any two on one machine the later one meets the earlier, and both learn each
 * other's process. Those on other machines are not seen. */
struct dml_arrivals {
    int rank, size, socket; /* -1: none could be made, and nobody is seen */
    char job[128];
    int *pids; /* (size) of those that were seen; 0: not yet */
};

/* Without memory or sockets nobody is seen. */
void dml_arrivals_open(int rank, int size, struct dml_arrivals *out);
void dml_arrivals_close(struct dml_arrivals *arrivals);

/* Sees who has come since. Returns a rank that was here and whose process has ended; -1: none. */
int dml_arrivals_look(struct dml_arrivals *arrivals);

/* Whether this rank is the first of those here that are at work, and so tells the user. `lost`: a
 * rank that no longer is. */
bool dml_arrivals_speaks(const struct dml_arrivals *arrivals, int lost);

/* Lets the others here know that the user has been told. */
void dml_arrivals_told(const struct dml_arrivals *arrivals);

/* Waits until the rank that speaks has ended, for 3 s at most. */
void dml_arrivals_wait_for_speaker(const struct dml_arrivals *arrivals, int lost);

/* Who is missing, as "rank 1 is stopped" or, if none is stopped, "ranks 1, 2 were not seen on
 * HOST"; "" if nobody is missing. */
void dml_arrivals_missing(const struct dml_arrivals *arrivals, char *text, size_t size);

#endif
