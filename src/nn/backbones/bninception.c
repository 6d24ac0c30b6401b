#include "dml/graph.h"

#include <stdio.h>

/* Ioffe and Szegedy 2015, the network of their appendix (figure 5): inception modules with batch
 * norm and two 3x3 convolutions in place of the 5x5. Names and biases are those of the converted
 * Caffe model that Cadene publishes. */

/* The channels of a module. With `one` 0 it halves the image: its last convolutions have stride 2,
 * and so has the pool, which then has no projection. */
struct module {
    const char *name;
    int one, three_reduce, three, double_reduce, double_three, pool;
};

/* Convolution, batch norm and relu; `part` after the module's name. */
static int unit(struct dml_graph *g, int x, const char *module, const char *part, int channels,
                int kernel, int stride) {
    char conv[DML_GRAPH_NAME], norm[DML_GRAPH_NAME];
    snprintf(conv, sizeof conv, "%s_%s", module, part);
    snprintf(norm, sizeof norm, "%s_%s_bn", module, part);
    x = dml_graph_conv(g, x, conv, channels, kernel, stride, kernel / 2, true);
    return dml_graph_relu(g, dml_graph_batch_norm(g, x, norm, 1e-5f, 0.1f));
}

static int three(struct dml_graph *g, int x, const struct module *m, int stride) {
    x = unit(g, x, m->name, "3x3_reduce", m->three_reduce, 1, 1);
    return unit(g, x, m->name, "3x3", m->three, 3, stride);
}

static int double_three(struct dml_graph *g, int x, const struct module *m, int stride) {
    x = unit(g, x, m->name, "double_3x3_reduce", m->double_reduce, 1, 1);
    x = unit(g, x, m->name, "double_3x3_1", m->double_three, 3, 1);
    return unit(g, x, m->name, "double_3x3_2", m->double_three, 3, stride);
}

static int inception(struct dml_graph *g, int x, const struct module *m, bool max_pool) {
    int parts[4], count = 0, stride = m->one ? 1 : 2;
    dml_graph_block(g);
    if (m->one)
        parts[count++] = unit(g, x, m->name, "1x1", m->one, 1, 1);
    parts[count++] = three(g, x, m, stride);
    parts[count++] = double_three(g, x, m, stride);
    if (!m->one)
        parts[count++] = dml_graph_max_pool(g, x, 3, 2, 0, true);
    else {
        int pool = max_pool ? dml_graph_max_pool(g, x, 3, 1, 1, true)
                            : dml_graph_avg_pool(g, x, 3, 1, 1, true, true);
        parts[count++] = unit(g, pool, m->name, "pool_proj", m->pool, 1, 1);
    }
    return dml_graph_concat(g, parts, count);
}

static int build(struct dml_graph *g, const struct dml_backbone_context *c, const void *options) {
    /* clang-format off */
    /*                      1x1   3x3         double 3x3  pool
                                  reduce      reduce      projection */
    static const struct module modules[] = {
        {"inception_3a",     64,   64,  64,    64,  96,    32},
        {"inception_3b",     64,   64,  96,    64,  96,    64},
        {"inception_3c",      0,  128, 160,    64,  96,     0},
        {"inception_4a",    224,   64,  96,    96, 128,   128},
        {"inception_4b",    192,   96, 128,    96, 128,   128},
        {"inception_4c",    160,  128, 160,   128, 160,   128},
        {"inception_4d",     96,  128, 192,   160, 192,   128},
        {"inception_4e",      0,  128, 192,   192, 256,     0},
        {"inception_5a",    352,  192, 320,   160, 224,   128},
        {"inception_5b",    352,  192, 320,   192, 224,   128},
    };
    /* clang-format on */
    enum { COUNT = sizeof modules / sizeof modules[0] };
    /* Caffe's input: BGR in 0..255 minus its means, by way of the study's rounded constants. */
    const struct dml_input_transform caffe = {
        {0.502f, 0.4588f, 0.4078f}, {0.0039f, 0.0039f, 0.0039f}, true};
    dml_graph_set_input(g, &caffe);
    dml_graph_set_init(g, DML_INIT_UNIFORM);
    int x = dml_graph_input(g, 3, c->image_size, c->image_size);
    x = unit(g, x, "conv1", "7x7_s2", 64, 7, 2);
    x = dml_graph_max_pool(g, x, 3, 2, 0, true);
    x = unit(g, x, "conv2", "3x3_reduce", 64, 1, 1);
    x = unit(g, x, "conv2", "3x3", 192, 3, 1);
    x = dml_graph_max_pool(g, x, 3, 2, 0, true);
    for (int i = 0; i < COUNT; i++)
        x = inception(g, x, &modules[i], i == COUNT - 1);
    return dml_graph_pooled_head(g, x, "last_linear", c->embed_dim, options);
}

const struct dml_backbone dml_backbone_bninception = {
    .method = {"bninception", "Inception modules with batch norm, Caffe's input: BGR in 0..255",
               "Ioffe, Szegedy 2015, Batch normalization: accelerating deep network training by "
               "reducing internal covariate shift",
               &dml_convolutional_params},
    .weights_file = "bninception.pth",
    .weights_from = "http://data.lip6.fr/cadene/pretrainedmodels/bn_inception-52deb4733.pth",
    .crop = 224,
    .build = build,
};
