#include "comm/comm.h"

#include "comm/wait.h"

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
