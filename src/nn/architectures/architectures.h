#ifndef DML_NN_ARCHITECTURES_H
#define DML_NN_ARCHITECTURES_H

#include "nn/graph.h"

/* One descriptor per backbone, each family in its own file; registry.c lists them. */
extern const struct dml_architecture dml_resnet18, dml_resnet34, dml_resnet50, dml_resnet101,
    dml_resnet152, dml_wide_resnet50_2, dml_wide_resnet101_2, dml_resnext50_32x4d,
    dml_resnext101_32x8d, dml_googlenet, dml_bninception;

/* The options of all convolutional backbones. */
extern const char *const dml_convolutional_options[];

/* Mean and standard deviation of ImageNet's RGB values: the input of most backbones. */
#define DML_IMAGENET_INPUT                                                                         \
    (struct dml_input_transform) {                                                                 \
        {0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}, false                                  \
    }

#endif
