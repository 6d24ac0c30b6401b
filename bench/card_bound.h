#ifndef BENCH_CARD_BOUND_H
#define BENCH_CARD_BOUND_H

#include "nn/graph.h"

/* What a card needs at least for one image of a batch: the multiplications and additions of
 * products, and the bytes of feature maps that have to pass through its memory: operands and
 * results of convolutions and products once for each pass, statistics' passes of batch norms that
 * are not folded away, scores of attention. What is fused is free. Weights count once for each
 * pass, with their gradients and Adam's states, divided by the batch. */
struct card_bound {
    double flops, bytes;
    /* Node by node the longer of computing at `peak` operations and copying at `bandwidth` bytes a
     * second. */
    double seconds;
};

/* `element`: bytes of a value of a feature map; values of sequences have 4. */
struct card_bound card_bound_of(const struct dml_graph *graph, bool training, double element,
                                double batch, double peak, double bandwidth);

#endif
