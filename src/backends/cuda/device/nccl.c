#include "backends/cuda/device/nccl.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of nccl.h, which need not be there when dml is built; these have not changed since NCCL 2.7. */
enum { SUCCESS = 0, IN_PROGRESS = 7 }; /* ncclResult_t */
enum { BYTES = 0 };                    /* ncclDataType_t: ncclInt8 */
struct unique_id {
    char bytes[CUDA_GROUP_NAME];
};

static struct {
    void *library;
    int (*get_unique_id)(struct unique_id *id);
    int (*comm_init_rank)(void **comm, int count, struct unique_id id, int index);
    int (*comm_abort)(void *comm);
    int (*comm_get_async_error)(void *comm, int *error);
    int (*send)(const void *data, size_t count, int type, int other, void *comm, void *stream);
    int (*recv)(void *data, size_t count, int type, int other, void *comm, void *stream);
    int (*group_start)(void);
    int (*group_end)(void);
    const char *(*get_error_string)(int result);
} nccl;

struct cuda_group {
    void *comm;
};

static bool open_library(const char *name, char *reason) {
    static const struct {
        const char *name;
        void *function;
    } symbols[] = {
        {"ncclGetUniqueId", &nccl.get_unique_id},
        {"ncclCommInitRank", &nccl.comm_init_rank},
        {"ncclCommAbort", &nccl.comm_abort},
        {"ncclCommGetAsyncError", &nccl.comm_get_async_error},
        {"ncclSend", &nccl.send},
        {"ncclRecv", &nccl.recv},
        {"ncclGroupStart", &nccl.group_start},
        {"ncclGroupEnd", &nccl.group_end},
        {"ncclGetErrorString", &nccl.get_error_string},
    };
    void *library = nccl.library ? nccl.library : dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *why = dlerror();
        snprintf(reason, CUDA_REASON, "NCCL: %s", why ? why : "it cannot be opened");
    }
    for (size_t i = 0; library && i < sizeof symbols / sizeof *symbols; i++) {
        void *symbol = dlsym(library, symbols[i].name);
        if (!symbol) {
            snprintf(reason, CUDA_REASON, "NCCL: it has no %s: 2.7 or later is needed",
                     symbols[i].name);
            dlclose(library);
            return false;
        }
        memcpy(symbols[i].function, &symbol, sizeof symbol);
    }
    nccl.library = library;
    return library != NULL;
}

static bool failed(int result, char *reason) {
    if (result != SUCCESS)
        snprintf(reason, CUDA_REASON, "NCCL: %s", nccl.get_error_string(result));
    return result != SUCCESS;
}

bool nccl_name(const char *library, char *name, char *reason) {
    struct unique_id id;
    if (!open_library(library, reason) || failed(nccl.get_unique_id(&id), reason))
        return false;
    memcpy(name, id.bytes, sizeof id.bytes);
    return true;
}

struct cuda_group *nccl_join(const char *name, int index, int count, char *reason) {
    struct unique_id id;
    struct cuda_group *group = calloc(1, sizeof *group);
    snprintf(reason, CUDA_REASON, "no memory");
    if (!group)
        return NULL;
    memcpy(id.bytes, name, sizeof id.bytes);
    if (!failed(nccl.comm_init_rank(&group->comm, count, id, index), reason))
        return group;
    free(group);
    return NULL;
}

void nccl_leave(struct cuda_group *group) {
    nccl.comm_abort(group->comm); /* unlike ncclCommDestroy it waits for nobody */
    free(group);
}

const char *nccl_exchange(struct cuda_group *group, cuda_stream stream,
                          const struct cuda_transfer *transfers, size_t count) {
    int result = nccl.group_start();
    for (size_t i = 0; result == SUCCESS && i < count; i++) {
        const struct cuda_transfer *t = &transfers[i];
        result = t->send ? nccl.send(t->data, t->bytes, BYTES, t->other, group->comm, stream)
                         : nccl.recv(t->data, t->bytes, BYTES, t->other, group->comm, stream);
    }
    int end = nccl.group_end();
    result = result == SUCCESS ? end : result;
    return result == SUCCESS || result == IN_PROGRESS ? NULL : nccl.get_error_string(result);
}

bool nccl_busy(struct cuda_group *group, const char **failure) {
    int error = SUCCESS, result = nccl.comm_get_async_error(group->comm, &error);
    if (result != SUCCESS)
        error = result;
    *failure = error == SUCCESS || error == IN_PROGRESS ? NULL : nccl.get_error_string(error);
    return error == IN_PROGRESS;
}
