#ifndef DML_DATA_RESIZE_H
#define DML_DATA_RESIZE_H

#include "data/image.h"

/* Pillow's antialiased resampling of 8-bit images, bit for bit: weights of 22 fractional bits,
 * columns first, rounded to 8 bits, then rows. (Pillow 13 takes rows first where a box is much
 * taller than wide, which changes some values by one level; Pillow 9 never does.) */

/* Bicubic is Keys' cubic with a = -0.5. Nearest is not for scaling (data/augment.h). */
enum dml_interpolation { DML_BILINEAR, DML_BICUBIC, DML_NEAREST };

/* What is asked for: the rectangle `box` of an image, scaled to width x height; and of that
 * result the rectangle `part`, mirrored left to right if `flip`. */
struct dml_scaling {
    struct dml_rect box;
    int width, height;
    struct dml_rect part;
    bool flip;
    enum dml_interpolation interpolation;
};

/* What the longer side of an image becomes when the shorter one becomes `size`; at most 2^30,
 * whatever the image. */
static inline int dml_longer_side(int size, int longer, int shorter) {
    int64_t side = (int64_t)size * longer / shorter;
    return (int)(side < 1 << 30 ? side : 1 << 30);
}

/* The pixels of the image that matter for `part`; they lie in `box`. */
struct dml_rect dml_scaling_needs(const struct dml_scaling *scaling);

/* Workspace, kept between calls. A zero-initialised struct is a valid empty one. */
struct dml_resizer {
    void *columns, *rows; /* struct dml_taps of resize_kernels.h */
    int16_t *weights;
    size_t column_capacity, row_capacity, weight_capacity;
    struct dml_pixels between; /* columns are scaled, rows not yet */
    struct dml_pixels spare;   /* for operations after resampling that need a second image */
};
void dml_resizer_free(struct dml_resizer *resizer);

/* Writes (part.height, part.width, 3) to `out`. `pixels` holds at least what is needed. */
enum dml_status dml_resize(struct dml_resizer *resizer, const struct dml_scaling *scaling,
                           const struct dml_pixels *pixels, uint8_t *out);

#endif
