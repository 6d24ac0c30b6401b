#include "dml/graph.h"

#include <stdio.h>

/* He, Zhang, Ren, Sun 2016, table 1, and what was made from it: wider bottlenecks (Zagoruyko and
 * Komodakis 2016), bottlenecks in groups (Xie et al. 2017). As in torchvision, a bottleneck's
 * stride is in its 3x3 convolution, not in the first 1x1. */

struct variant;
typedef int block_builder(struct dml_graph *g, int x, const char *prefix, int width, int stride,
                          bool first, const struct variant *v);

/* How a network of the family differs from the others. */
struct variant {
    block_builder *block;
    int blocks[4];   /* in each of the four stages */
    int groups;      /* of a bottleneck's 3x3 convolution */
    int group_width; /* its channels per group in the first stage; 64 in one group: the paper's */
};

static int norm(struct dml_graph *g, int x, const char *name) {
    return dml_graph_batch_norm(g, x, name, 1e-5f, 0.1f);
}

/* Convolution and batch norm number `i` of the block called `prefix`. */
static int unit(struct dml_graph *g, int x, const char *prefix, int i, int channels, int kernel,
                int stride, int groups) {
    char conv[DML_GRAPH_NAME], bn[DML_GRAPH_NAME];
    snprintf(conv, sizeof conv, "%s.conv%d", prefix, i);
    snprintf(bn, sizeof bn, "%s.bn%d", prefix, i);
    x = dml_graph_conv_grouped(g, x, conv, channels, kernel, stride, kernel / 2, groups, false);
    return norm(g, x, bn);
}

static int shortcut(struct dml_graph *g, int x, const char *prefix, int channels, int stride) {
    char conv[DML_GRAPH_NAME], bn[DML_GRAPH_NAME];
    snprintf(conv, sizeof conv, "%s.downsample.0", prefix);
    snprintf(bn, sizeof bn, "%s.downsample.1", prefix);
    return norm(g, dml_graph_conv(g, x, conv, channels, 1, stride, 0, false), bn);
}

static int basic_block(struct dml_graph *g, int x, const char *prefix, int width, int stride,
                       bool first, const struct variant *v) {
    (void)v;
    int y = dml_graph_relu(g, unit(g, x, prefix, 1, width, 3, stride, 1));
    y = unit(g, y, prefix, 2, width, 3, 1, 1);
    if (first && stride > 1)
        x = shortcut(g, x, prefix, width, stride);
    return dml_graph_relu(g, dml_graph_add(g, y, x));
}

static int bottleneck(struct dml_graph *g, int x, const char *prefix, int width, int stride,
                      bool first, const struct variant *v) {
    int inner = width * v->group_width / 64 * v->groups;
    int y = dml_graph_relu(g, unit(g, x, prefix, 1, inner, 1, 1, 1));
    y = dml_graph_relu(g, unit(g, y, prefix, 2, inner, 3, stride, v->groups));
    y = unit(g, y, prefix, 3, 4 * width, 1, 1, 1);
    if (first)
        x = shortcut(g, x, prefix, 4 * width, stride);
    return dml_graph_relu(g, dml_graph_add(g, y, x));
}

static int build(struct dml_graph *g, const struct dml_backbone_context *c, const void *options) {
    const struct variant *v = c->backbone->data;
    dml_graph_set_input(g, &DML_IMAGENET_INPUT);
    dml_graph_set_init(g, DML_INIT_KAIMING_NORMAL);
    int x = dml_graph_input(g, 3, c->image_size, c->image_size);
    x = dml_graph_relu(g, norm(g, dml_graph_conv(g, x, "conv1", 64, 7, 2, 3, false), "bn1"));
    x = dml_graph_max_pool(g, x, 3, 2, 1, false);
    for (int stage = 0; stage < 4; stage++)
        for (int i = 0; i < v->blocks[stage]; i++) {
            char prefix[32];
            dml_graph_block(g);
            snprintf(prefix, sizeof prefix, "layer%d.%d", stage + 1, i);
            x = v->block(g, x, prefix, 64 << stage, stage && !i ? 2 : 1, !i, v);
        }
    return dml_graph_pooled_head(g, x, "last_linear", c->embed_dim, options);
}

/* clang-format off */
static const struct variant
    variant18 =  {basic_block, {2, 2,  2, 2},  1,  64},
    variant34 =  {basic_block, {3, 4,  6, 3},  1,  64},
    variant50 =  {bottleneck,  {3, 4,  6, 3},  1,  64},
    variant101 = {bottleneck,  {3, 4, 23, 3},  1,  64},
    variant152 = {bottleneck,  {3, 8, 36, 3},  1,  64},
    wide50 =     {bottleneck,  {3, 4,  6, 3},  1, 128},
    wide101 =    {bottleneck,  {3, 4, 23, 3},  1, 128},
    next50 =     {bottleneck,  {3, 4,  6, 3}, 32,   4},
    next101 =    {bottleneck,  {3, 4, 23, 3}, 32,   8};
