#include "dml/graph.h"

#include <stdio.h>

/* Szegedy et al. 2015, table 1, as torchvision has it: batch norm after every convolution, 3x3
 * where the paper has 5x5, and its weights' own input range of -1 to 1. The auxiliary classifiers
 * are not part of an embedding. */

/* The channels of an inception module, in the order of the paper's table. */
struct module {
    const char *name;
    int one, three_reduce, three, five_reduce, five, pool;
};

/* Convolution, batch norm and relu: torchvision's BasicConv2d. */
static int unit(struct dml_graph *g, int x, const char *name, int channels, int kernel,
                int stride) {
    char conv[DML_GRAPH_NAME], norm[DML_GRAPH_NAME];
    snprintf(conv, sizeof conv, "%.80s.conv", name);
    snprintf(norm, sizeof norm, "%.80s.bn", name);
    x = dml_graph_conv(g, x, conv, channels, kernel, stride, kernel / 2, false);
    return dml_graph_relu(g, dml_graph_batch_norm(g, x, norm, 1e-3f, 0.1f));
}

static int branch(struct dml_graph *g, int x, const char *module, const char *part, int channels,
                  int kernel) {
    char name[DML_GRAPH_NAME];
    snprintf(name, sizeof name, "%.64s.branch%s", module, part);
    return unit(g, x, name, channels, kernel, 1);
}

static int inception(struct dml_graph *g, int x, const struct module *m) {
    dml_graph_block(g);
    int one = branch(g, x, m->name, "1", m->one, 1);
    int three = branch(g, x, m->name, "2.0", m->three_reduce, 1);
    three = branch(g, three, m->name, "2.1", m->three, 3);
    int five = branch(g, x, m->name, "3.0", m->five_reduce, 1);
    five = branch(g, five, m->name, "3.1", m->five, 3);
    int pool = dml_graph_max_pool(g, x, 3, 1, 1, true);
    pool = branch(g, pool, m->name, "4.1", m->pool, 1);
    return dml_graph_concat(g, (int[]){one, three, five, pool}, 4);
}

/* From ImageNet's mean and deviation to (value - 0.5) / 0.5. */
static int transform_input(struct dml_graph *g, int x) {
    const struct dml_input_transform imagenet = DML_IMAGENET_INPUT;
    float scale[3], shift[3];
    for (int c = 0; c < 3; c++) {
        scale[c] = imagenet.std[c] / 0.5f;
        shift[c] = (imagenet.mean[c] - 0.5f) / 0.5f;
    }
    return dml_graph_affine(g, x, scale, shift);
}

static int build(struct dml_graph *g, const struct dml_backbone_context *c, const void *options) {
    /* clang-format off */
    /*                      1x1   3x3         5x5        pool
                                  reduce      reduce     projection */
    static const struct module stage3[] = {
        {"inception3a",      64,   96, 128,   16,  32,    32},
        {"inception3b",     128,  128, 192,   32,  96,    64}};
    static const struct module stage4[] = {
        {"inception4a",     192,   96, 208,   16,  48,    64},
        {"inception4b",     160,  112, 224,   24,  64,    64},
        {"inception4c",     128,  128, 256,   24,  64,    64},
        {"inception4d",     112,  144, 288,   32,  64,    64},
        {"inception4e",     256,  160, 320,   32, 128,   128}};
    static const struct module stage5[] = {
        {"inception5a",     256,  160, 320,   32, 128,   128},
        {"inception5b",     384,  192, 384,   48, 128,   128}};
    /* clang-format on */
    dml_graph_set_input(g, &DML_IMAGENET_INPUT);
    dml_graph_set_init(g, DML_INIT_TRUNCATED_NORMAL);
    int x = transform_input(g, dml_graph_input(g, 3, c->image_size, c->image_size));
    x = unit(g, x, "conv1", 64, 7, 2);
    x = dml_graph_max_pool(g, x, 3, 2, 0, true);
    x = unit(g, x, "conv2", 64, 1, 1);
    x = unit(g, x, "conv3", 192, 3, 1);
    x = dml_graph_max_pool(g, x, 3, 2, 0, true);
    for (int i = 0; i < 2; i++)
        x = inception(g, x, &stage3[i]);
    x = dml_graph_max_pool(g, x, 3, 2, 0, true);
    for (int i = 0; i < 5; i++)
        x = inception(g, x, &stage4[i]);
    x = dml_graph_max_pool(g, x, 2, 2, 0, true);
    for (int i = 0; i < 2; i++)
        x = inception(g, x, &stage5[i]);
    return dml_graph_pooled_head(g, x, "last_linear", c->embed_dim, options);
}

const struct dml_backbone dml_backbone_googlenet = {
    .method = {"googlenet", "22 layers of inception modules with batch norm, torchvision's",
               "Szegedy et al. 2015, Going deeper with convolutions", &dml_convolutional_params},
    .weights_file = "googlenet.pth",
    .weights_from = "https://download.pytorch.org/models/googlenet-1378be20.pth",
    .crop = 227,
    .build = build,
};
