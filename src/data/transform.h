#ifndef DML_DATA_TRANSFORM_H
#define DML_DATA_TRANSFORM_H

#include "dml/rng.h"

#include <stdbool.h>
#include <stdint.h>

/* Which pixels of an image the network sees. */
enum dml_transform_kind {
    DML_TRANSFORM_EVALUATION, /* shorter side to resize, centre crop */
    DML_TRANSFORM_BASE,       /* random resized crop, flip */
    DML_TRANSFORM_ADVANCED,   /* --augmentation adv */
    DML_TRANSFORM_BIG,        /* crops of 256 */
    DML_TRANSFORM_REDUCED,    /* --augmentation red: resize, random crop, flip */
};

struct dml_transform {
    enum dml_transform_kind kind;
    int crop;        /* side of the result: 224, googlenet 227, or --image_size */
    int resize;      /* shorter side before a centre or random crop: 256, scaled with image_size */
    double area_min; /* of random resized crops, 0.08 */
};

#endif
