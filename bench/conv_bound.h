#ifndef BENCH_CONV_BOUND_H
#define BENCH_CONV_BOUND_H

#include "nn/graph.h"

/* The bare convolution primitives of a network: oneDNN with layouts of its own choice, nothing
 * fused, nothing between them. What a training step or a forward pass cannot be faster than as
 * long as it computes its convolutions with them. */
struct conv_bound;

/* Exits on failure, as all of a benchmark. */
struct conv_bound *conv_bound_create(const struct dml_graph *graph, int batch, bool backward);
void conv_bound_free(struct conv_bound *bound);

/* Runs every primitive once more and returns the sum of the shortest time of each so far. */
double conv_bound_measure(struct conv_bound *bound);
double conv_bound_forward(const struct conv_bound *bound); /* the forward part of that sum */
double conv_bound_flops(const struct conv_bound *bound);   /* of all primitives */

#endif
