#ifndef DML_PLAN_UNITS_H
#define DML_PLAN_UNITS_H

#include "nn/graph.h"
#include "plan/layout.h"

struct plan_traits;

/* A graph's nodes, grouped into what is computed in one go. A unit makes one tensor, and a tensor
 * is named by the unit that makes it. */
enum plan_unit_kind {
    PLAN_UNIT_INPUT,     /* pixels to floats, an affine right after it included */
    PLAN_UNIT_CONV,      /* relu?(conv, with its batch norm folded in, + residual) */
    PLAN_UNIT_NORM,      /* relu?(batch norm with the batch's statistics + residual) */
    PLAN_UNIT_POINTWISE, /* relu?(affine or frozen batch norm of the input + residual) */
    PLAN_UNIT_MAX_POOL,
    PLAN_UNIT_AVG_POOL,
    PLAN_UNIT_GLOBAL_AVG_POOL,
    PLAN_UNIT_GLOBAL_MAX_POOL,
    PLAN_UNIT_GLOBAL_GEM_POOL,
    PLAN_UNIT_CONCAT,
    PLAN_UNIT_L2_NORMALIZE,
    /* Operations, planned alike: plan_is_operation. */
    PLAN_UNIT_LINEAR, /* of vectors, or of tokens + residual */
    PLAN_UNIT_LAYER_NORM,
    PLAN_UNIT_PATCHES, /* a convolution of the image to patches, where only tokens are made of it */
    PLAN_UNIT_TOKENS,
    PLAN_UNIT_ATTENTION,
    PLAN_UNIT_GELU,
    PLAN_UNIT_LAYER_SCALE, /* gamma * tokens + residual */
    PLAN_UNIT_DROP_PATH,   /* tokens, or 0 for some images, + residual */
    PLAN_UNIT_TOKEN_POOL,
};

static inline bool plan_is_operation(enum plan_unit_kind kind) {
    return kind >= PLAN_UNIT_LINEAR;
}
const char *plan_unit_name(enum plan_unit_kind kind); /* for messages: "attention" */

struct plan_unit {
    enum plan_unit_kind kind;
    int node;   /* the conv, pool, ...; of PLAN_UNIT_POINTWISE the add, relu or affine */
    int norm;   /* batch norm node, or -1 */
    int affine; /* affine node, or -1 */
    int inputs[DML_GRAPH_MAX_INPUTS], input_count; /* units */
    int residual;                                  /* unit, or -1 */
    bool relu;
    int last_node; /* whose value the unit's tensor is */
    int grain;     /* channels of its layout come in multiples of this */
    struct plan_layout layout;
    int consumers;     /* uses of its tensor */
    int last_consumer; /* the last unit that uses it */
    bool needs_grad;   /* it or what it is made from has learnable parameters */
    bool overwrites;   /* writes its result over its residual */
};

struct plan_units {
    struct plan_unit *units;
    int count, output;
};

/* Whether the convolution `node` may be PLAN_UNIT_PATCHES: its windows lie side by side. */
bool plan_is_patches(const struct dml_graph *graph, int node);

/* `fold`: batch norms use their running statistics, and those after a convolution become part of
 * it. What global pools, linear layers and normalisation make is float32, whatever the traits'
 * element, and so the embeddings must be. DML_ERROR_UNSUPPORTED: the backend cannot compute the
 * graph. */
enum dml_status plan_units_make(const struct dml_graph *graph, bool fold,
                                const struct plan_traits *traits, struct plan_units *out);
void plan_units_free(struct plan_units *units);

#endif
