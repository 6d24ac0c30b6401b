#ifndef DML_DATA_TRANSFORM_H
#define DML_DATA_TRANSFORM_H

#include "data/image.h"
#include "data/resize.h"
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

/* The transform of a run: `augmentation` is base, adv, big or red, `native` the backbone's crop
 * (224, googlenet 227), `image_size` the flag (0: the backbone's own), `training` whether it is
 * for training or for evaluation. DML_ERROR_USAGE: an unknown augmentation. */
enum dml_status dml_transform_make(const char *augmentation, bool training, int native,
                                   int64_t image_size, double area_min, struct dml_transform *out);

/* What a transform draws for one image. Colours change in the order given. */
enum dml_color_change {
    DML_COLOR_BRIGHTNESS,
    DML_COLOR_CONTRAST,
    DML_COLOR_SATURATION,
    DML_COLOR_HUE
};
struct dml_view {
    struct dml_scaling scaling; /* its part is crop x crop */
    bool gray, jitter;
    enum dml_color_change order[4];
    float factors[4]; /* by dml_color_change */
};

/* Draws a view of an image of width x height, as torchvision does; evaluation draws nothing
 * (`rng` may be NULL). */
struct dml_view dml_transform_draw(const struct dml_transform *transform, int width, int height,
                                   struct dml_rng *rng);

/* Writes the view, (crop, crop, 3), from pixels that hold at least what it needs. */
enum dml_status dml_view_render(const struct dml_view *view, struct dml_resizer *resizer,
                                const struct dml_pixels *pixels, uint8_t *out);

/* Reads, draws, decodes what is needed and renders: what one thread needs for that. The image is
 * all of its file where `box` is NULL. */
struct dml_transformer {
    struct dml_reader *reader;
    struct dml_resizer resizer;
    struct dml_pixels pixels;
};
enum dml_status dml_transformer_init(struct dml_transformer *transformer);
void dml_transformer_free(struct dml_transformer *transformer);
enum dml_status dml_transform_file(struct dml_transformer *transformer,
                                   const struct dml_transform *transform, const char *path,
                                   const struct dml_rect *box, struct dml_rng *rng, uint8_t *out);

#endif
