#ifndef TESTS_CUDA_DEVICE_HOST_H
#define TESTS_CUDA_DEVICE_HOST_H

#include "backends/cuda/device.h"

/* A card in plain C: memory is the host's, work is done at once, kernels run through
 * tests/cuda_shim. What is allocated starts as NaN. Uploads beside other work are done as late as
 * possible, when they are awaited, and until then their place is overwritten: what reads or writes
 * it too early, and what waits too late, gives other results. */
const struct cuda_api *cuda_host_api(void);

/* Lets call number `at` fail from now on (0: the next), counting allocations, convolutions that are
 * made, and queued work; -1: none. A card lost in the middle of a run fails every call from there
 * on. */
void cuda_host_fail_at(long at);
/* Calls since then. */
long cuda_host_calls(void);

/* No card can be used, for this reason; NULL: it is there again. */
void cuda_host_lose(const char *reason);

/* The versions and the compute capability that are found. */
void cuda_host_versions(const struct cuda_versions *versions);
void cuda_host_capability(int major, int minor);

/* Memory there is (0: any amount); bytes and pieces that are allocated now. */
void cuda_host_memory(size_t bytes);
size_t cuda_host_used(void);
size_t cuda_host_pieces(void);

/* Uploads beside other work are done at once, as early as possible. */
void cuda_host_upload_early(bool early);
/* Nobody waits for them any more: a test of the double itself. */
void cuda_host_forget_to_wait(bool forget);
/* How many there were. */
size_t cuda_host_uploads_ahead(void);

/* Cards of several processes are joined by this library (tests/cuda_host/nccl.c); NULL: they cannot
 * be joined. Bytes that this process's cards have sent. */
void cuda_host_join_by(const char *library);
size_t cuda_host_exchanged(void);

#endif
