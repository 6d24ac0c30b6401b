#ifndef DML_TOY_NET_H
#define DML_TOY_NET_H

#include <stddef.h>
#include <stdint.h>

/* A network small enough to be written out: 2 -> 30 -> 30 -> 2 with relu between, its output
 * divided by its norm, so that an embedding is a point on the unit circle. */
enum { DML_TOY_HIDDEN = 30, DML_TOY_BATCH = 128 };

struct dml_toy_weights {
    double w1[DML_TOY_HIDDEN][2], b1[DML_TOY_HIDDEN];
    double w2[DML_TOY_HIDDEN][DML_TOY_HIDDEN], b2[DML_TOY_HIDDEN];
    double w3[2][DML_TOY_HIDDEN], b3[2];
};
enum { DML_TOY_WEIGHTS = sizeof(struct dml_toy_weights) / sizeof(double) };

struct dml_toy_net {
    struct dml_toy_weights weights, grad, moment1, moment2;
    int64_t step;
    /* Of the last forward, n rows. */
    size_t n;
    double input[DML_TOY_BATCH][2];
    double hidden1[DML_TOY_BATCH][DML_TOY_HIDDEN], hidden2[DML_TOY_BATCH][DML_TOY_HIDDEN];
    double norms[DML_TOY_BATCH], embeddings[DML_TOY_BATCH][2];
};

/* Weights as PyTorch initialises linear layers: uniform within 1 / sqrt(inputs). */
void dml_toy_net_init(struct dml_toy_net *net, uint64_t seed);

/* Embeds n <= DML_TOY_BATCH points (n, 2) into net->embeddings. */
void dml_toy_net_forward(struct dml_toy_net *net, const double (*points)[2], size_t n);

/* Gradients of the weights from dL/d(embeddings) (n, 2) of the last forward. */
void dml_toy_net_backward(struct dml_toy_net *net, const double (*grad)[2]);

/* A step of Adam (betas 0.9 and 0.999, epsilon 1e-8). */
void dml_toy_net_step(struct dml_toy_net *net, double lr);

#endif
