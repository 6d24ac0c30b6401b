#ifndef DML_CPU_UNITS_H
#define DML_CPU_UNITS_H

#include "backends/cpu/layout.h"
#include "nn/graph.h"

/* A graph's nodes, grouped into what is computed in one go. A unit makes one tensor, and a tensor
 * is named by the unit that makes it. */
enum cpu_unit_kind {
    CPU_INPUT,     /* pixels to floats, an affine right behind it included */
    CPU_CONV,      /* relu?(conv, with its batch norm folded in, + residual) */
    CPU_NORM,      /* relu?(batch norm with the batch's statistics + residual) */
    CPU_POINTWISE, /* relu?(affine or frozen batch norm of the input + residual) */
    CPU_MAX_POOL,
    CPU_AVG_POOL,
    CPU_GLOBAL_AVG_POOL,
    CPU_GLOBAL_MAX_POOL,
    CPU_GLOBAL_GEM_POOL,
    CPU_CONCAT,
    CPU_LINEAR, /* of vectors, or of tokens + residual */
    CPU_L2_NORMALIZE,
    CPU_LAYER_NORM,
    CPU_PATCHES, /* a convolution of the image to patches, where only tokens are made of it */
    CPU_TOKENS,
    CPU_ATTENTION,
    CPU_GELU,
    CPU_LAYER_SCALE, /* gamma * tokens + residual */
    CPU_DROP_PATH,   /* tokens, or 0 for some images, + residual */
    CPU_TOKEN_POOL,
};

struct cpu_unit {
    enum cpu_unit_kind kind;
    int node;   /* the conv, pool, ...; of CPU_POINTWISE the add, relu or affine */
    int norm;   /* batch norm node, or -1 */
    int affine; /* affine node, or -1 */
    int inputs[DML_GRAPH_MAX_INPUTS], input_count; /* units */
    int residual;                                  /* unit, or -1 */
    bool relu;
    int last_node; /* whose value the unit's tensor is */
    struct cpu_layout layout;
    int consumers;     /* uses of its tensor */
    int last_consumer; /* the last unit that uses it */
    bool needs_grad;   /* it or what it is made from has learnable parameters */
};

struct cpu_units {
    struct cpu_unit *units;
    int count, output;
};

/* Whether the convolution `node` is computed as CPU_PATCHES: its windows lie side by side. */
bool cpu_is_patches(const struct dml_graph *graph, int node);

/* `fold`: batch norms use their running statistics, and those behind a convolution become part of
 * it. `block`: channels per group. `element`: of feature maps; what global pools, linear layers and
 * normalisation make is float32, and so the embeddings must be. */
enum dml_status cpu_units_make(const struct dml_graph *graph, bool fold, int block,
                               enum cpu_element element, struct cpu_units *out);
void cpu_units_free(struct cpu_units *units);

#endif