/* clang-format on */

static const char paper[] =
    "He, Zhang, Ren, Sun 2016, Deep residual learning for image recognition";
static const char wide_paper[] = "Zagoruyko, Komodakis 2016, Wide residual networks";
static const char next_paper[] =
    "Xie, Girshick, Dollar, Tu, He 2017, Aggregated residual transformations for deep neural "
    "networks";

const struct dml_backbone dml_backbone_resnet18 = {
    .method = {"resnet18", "18 layers of basic blocks: for small machines and small images", paper,
               &dml_convolutional_params},
    .weights_file = "resnet18.pth",
    .weights_from = "https://download.pytorch.org/models/resnet18-5c106cde.pth",
    .timm = "resnet18.tv_in1k",
    .crop = 224,
    .build = build,
    .data = &variant18,
};

const struct dml_backbone dml_backbone_resnet34 = {
    .method = {"resnet34", "34 layers of basic blocks", paper, &dml_convolutional_params},
    .weights_file = "resnet34.pth",
    .weights_from = "https://download.pytorch.org/models/resnet34-b627a593.pth",
    .timm = "resnet34.tv_in1k",
    .crop = 224,
    .build = build,
    .data = &variant34,
};

const struct dml_backbone dml_backbone_resnet50 = {
    .method = {"resnet50", "50 layers of bottleneck blocks: the study's default", paper,
               &dml_convolutional_params},
    .weights_file = "resnet50.pth",
    .weights_from = "https://download.pytorch.org/models/resnet50-19c8e357.pth",
    .timm = "resnet50.tv_in1k",
    .crop = 224,
    .build = build,
    .data = &variant50,
};

const struct dml_backbone dml_backbone_resnet101 = {
    .method = {"resnet101", "101 layers of bottleneck blocks", paper, &dml_convolutional_params},
    .weights_file = "resnet101.pth",
    .weights_from = "https://download.pytorch.org/models/resnet101-63fe2227.pth",
    .timm = "resnet101.tv_in1k",
    .crop = 224,
    .build = build,
    .data = &variant101,
};

const struct dml_backbone dml_backbone_resnet152 = {
    .method = {"resnet152", "152 layers of bottleneck blocks", paper, &dml_convolutional_params},
    .weights_file = "resnet152.pth",
    .weights_from = "https://download.pytorch.org/models/resnet152-394f9c45.pth",
    .timm = "resnet152.tv_in1k",
    .crop = 224,
    .build = build,
    .data = &variant152,
};

const struct dml_backbone dml_backbone_wide_resnet50_2 = {
    .method = {"wide_resnet50_2", "resnet50 with 3x3 convolutions of twice as many channels",
               wide_paper, &dml_convolutional_params},
    .weights_file = "wide_resnet50_2.pth",
    .weights_from = "https://download.pytorch.org/models/wide_resnet50_2-95faca4d.pth",
    .timm = "wide_resnet50_2.tv_in1k",
    .crop = 224,
    .build = build,
    .data = &wide50,
};

const struct dml_backbone dml_backbone_wide_resnet101_2 = {
    .method = {"wide_resnet101_2", "resnet101 with 3x3 convolutions of twice as many channels",
               wide_paper, &dml_convolutional_params},
    .weights_file = "wide_resnet101_2.pth",
    .weights_from = "https://download.pytorch.org/models/wide_resnet101_2-32ee1156.pth",
    .timm = "wide_resnet101_2.tv_in1k",
    .crop = 224,
    .build = build,
    .data = &wide101,
};

const struct dml_backbone dml_backbone_resnext50_32x4d = {
    .method = {"resnext50_32x4d",
               "resnet50 with 3x3 convolutions in 32 groups, of 4 channels in the first stage",
               next_paper, &dml_convolutional_params},
    .weights_file = "resnext50_32x4d.pth",
    .weights_from = "https://download.pytorch.org/models/resnext50_32x4d-7cdf4587.pth",
    .timm = "resnext50_32x4d.tv_in1k",
    .crop = 224,
    .build = build,
    .data = &next50,
};

const struct dml_backbone dml_backbone_resnext101_32x8d = {
    .method = {"resnext101_32x8d",
               "resnet101 with 3x3 convolutions in 32 groups, of 8 channels in the first stage",
               next_paper, &dml_convolutional_params},
    .weights_file = "resnext101_32x8d.pth",
    .weights_from = "https://download.pytorch.org/models/resnext101_32x8d-8ba56ff5.pth",
    .timm = "resnext101_32x8d.tv_in1k",
    .crop = 224,
    .build = build,
    .data = &next101,
};
