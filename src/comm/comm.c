#include "comm/comm.h"

#include "base/memory.h"
#include "comm/wait.h"

#include <stdlib.h>
#include <string.h>

enum dml_status dml_comm_collect(struct dml_comm *comm, void *data, const size_t *at, bool root) {
    struct dml_transfer sends[comm->size], receives[comm->size];
    size_t send_count = 0, receive_count = 0, own = at[comm->rank + 1] - at[comm->rank];
    for (int r = 0; r < comm->size; r++) {
        if (r == comm->rank)
            continue;
        if (own && (r == 0 || !root))
            sends[send_count++] = (struct dml_transfer){(char *)data + at[comm->rank], own, r};
        if (at[r + 1] > at[r] && (comm->rank == 0 || !root))
            receives[receive_count++] =
                (struct dml_transfer){(char *)data + at[r], at[r + 1] - at[r], r};
    }
    return comm->size == 1 ? DML_OK
                           : dml_comm_exchange(comm, sends, send_count, receives, receive_count);
}

enum dml_status dml_comm_allgather(struct dml_comm *comm, const void *mine, size_t bytes,
                                   void *all) {
    size_t at[comm->size + 1];
    for (int r = 0; r <= comm->size; r++)
        at[r] = (size_t)r * bytes;
    memmove((char *)all + at[comm->rank], mine, bytes);
    return dml_comm_collect(comm, all, at, false);
}

enum dml_status dml_comm_broadcast(struct dml_comm *comm, void *data, size_t bytes) {
    if (comm->size == 1)
        return DML_OK;
    struct dml_transfer transfers[comm->size];
    if (comm->rank > 0) {
        transfers[0] = (struct dml_transfer){data, bytes, 0};
        return dml_comm_exchange(comm, NULL, 0, transfers, 1);
    }
    for (int r = 1; r < comm->size; r++)
        transfers[r - 1] = (struct dml_transfer){data, bytes, r};
    return dml_comm_exchange(comm, transfers, (size_t)comm->size - 1, NULL, 0);
}

static void add(float *sum, const float *values, size_t count) {
#pragma omp parallel for simd schedule(static) if (count > 16384)
    for (size_t i = 0; i < count; i++)
        sum[i] += values[i];
}

/* Every rank sums one slice of the values: it gets the others' pieces of it, adds them in the order
 * of ranks, and sends the sum to all. `pieces`: workspace for (size) slices. */
static enum dml_status sum_part(struct dml_comm *comm, float *values, size_t count, float *pieces) {
    size_t slice = (count + (size_t)comm->size - 1) / (size_t)comm->size, at[comm->size + 1];
    struct dml_transfer sends[comm->size], receives[comm->size];
    size_t n = 0, m = 0;
    for (int r = 0; r <= comm->size; r++) {
        size_t start = (size_t)r * slice;
        at[r] = (start < count ? start : count) * sizeof *values;
    }
    size_t own = at[comm->rank + 1] - at[comm->rank];
    float *mine = values + at[comm->rank] / sizeof *values;
    for (int r = 0; r < comm->size; r++) {
        if (r == comm->rank)
            continue;
        if (at[r + 1] > at[r])
            sends[n++] = (struct dml_transfer){(char *)values + at[r], at[r + 1] - at[r], r};
        if (own)
            receives[m++] = (struct dml_transfer){pieces + (size_t)r * slice, own, r};
    }
    enum dml_status status = dml_comm_exchange(comm, sends, n, receives, m);
    if (status)
        return status;
    if (own) {
        memcpy(pieces + (size_t)comm->rank * slice, mine, own);
        memcpy(mine, pieces, own);
        for (int r = 1; r < comm->size; r++)
            add(mine, pieces + (size_t)r * slice, own / sizeof *values);
    }
    return dml_comm_collect(comm, values, at, false);
}

enum dml_status dml_comm_sum(struct dml_comm *comm, float *values, size_t count) {
    enum { SLICE = 1 << 18 }; /* floats that a rank sums at a time: 1 MB stays near its core */
    if (comm->size == 1)
        return DML_OK;
    size_t part = (size_t)comm->size * SLICE;
    size_t floats = count < part ? count + (size_t)comm->size : part;
    float *pieces = dml_alloc(floats, sizeof *pieces);
    enum dml_status status = pieces ? DML_OK : DML_ERROR_MEMORY;
    for (size_t at = 0; !status && at < count; at += part)
        status = sum_part(comm, values + at, count - at < part ? count - at : part, pieces);
    free(pieces);
    return status;
}
