#ifndef DML_CUDA_NCCL_H
#define DML_CUDA_NCCL_H

#include "backends/cuda/device.h"

/* NCCL between the cards of several processes. Its library is opened at run time: nothing else
 * needs it. Functions for struct cuda_api; those that return a text do so when they fail. */

/* `library`: what dlopen finds it by, "libnccl.so.2"; the first one that was opened stays. */
bool nccl_name(const char *library, char *name, char *reason);
/* After nccl_name, with the card in use that is to be joined. */
struct cuda_group *nccl_join(const char *name, int index, int count, char *reason);
void nccl_leave(struct cuda_group *group);
const char *nccl_exchange(struct cuda_group *group, cuda_stream stream,
                          const struct cuda_transfer *transfers, size_t count);
/* Whether it is still at work; *failure: why it has given up, or NULL. What is on the stream is
 * another matter. */
bool nccl_busy(struct cuda_group *group, const char **failure);

#endif
