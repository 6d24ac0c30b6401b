/* NCCL's functions that dml calls, between processes of one machine through shared memory. Like
 * NCCL's they return at once; what is under way goes on whenever it is asked about. */
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS = 0, SYSTEM_ERROR = 2, IN_PROGRESS = 7 };
enum { CHUNK = 1 << 16, MOST = 64 };

typedef struct {
    char internal[128];
} id_type;

/* On its way from one process to another. */
struct box {
    atomic_uint bytes; /* 0: it is empty */
    char data[CHUNK];
};

struct shared {
    atomic_int joined;
    struct box boxes[]; /* (count, count): from, to */
};

struct operation {
    char *data;
    size_t bytes;
    int from, to;
};

struct comm {
    int index, count;
    size_t size;
    struct shared *shared;
    struct operation under_way[MOST];
    int operations;
    char path[160];
};

int ncclGetUniqueId(id_type *id) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    *id = (id_type){{0}};
    snprintf(id->internal, sizeof id->internal, "/dml-nccl-%ld-%ld", (long)getpid(), now.tv_nsec);
    return SUCCESS;
}

int ncclCommInitRank(struct comm **out, int count, id_type id, int index) {
    struct comm *comm = calloc(1, sizeof *comm);
    if (!comm)
        return SYSTEM_ERROR;
    comm->index = index;
    comm->count = count;
    comm->size = sizeof *comm->shared + (size_t)(count * count) * sizeof(struct box);
    snprintf(comm->path, sizeof comm->path, "%s", id.internal);
    int file = shm_open(comm->path, O_RDWR | O_CREAT, 0600);
    if (file < 0 || ftruncate(file, (off_t)comm->size))
        return SYSTEM_ERROR;
    comm->shared = mmap(NULL, comm->size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (comm->shared == MAP_FAILED)
        return SYSTEM_ERROR;
    atomic_fetch_add(&comm->shared->joined, 1);
    while (atomic_load(&comm->shared->joined) < count)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    shm_unlink(comm->path);
    *out = comm;
    return SUCCESS;
}

int ncclCommAbort(struct comm *comm) {
    munmap(comm->shared, comm->size);
    free(comm);
    return SUCCESS;
}

static int add(struct comm *comm, char *data, size_t bytes, int from, int to) {
    if (comm->operations == MOST)
        return SYSTEM_ERROR;
    comm->under_way[comm->operations++] = (struct operation){data, bytes, from, to};
    return SUCCESS;
}

int ncclSend(const void *data, size_t count, int type, int other, struct comm *comm, void *stream) {
    (void)type;
    (void)stream;
    return add(comm, (char *)(uintptr_t)data, count, comm->index, other);
}

int ncclRecv(void *data, size_t count, int type, int other, struct comm *comm, void *stream) {
    (void)type;
    (void)stream;
    return add(comm, data, count, other, comm->index);
}

int ncclGroupStart(void) {
    return SUCCESS;
}
int ncclGroupEnd(void) {
    return SUCCESS;
}

/* Moves a chunk, if that can be done now. */
static void move(struct comm *comm, struct operation *o) {
    struct box *box = &comm->shared->boxes[o->from * comm->count + o->to];
    unsigned there = atomic_load(&box->bytes);
    if (o->from == comm->index && !there) {
        unsigned bytes = o->bytes < CHUNK ? (unsigned)o->bytes : CHUNK;
        memcpy(box->data, o->data, bytes);
        o->data += bytes;
        o->bytes -= bytes;
        atomic_store(&box->bytes, bytes);
    } else if (o->to == comm->index && there) {
        memcpy(o->data, box->data, there);
        o->data += there;
        o->bytes -= there;
        atomic_store(&box->bytes, 0);
    }
}

int ncclCommGetAsyncError(struct comm *comm, int *error) {
    int left = 0;
    for (int i = 0; i < comm->operations; i++) {
        move(comm, &comm->under_way[i]);
        if (comm->under_way[i].bytes)
            comm->under_way[left++] = comm->under_way[i];
    }
    comm->operations = left;
    *error = left ? IN_PROGRESS : SUCCESS;
    return SUCCESS;
}

const char *ncclGetErrorString(int result) {
    return result == SYSTEM_ERROR ? "unhandled system error" : "unknown error";
}
