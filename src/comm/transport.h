#ifndef DML_COMM_TRANSPORT_H
#define DML_COMM_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>

/* What carries bytes between the ranks. It is in a shared library of its own (libdml_mpi.so) that
 * calls nothing in dml and exports one struct called dml_transport, so that one program works with
 * and without MPI. All calls come from one thread at a time. Those that fail return a text,
 * constant or valid until the next call; NULL is success. */
enum { DML_TRANSPORT_INTERFACE = 2 };

/* A message under way. */
struct dml_request {
    void *handle[2]; /* the transport's own */
};

struct dml_transport {
    int interface; /* first, whatever the version: DML_TRANSPORT_INTERFACE */
    /* Joins the processes that were started together; returns when all have joined. */
    const char *(*open)(int *rank, int *size);
    /* `data` must stay until the message has arrived; at most 2^30 bytes. Messages from one rank to
     * another with the same tag arrive in order. rank -1: from whoever sends. */
    const char *(*send)(const void *data, size_t bytes, int rank, int tag, struct dml_request *out);
    const char *(*receive)(void *data, size_t bytes, int rank, int tag, struct dml_request *out);
    const char *(*test)(struct dml_request *request, bool *done);
    const char *(*cancel)(struct dml_request *receive); /* it will not come any more */
    /* Leaves the others; waits for them to do the same. */
    const char *(*close)(void);
    const char *(*version)(void); /* "Open MPI v4.1.4" */
};

#endif
