#include "nn/backbones/vit.h"

#include <stdio.h>

/* Dosovitskiy et al. 2021, with what DeiT (a distillation token), CLIP (a norm before) and DINOv2
 * (layer scale, registers) add. */

/* A residual branch: scaled and dropped where the network does so, then added to x. */
static int add_branch(struct dml_graph *g, const struct dml_vit *vit, int x, int branch,
                      const char *scale, float drop_path) {
    if (vit->layer_scale)
        branch = dml_graph_layer_scale(g, branch, scale);
    if (drop_path > 0)
        branch = dml_graph_drop_path(g, branch, drop_path);
    return dml_graph_add(g, x, branch);
}

/* Block number `i`, pre-norm: attention, then a perceptron of one hidden layer. */
static int block(struct dml_graph *g, const struct dml_vit *vit, int x, int i, float drop_path) {
    char name[8][32];
    static const char *const parts[8] = {"norm1", "attn.qkv", "attn.proj", "ls1",
                                         "norm2", "mlp.fc1",  "mlp.fc2",   "ls2"};
    for (int k = 0; k < 8; k++)
        snprintf(name[k], sizeof name[k], "blocks.%d.%s", i, parts[k]);
    dml_graph_block(g);
    float epsilon = (float)vit->epsilon;
    int y = dml_graph_layer_norm(g, x, name[0], epsilon, true);
    y = dml_graph_linear(g, y, name[1], 3 * vit->width);
    y = dml_graph_attention(g, y, vit->heads);
    y = dml_graph_linear(g, y, name[2], vit->width);
    x = add_branch(g, vit, x, y, name[3], drop_path);
    y = dml_graph_layer_norm(g, x, name[4], epsilon, true);
    y = dml_graph_linear(g, y, name[5], 4 * vit->width);
    y = dml_graph_gelu(g, y, vit->quick_gelu);
    y = dml_graph_linear(g, y, name[6], vit->width);
    return add_branch(g, vit, x, y, name[7], drop_path);
}

/* Tokens to the feature: the norm comes after the mean of the patches, but before all else. */
static int feature(struct dml_graph *g, const struct dml_vit *vit, int x,
                   const struct dml_transformer_options *o) {
    float epsilon = (float)vit->epsilon;
    if (o->pool == DML_TOKENS_AVG) {
        x = dml_graph_token_pool(g, x, DML_TOKENS_AVG);
        x = dml_graph_layer_norm(g, x, "fc_norm", epsilon, true);
    } else {
        bool both = o->pool == DML_TOKENS_CLS && vit->distilled;
        x = dml_graph_layer_norm(g, x, "norm", epsilon, true);
        x = dml_graph_token_pool(g, x, both ? DML_TOKENS_DISTILLED : o->pool);
    }
    if (vit->projection && !o->no_projection)
        x = dml_graph_linear_bare(g, x, "head", vit->projection);
    return x;
}

int dml_vit_build(struct dml_graph *g, const struct dml_vit *vit,
                  const struct dml_backbone_context *c, const struct dml_transformer_options *o) {
    int patches = c->image_size / vit->patch;
    if (patches < 1 || c->image_size % vit->patch)
        return dml_graph_fail(
            g,
            dml_fail(DML_ERROR_USAGE, "patches of %d pixels do not divide the image; %d would fit",
                     vit->patch, patches < 1 ? vit->patch : patches * vit->patch));
    const struct dml_token_settings tokens = {.distilled = vit->distilled,
                                              .registers = vit->registers,
                                              .deviation = vit->loud_tokens ? 0.02f : 1e-6f,
                                              .positions = o->positions};
    const struct dml_input_transform input = {
        {vit->mean[0], vit->mean[1], vit->mean[2]}, {vit->std[0], vit->std[1], vit->std[2]}, false};
    dml_graph_set_input(g, &input);
    dml_graph_set_init(g, DML_INIT_TRANSFORMER);
    int x = dml_graph_input(g, 3, c->image_size, c->image_size);
    x = dml_graph_conv(g, x, "patch_embed.proj", vit->width, vit->patch, vit->patch, 0, !vit->clip);
    x = dml_graph_tokens(g, x, &tokens);
    if (vit->clip)
        x = dml_graph_layer_norm(g, x, "norm_pre", (float)vit->epsilon, true);
    for (int i = 0; i < vit->depth; i++)
        x = block(g, vit, x, i,
                  vit->depth > 1 ? (float)o->drop_path * (float)i / (float)(vit->depth - 1) : 0);
    dml_graph_last_layer(g);
    return dml_graph_head(g, feature(g, vit, x, o), "last_linear", c->embed_dim, &o->head);
}
