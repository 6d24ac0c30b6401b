#ifndef DML_NN_ARCHITECTURES_H
#define DML_NN_ARCHITECTURES_H

#include "nn/graph.h"

/* The options of all convolutional backbones. */
extern const char *const dml_convolutional_options[];

/* Mean and standard deviation of ImageNet's RGB values: the input of most backbones. */
#define DML_IMAGENET_INPUT                                                                         \
    (struct dml_input_transform) {                                                                 \
        {0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}, false                                  \
    }

#endif
