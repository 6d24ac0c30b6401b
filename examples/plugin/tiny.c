/* A small backbone of your own: residual blocks of two 3x3 convolutions, in three stages. Its
 * options are written after its name: --arch tiny_width32_normalize. */
#include <dml/graph.h>
#include <dml/plugin.h>

#include <stdio.h>

struct options {
    struct dml_head_options head; /* _normalize, _mlp and so on, as all backbones have them */
    int64_t width;
    bool wide_stem;
};

static const struct dml_param params[] = {
    DML_HEAD_PARAMS(struct options, head),
    {.name = "width",
     .type = DML_PARAM_INT,
     .offset = offsetof(struct options, width),
     .fallback = "16",
     .min = 8,
     .max = 512,
     .help = "Channels of the first stage; each has twice as many as the one before."},
    {.name = "widestem",
     .type = DML_PARAM_FLAG,
     .offset = offsetof(struct options, wide_stem),
     .help = "7x7 pixels in the first convolution instead of 3x3."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Options of tiny", struct options, params);

/* A convolution, its batch norm and, if asked for, a relu; PyTorch's names "PREFIX.conv1.weight"
 * and "PREFIX.bn1.weight". */
static int layer(struct dml_graph *g, int x, const char *prefix, int number, int channels,
                 int kernel, int stride, bool relu) {
    char conv[DML_GRAPH_NAME], norm[DML_GRAPH_NAME];
    snprintf(conv, sizeof conv, "%s.conv%d", prefix, number);
    snprintf(norm, sizeof norm, "%s.bn%d", prefix, number);
    x = dml_graph_conv(g, x, conv, channels, kernel, stride, kernel / 2, false);
    x = dml_graph_batch_norm(g, x, norm, 1e-5f, 0.1f);
    return relu ? dml_graph_relu(g, x) : x;
}

static int block(struct dml_graph *g, int x, const char *prefix, int channels, int stride) {
    int y = layer(g, x, prefix, 1, channels, 3, stride, true);
    y = layer(g, y, prefix, 2, channels, 3, 1, false);
    if (stride > 1 || dml_graph_shape(g, x).channels != channels)
        x = layer(g, x, prefix, 3, channels, 1, stride, false);
    return dml_graph_relu(g, dml_graph_add(g, y, x));
}

static int build(struct dml_graph *g, const struct dml_backbone_context *c, const void *options) {
    const struct options *o = options;
    if (c->image_size < 16)
        return dml_graph_fail(
            g, dml_fail(DML_ERROR_USAGE, "images must have at least 16 pixels a side"));
    dml_graph_set_input(g, &DML_IMAGENET_INPUT);
    dml_graph_set_init(g, DML_INIT_KAIMING_NORMAL);
    int x = dml_graph_input(g, 3, c->image_size, c->image_size);
    x = layer(g, x, "stem", 1, (int)o->width, o->wide_stem ? 7 : 3, 2, true);
    for (int stage = 0; stage < 3; stage++) {
        char prefix[32];
        snprintf(prefix, sizeof prefix, "stage%d", stage + 1);
        dml_graph_block(g); /* what --freeze_layers and --layer_decay count */
        x = block(g, x, prefix, (int)o->width << stage, stage ? 2 : 1);
    }
    dml_graph_last_layer(g);
    return dml_graph_head(g, dml_graph_global_avg_pool(g, x), "last_linear", c->embed_dim,
                          &o->head);
}

static const struct dml_backbone tiny = {
    .method = {"tiny", "Three stages of one residual block each", NULL, &table},
    .crop = 64,
    .build = build,
};

static const struct dml_backbone *const backbones[] = {&tiny, NULL};

extern const struct dml_plugin dml_plugin;
const struct dml_plugin dml_plugin = {DML_PLUGIN_BUILT, .backbones = backbones};
