#ifndef BENCH_PRODUCT_BOUND_H
#define BENCH_PRODUCT_BOUND_H

#include "nn/graph.h"

/* The bare matrix products of a transformer, in the shapes that a pass has: patches, linear layers
 * and attention, forward and, for training, backward (without what is recomputed). Linear layers by
 * oneDNN, by BLAS in tiles or on our own panels, whichever was fastest for a shape; attention image
 * by image and head by head. Nothing between them. */
struct product_bound;

/* Operands of float32, or of bfloat16 with float32 results; NULL where this processor has no
 * bfloat16 products and they are not emulated. Exits on failure. */
struct product_bound *product_bound_create(const struct dml_graph *graph, size_t batch,
                                           bool backward, bool bf16);
void product_bound_free(struct product_bound *bound);
void product_bound_run(struct product_bound *bound);
double product_bound_flops(const struct product_bound *bound);

#endif
