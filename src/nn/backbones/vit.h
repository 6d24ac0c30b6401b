#ifndef DML_NN_VIT_H
#define DML_NN_VIT_H

#include "dml/graph.h"

/* A vision transformer as a row of its paper's table. */
struct dml_vit {
    int width, heads, patch, depth;
    int registers;
    bool distilled;   /* a second token, for the teacher's labels: DeiT */
    bool layer_scale; /* DINOv2 */
    bool clip;        /* a norm before the first block, no bias in the patch embedding */
    bool quick_gelu;
    int projection;          /* outputs of CLIP's own last linear layer; 0: none */
    double epsilon;          /* of its layer norms */
    bool loud_tokens;        /* learned tokens start as N(0, 0.02^2), not N(0, 1e-12) */
    const float *mean, *std; /* of the input: three values each */
};

struct dml_transformer_options {
    struct dml_head_options head;
    enum dml_token_pool pool;
    enum dml_position_rule positions;
    double drop_path;   /* of the last block; it grows linearly from 0 in the first */
    bool no_projection; /* CLIP without its own last layer */
};

/* Appends the whole network to an empty graph; returns the index of its last node. Parameters have
 * timm's names. The image's side must be a multiple of the patch's. */
int dml_vit_build(struct dml_graph *graph, const struct dml_vit *vit,
                  const struct dml_backbone_context *context,
                  const struct dml_transformer_options *o);

#endif
