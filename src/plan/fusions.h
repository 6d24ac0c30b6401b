#ifndef DML_PLAN_FUSIONS_H
#define DML_PLAN_FUSIONS_H

#include "nn/graph.h"
#include "plan/layout.h"

struct plan_traits;

/* A graph's nodes, grouped into what is computed in one go. A fusion makes one tensor, and a tensor
 * is named by the fusion that makes it. */
enum plan_fusion_kind {
    PLAN_FUSION_INPUT,     /* pixels to floats, an affine right after it included */
    PLAN_FUSION_CONV,      /* relu?(conv, with its batch norm folded in, + residual) */
    PLAN_FUSION_NORM,      /* relu?(batch norm with the batch's statistics + residual) */
    PLAN_FUSION_POINTWISE, /* relu?(affine or frozen batch norm of the input + residual) */
    PLAN_FUSION_MAX_POOL,
    PLAN_FUSION_AVG_POOL,
    PLAN_FUSION_GLOBAL_AVG_POOL,
    PLAN_FUSION_GLOBAL_MAX_POOL,
    PLAN_FUSION_GLOBAL_GEM_POOL,
    PLAN_FUSION_CONCAT,
    PLAN_FUSION_L2_NORMALIZE,
    /* Operations, planned alike: plan_is_operation. */
    PLAN_FUSION_LINEAR, /* of vectors, or of tokens + residual */
    PLAN_FUSION_LAYER_NORM,
    PLAN_FUSION_PATCHES, /* a convolution of the image to patches that only become tokens
                          */
    PLAN_FUSION_TOKENS,
    PLAN_FUSION_ATTENTION,
    PLAN_FUSION_GELU,
    PLAN_FUSION_LAYER_SCALE, /* gamma * tokens + residual */
    PLAN_FUSION_DROP_PATH,   /* tokens, or 0 for some images, + residual */
    PLAN_FUSION_TOKEN_POOL,
};

static inline bool plan_is_operation(enum plan_fusion_kind kind) {
    return kind >= PLAN_FUSION_LINEAR;
}
const char *plan_fusion_name(enum plan_fusion_kind kind); /* for messages: "attention" */

struct plan_fusion {
    enum plan_fusion_kind kind;
    int node;   /* the conv, pool, ...; of PLAN_FUSION_POINTWISE the add, relu or affine */
    int norm;   /* batch norm node, or -1 */
    int affine; /* affine node, or -1 */
    int inputs[DML_GRAPH_MAX_INPUTS], input_count; /* fusions */
    int residual;                                  /* fusion, or -1 */
    bool relu;
    int last_node; /* whose value the fusion's tensor is */
    int grain;     /* channels of its layout come in multiples of this */
    struct plan_layout layout;
    int consumers;     /* uses of its tensor */
    int last_consumer; /* the last fusion that uses it */
    bool needs_grad;   /* it or what it is made from has learnable parameters */
    bool overwrites;   /* writes its result over its residual */
};

struct plan_fusions {
    struct plan_fusion *fusions;
    int count, output;
};

/* Whether the convolution `node` may be PLAN_FUSION_PATCHES: its windows lie side by side. */
bool plan_is_patches(const struct dml_graph *graph, int node);

/* Whether the fusion's tensor is tokens that have the traits' element for them: nothing is added to
 * them, and all that use them are products or what scales them for one. (The sums of a
 * transformer's residuals, and what is normalised or pooled, stay float32.) Consumers must be
 * linked. */
bool plan_narrows(const struct dml_graph *graph, const struct plan_fusions *all, int fusion);

/* `fold`: batch norms use their running statistics, and those after a convolution become part of
 * it. What global pools, linear layers and normalisation make is float32, whatever the traits'
 * element, and embeddings must be float32. DML_ERROR_UNSUPPORTED: the backend cannot compute the
 * graph. */
enum dml_status plan_fusions_make(const struct dml_graph *graph, bool fold,
                                  const struct plan_traits *traits, struct plan_fusions *out);
void plan_fusions_free(struct plan_fusions *fusions);

#endif
