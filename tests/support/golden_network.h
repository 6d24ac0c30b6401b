#ifndef TESTS_SUPPORT_GOLDEN_NETWORK_H
#define TESTS_SUPPORT_GOLDEN_NETWORK_H

#include "backends/network.h"
#include "support/golden.h"
#include "support/tested.h"

/* Networks with golden weights, and how far what they compute is from golden values. */

/* How a case is computed. */
struct how {
    size_t micro;
    enum dml_precision precision;
};

/* The network of one case on the tested backend, and its input. */
struct golden_case {
    struct dml_graph *graph;
    struct dml_network *network;
    size_t batch, dim;
    float *input, *embeddings;
};

/* Builds `arch` as typed, of `dim` dimensions (0: those of the feature) at `size` pixels, and fills
 * it. */
void golden_case_open(struct golden_case *s, const char *arch, int dim, int size, size_t batch,
                      struct how how);
void golden_case_close(struct golden_case *s);
struct dml_images golden_case_images(const struct golden_case *s);

/* The backward pass from the golden gradient of the embeddings. */
void golden_case_backward(struct golden_case *s);

/* How far the embeddings are from the golden ones (batch, dim): the largest difference of a
 * component, and the least cosine of two embeddings of an image. */
struct errors {
    double component, cosine;
};
struct errors golden_embedding_errors(const struct golden_case *s, const double *expected);

/* The sum of the p-th powers of a parameter's absolute values. */
double golden_power_sum(const struct golden_case *s, int param, enum dml_slot slot, int power);

/* Fails unless every gradient's norm is within `tolerance`; returns the largest error. Norms of a
 * tensor are compared relative to the larger of itself and a thousandth of the largest
 * (METHODS.md). One in 50 may be up to ten times as far off: of millions of pre-activations float32
 * puts one or two on the other side of 0, which few tensors' gradients notice. */
double golden_check_norms(const struct golden_case *s, const cJSON *norms, double tolerance);

/* The distance of all gradient norms, as one vector, from the expected ones, relative. */
double golden_norms_error(const struct golden_case *s, const cJSON *norms);

/* Names and shapes of the graph's parameters, in order, are those of a state_dict.json. */
void golden_check_names(const struct dml_graph *graph, const cJSON *expected);

#endif
