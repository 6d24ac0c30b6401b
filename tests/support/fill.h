#ifndef TESTS_SUPPORT_FILL_H
#define TESTS_SUPPORT_FILL_H

#include "backends/network.h"

/* The formula that the golden files of architectures and trajectory were made with (METHODS.md):
 * u in [0, 1) for element i of the array called `name`. */
double fill_uniform(const char *name, size_t i);

/* values[i] = (2u - 1) * scale. */
void fill_signed(const char *name, double scale, float *values, size_t count);

/* A parameter's golden value. */
void fill_param(const struct dml_graph_param *param, float *values);

/* Of position embeddings stored for `grid` x `grid` patches, resampled for the graph's. */
void fill_positions(const struct dml_graph *graph, int param, size_t grid, float *values);

/* Writes them all to a network; `grid`: as above, 0 for the graph's own. */
void fill_network_stored(struct dml_network *network, size_t grid);

/* Writes them all to a network. */
void fill_network(struct dml_network *network);

#endif
