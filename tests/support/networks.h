#ifndef TESTS_SUPPORT_NETWORKS_H
#define TESTS_SUPPORT_NETWORKS_H

#include "support/tested.h"

/* A network on the tested backend with random parameters, random pixels and a random gradient. */
struct setting {
    struct dml_graph *graph;
    struct dml_network *network;
    struct dml_images images;
    uint8_t *pixels;
    size_t dim;
    float *embeddings, *grad;
};

/* Takes the graph over; sets options.batch_hint to n. Failures fail the test. */
void open_network(struct setting *s, struct dml_graph *graph, size_t n,
                  struct dml_network_options options);
void close_network(struct setting *s);

/* Of an architecture, 16 dimensions. */
struct dml_graph *graph_of(const char *arch, int size);

/* Every kind of node that the backbones do not use, odd channel counts, rectangular windows, pools
 * that overhang, tensors used more than once; 7 dimensions. */
struct dml_graph *unusual_graph(bool frozen);

/* Tensors that live on in a concatenation while their backward pass or another node needs them;
 * 7 dimensions. */
struct dml_graph *sharing_graph(bool frozen);

/* A forward pass; the sum of embeddings times grad. */
double loss_of(struct setting *s);

/* Fails unless the gradient of each parameter agrees with finite differences along itself, for 6
 * images: loss(w + h g) - loss(w - h g) = 2 h ||g||^2. Takes the graph over. */
void check_differences(struct dml_graph *graph);

/* Forward, backward, and step `index` (from 1) of Adam with a rate of 1e-3. */
void train_step(struct setting *s, int64_t index);

/* Values, gradients and moments of a network to one of the same graph. */
void copy_parameters(const struct setting *from, struct setting *to);

/* What a slot of parameter p holds; free() it. */
float *read_param(const struct setting *s, int p, enum dml_slot slot);

/* Asserts ||a - b|| <= tolerance * ||b||. */
void close_to(const float *a, const float *b, size_t count, double tolerance);

/* Makes --precision bf16 work on the CPU backend: natively, or emulated where the processor has
 * none. On a backend that has no bf16 the test says so and is left out. */
void need_bf16(void);

#endif
