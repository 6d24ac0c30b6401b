#ifndef DML_CUDNN_CHOOSE_H
#define DML_CUDNN_CHOOSE_H

#include "backends/cuda/device/cudnn_graph.h"

/* Which plan computes a convolution. Heuristics are often wrong, so the first few are run and the
 * fastest is kept, for every convolution of the same shape on this card. Different plans sum in
 * different orders: a run repeats to the bit only with the same choice of plans, and timing decides
 * that. */

struct cudnn_choices; /* of a card in use */
struct cudnn_choices *cudnn_choices_new(void);
void cudnn_choices_free(struct cudnn_choices *choices);

/* The plan for this pass; it belongs to `choices`. NULL: there is none, and `reason` says why. */
const struct cudnn_plan *cudnn_choose(struct cudnn_choices *choices,
                                      const struct cudnn_target *target, cudaStream_t stream,
                                      const struct cuda_conv_shape *shape, enum cuda_pass pass,
                                      bool fused, char *reason);

#endif
