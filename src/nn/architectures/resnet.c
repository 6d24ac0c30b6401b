#include "nn/architectures/architectures.h"

#include <stdio.h>

/* He, Zhang, Ren, Sun 2016, table 1. As in torchvision, the bottleneck's stride is in its 3x3
 * convolution, not in the first 1x1. */

static int conv_norm(struct dml_graph *g, int x, const char *conv, const char *norm, int channels,
                     int kernel, int stride, int pad) {
    x = dml_graph_conv(g, x, conv, channels, kernel, stride, pad, false);
    return dml_graph_batch_norm(g, x, norm, 1e-5f, 0.1f);
}

/* conv_norm number `i` of the block called `prefix`. */
static int unit(struct dml_graph *g, int x, const char *prefix, int i, int channels, int kernel,
                int stride) {
    char conv[DML_GRAPH_NAME], norm[DML_GRAPH_NAME];
    snprintf(conv, sizeof conv, "%s.conv%d", prefix, i);
    snprintf(norm, sizeof norm, "%s.bn%d", prefix, i);
    return conv_norm(g, x, conv, norm, channels, kernel, stride, kernel / 2);
}

static int shortcut(struct dml_graph *g, int x, const char *prefix, int channels, int stride) {
    char conv[DML_GRAPH_NAME], norm[DML_GRAPH_NAME];
    snprintf(conv, sizeof conv, "%s.downsample.0", prefix);
    snprintf(norm, sizeof norm, "%s.downsample.1", prefix);
    return conv_norm(g, x, conv, norm, channels, 1, stride, 0);
}

static int basic_block(struct dml_graph *g, int x, const char *prefix, int width, int stride,
                       bool first) {
    int y = dml_graph_relu(g, unit(g, x, prefix, 1, width, 3, stride));
    y = unit(g, y, prefix, 2, width, 3, 1);
    if (first && stride > 1)
        x = shortcut(g, x, prefix, width, stride);
    return dml_graph_relu(g, dml_graph_add(g, y, x));
}

static int bottleneck(struct dml_graph *g, int x, const char *prefix, int width, int stride,
                      bool first) {
    int y = dml_graph_relu(g, unit(g, x, prefix, 1, width, 1, 1));
    y = dml_graph_relu(g, unit(g, y, prefix, 2, width, 3, stride));
    y = unit(g, y, prefix, 3, 4 * width, 1, 1);
    if (first)
        x = shortcut(g, x, prefix, 4 * width, stride);
    return dml_graph_relu(g, dml_graph_add(g, y, x));
}

typedef int block_builder(struct dml_graph *g, int x, const char *prefix, int width, int stride,
                          bool first);

/* `blocks`: how many in each of the four stages. */
static int resnet(struct dml_graph *g, const struct dml_architecture_options *o,
                  block_builder *block, const int blocks[4]) {
    g->input = DML_IMAGENET_INPUT;
    g->weight_init = DML_INIT_KAIMING_NORMAL;
    int x = dml_graph_input(g, 3, o->image_size, o->image_size);
    x = dml_graph_relu(g, conv_norm(g, x, "conv1", "bn1", 64, 7, 2, 3));
    x = dml_graph_max_pool(g, x, 3, 2, 1, false);
    for (int stage = 0; stage < 4; stage++)
        for (int i = 0; i < blocks[stage]; i++) {
            char prefix[32];
            g->layer++;
            snprintf(prefix, sizeof prefix, "layer%d.%d", stage + 1, i);
            x = block(g, x, prefix, 64 << stage, stage && !i ? 2 : 1, !i);
        }
    return dml_graph_head(g, dml_graph_pool(g, x, o), "last_linear", o);
}

static int build_resnet18(struct dml_graph *graph, const struct dml_architecture_options *o) {
    return resnet(graph, o, basic_block, (int[]){2, 2, 2, 2});
}

static int build_resnet50(struct dml_graph *graph, const struct dml_architecture_options *o) {
    return resnet(graph, o, bottleneck, (int[]){3, 4, 6, 3});
}

static const char paper[] =
    "He, Zhang, Ren, Sun 2016, Deep residual learning for image recognition";

const struct dml_architecture dml_resnet18 = {
    .name = "resnet18",
    .summary = "18 layers of basic blocks: for small machines and small images",
    .paper = paper,
    .weights_file = "resnet18.pth",
    .weights_from = "https://download.pytorch.org/models/resnet18-5c106cde.pth",
    .crop = 224,
    .build = build_resnet18,
    .options = dml_convolutional_options,
};

const struct dml_architecture dml_resnet50 = {
    .name = "resnet50",
    .summary = "50 layers of bottleneck blocks: the study's default",
    .paper = paper,
    .weights_file = "resnet50.pth",
    .weights_from = "https://download.pytorch.org/models/resnet50-19c8e357.pth",
    .crop = 224,
    .build = build_resnet50,
    .options = dml_convolutional_options,
};
