#ifndef DML_CUDA_SHARING_H
#define DML_CUDA_SHARING_H

#include "backends/cuda/params.h"

/* Gradients of a batch that several processes share, each with a card of its own. Cards that can be
 * joined send them to each other, all others through the processes' memory; both add them in the
 * order of processes and give the same bits. */
struct cuda_sharing {
    bool tried; /* to join the cards */
    struct cuda_group *group;
    float *pieces; /* on the card: the slices of all processes that this one adds */
};

/* The gradients become the sums over all parts. */
enum dml_status cuda_sum_gradients(struct cuda_sharing *sharing, struct cuda_params *params,
                                   const struct dml_batch_parts *parts);

void cuda_sharing_close(struct cuda_sharing *sharing, const struct cuda_on *on);

#endif
