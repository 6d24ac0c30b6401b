#include "comm/transport.h"

#include <mpi.h>
#include <stdio.h>
#include <string.h>

/* MPI between processes and machines: nothing but messages; waiting, its limit and lost ranks are
 * the caller's business. */

_Static_assert(sizeof(MPI_Request) <= sizeof(struct dml_request), "a request fits");

static char text[MPI_MAX_ERROR_STRING + 16], library[MPI_MAX_LIBRARY_VERSION_STRING];

static const char *told(int code) {
    int length = 0;
    if (code == MPI_SUCCESS)
        return NULL;
    if (MPI_Error_string(code, text, &length) != MPI_SUCCESS || length == 0)
        snprintf(text, sizeof text, "MPI error %d", code);
    text[strcspn(text, "\n")] = 0;
    return text;
}

static const char *join(int *rank, int *size) {
    int provided = 0, code = MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &provided);
    if (code == MPI_SUCCESS)
        code = MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    if (code == MPI_SUCCESS)
        code = MPI_Comm_rank(MPI_COMM_WORLD, rank);
    if (code == MPI_SUCCESS)
        code = MPI_Comm_size(MPI_COMM_WORLD, size);
    if (code == MPI_SUCCESS && provided < MPI_THREAD_SERIALIZED)
        return "this MPI does not allow threads";
    return told(code);
}

static const char *start_send(const void *data, size_t bytes, int rank, int tag,
                              struct dml_request *out) {
    MPI_Request request;
    int code = MPI_Isend(data, (int)bytes, MPI_BYTE, rank, tag, MPI_COMM_WORLD, &request);
    memcpy(out, &request, sizeof request);
    return told(code);
}

static const char *start_receive(void *data, size_t bytes, int rank, int tag,
                                 struct dml_request *out) {
    MPI_Request request;
    int from = rank < 0 ? MPI_ANY_SOURCE : rank;
    int code = MPI_Irecv(data, (int)bytes, MPI_BYTE, from, tag, MPI_COMM_WORLD, &request);
    memcpy(out, &request, sizeof request);
    return told(code);
}

static const char *test(struct dml_request *request, bool *done) {
    MPI_Request own;
    int flag = 0;
    memcpy(&own, request, sizeof own);
    int code = MPI_Test(&own, &flag, MPI_STATUS_IGNORE);
    memcpy(request, &own, sizeof own);
    *done = flag != 0;
    return told(code);
}

static const char *cancel(struct dml_request *receive) {
    MPI_Request own;
    memcpy(&own, receive, sizeof own);
    int code = MPI_Cancel(&own);
    return told(code == MPI_SUCCESS ? MPI_Wait(&own, MPI_STATUS_IGNORE) : code);
}

static const char *leave(void) {
    return told(MPI_Finalize());
}

static const char *version(void) {
    int length = 0;
    if (MPI_Get_library_version(library, &length) != MPI_SUCCESS)
        return "MPI";
    library[strcspn(library, ",\n")] = 0;
    for (char *tab = library; (tab = strchr(tab, '\t'));)
        *tab = ' ';
    return library;
}

__attribute__((visibility("default"))) const struct dml_transport dml_transport = {
    .interface = DML_TRANSPORT_INTERFACE,
    .open = join,
    .send = start_send,
    .receive = start_receive,
    .test = test,
    .cancel = cancel,
    .close = leave,
    .version = version,
};
