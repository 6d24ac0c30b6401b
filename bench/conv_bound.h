#ifndef BENCH_CONV_BOUND_H
#define BENCH_CONV_BOUND_H

#include "nn/graph.h"

/* The bare convolution primitives of a network: oneDNN with layouts of its own choice, nothing
 * fused, nothing between them. A training step or a forward pass cannot be faster than these as
 * long as it computes its convolutions with them. */
struct conv_bound;

/* Seconds by the clock, and of processor time, which says more on a shared machine. */
struct bench_times {
    double wall, processor;
};
struct bench_times bench_times_now(void);
/* The shorter of `best` and what has passed since `start`, for both. */
struct bench_times bench_times_best(struct bench_times best, struct bench_times start);

/* Of float32 tensors, or bfloat16 ones (with float32 weight gradients). Exits on failure, like
 * everything in a benchmark; NULL where this processor has no bfloat16 primitives. */
struct conv_bound *conv_bound_create(const struct dml_graph *graph, int batch, bool backward,
                                     bool bf16);
void conv_bound_free(struct conv_bound *bound);

/* Runs every primitive once. The caller takes the time, and the shortest of several, as it does for
 * what it compares: the shortest times of single primitives would find more gaps in the machine's
 * other load than a whole step can. */
void conv_bound_run(struct conv_bound *bound);
/* Runs them once more; seconds (convolutions, in the graph's order) of the backward pass of each
 * are lowered to what it took now, where they are not 0. */
void conv_bound_layers(struct conv_bound *bound, double *seconds);
double conv_bound_flops(const struct conv_bound *bound); /* of all primitives */

#endif
