#ifndef DML_DATA_TRANSFORM_H
#define DML_DATA_TRANSFORM_H

#include "data/image.h"
#include "data/resize.h"
#include "dml/rng.h"

#include <stdbool.h>
#include <stdint.h>

/* The study's transforms of training images, as --augmentation has them. */
enum dml_augmentation {
    DML_AUGMENTATION_BASE,
    DML_AUGMENTATION_ADVANCED,
    DML_AUGMENTATION_BIG,
    DML_AUGMENTATION_REDUCED,
};

/* Which pixels of an image the network sees. */
enum dml_transform_kind {
    DML_TRANSFORM_EVALUATION, /* shorter side to resize, centre crop */
    DML_TRANSFORM_BASE,       /* random resized crop, flip */
    DML_TRANSFORM_ADVANCED,   /* --augmentation adv */
    DML_TRANSFORM_BIG,        /* crops of 256 */
    DML_TRANSFORM_REDUCED,    /* --augmentation red: resize, random crop, flip */
    DML_TRANSFORM_LIST,       /* --transforms */
};

struct dml_pipeline; /* data/pipeline.h */

struct dml_transform {
    enum dml_transform_kind kind;
    int crop;        /* side of the result: 224, googlenet 227, or --image_size */
    int resize;      /* shorter side before a centre or random crop: 256, scaled with image_size */
    double area_min; /* of random resized crops, 0.08 */
    /* The operations that make the images, or NULL. Must stay while the transform is used. */
    const struct dml_pipeline *list;
};

/* The transform of a run: `native` is the backbone's crop (224, googlenet 227), `image_size` the
 * flag (0: the backbone's own), `training` whether it is for training or for evaluation. */
struct dml_transform dml_transform_of(enum dml_augmentation augmentation, bool training, int native,
                                      int64_t image_size, double area_min);

/* What a transform draws for one image. Colours change in the order given. */
enum dml_color_change {
    DML_COLOR_BRIGHTNESS,
    DML_COLOR_CONTRAST,
    DML_COLOR_SATURATION,
    DML_COLOR_HUE
};
/* What an operation of a list draws; what the numbers mean is its own business. */
struct dml_drawn {
    bool on;
    int which[8];
    double values[8];
};
enum { DML_MOST_OPERATIONS = 16 };

struct dml_view {
    struct dml_scaling scaling; /* its part is crop x crop */
    bool gray, jitter;
    enum dml_color_change order[4];
    float factors[4]; /* by dml_color_change */

    /* With a list: the list, and what was drawn for each of its operations. */
    const struct dml_pipeline *list;
    int count;
    struct dml_drawn drawn[DML_MOST_OPERATIONS];
    struct dml_rect erased; /* 0 after normalising; width 0: nothing is */
};

/* Changes one of the four by a factor; hue by turns. `pixels` is (count, 3). */
void dml_color_change(enum dml_color_change change, float factor, uint8_t *pixels, size_t count);

/* RandomResizedCrop's box: ten tries of an area, as a share from scale[0] to scale[1], and an
 * aspect ratio from ratio[0] to ratio[1]; else the largest central crop of an allowed aspect. */
struct dml_rect dml_draw_box(const double scale[2], const double ratio[2], int width, int height,
                             struct dml_rng *rng);

/* Draws a view of an image of width x height, as torchvision does; evaluation draws nothing
 * (`rng` may be NULL). */
struct dml_view dml_transform_draw(const struct dml_transform *transform, int width, int height,
                                   struct dml_rng *rng);

/* Writes the view, (crop, crop, 3), from pixels that hold at least what it needs. */
enum dml_status dml_view_render(const struct dml_view *view, struct dml_resizer *resizer,
                                const struct dml_pixels *pixels, uint8_t *out);

/* What one thread needs to read, draw, decode what is needed, and render. The image is all of its
 * file where `box` is NULL. */
struct dml_transformer {
    struct dml_reader *reader;
    struct dml_resizer resizer;
    struct dml_pixels pixels;
    struct dml_rect erased; /* dml_view.erased of the image made last by dml_transform_file */
};
enum dml_status dml_transformer_init(struct dml_transformer *transformer);
void dml_transformer_free(struct dml_transformer *transformer);
enum dml_status dml_transform_file(struct dml_transformer *transformer,
                                   const struct dml_transform *transform, const char *path,
                                   const struct dml_rect *box, struct dml_rng *rng, uint8_t *out);

#endif
