#ifndef DML_DATA_OPERATION_H
#define DML_DATA_OPERATION_H

#include "data/transform.h"
#include "dml/params.h"

/* One operation of --transforms: a descriptor in a file of its own, and a line in registry.c.
 *
 * Operations that choose pixels (crops, scaling) change the view's scaling when they draw, and are
 * rendered all at once by the resampling; they come first. The others change the pixels of the
 * result, in the order of the list. */

/* What is known about the images at a place in the list. */
struct dml_place {
    int crop, resize; /* the sizes of operations that are given none */
    bool scaled;      /* an operation has set the size */
    bool square;      /* both sides are `side`; else the shorter one is */
    bool pixels;      /* pixels were changed: nothing may scale or crop after that */
    bool closed;      /* nothing may follow */
    int side;
};

/* The image that an operation changes: (height, width, 3), `spare` as large. */
struct dml_canvas {
    uint8_t *pixels, *spare;
    int width, height;
};

struct dml_operation {
    const char *name;    /* "flip" */
    const char *summary; /* one sentence */
    const char *paper;   /* or NULL */
    /* NULL: none. A value without a name is for the first parameter. */
    const struct dml_param_table *params;
    bool random; /* not for evaluation */
    bool scales; /* chooses pixels; has no `render` */

    /* Checks the options, fills in sizes left open and takes note of what follows from them;
     * `options` are the table's. NULL: nothing to do. Messages are prefixed with the place. */
    enum dml_status (*check)(void *options, struct dml_place *place);
    /* Draws for one image. `rng` is NULL unless `random`. */
    void (*draw)(const void *options, struct dml_rng *rng, struct dml_view *view,
                 struct dml_drawn *drawn);
    /* Does it to the pixels, if drawn->on. */
    void (*render)(const void *options, const struct dml_drawn *drawn, struct dml_canvas *canvas);
};

const struct dml_operation *dml_operation_at(size_t i); /* NULL after the last */

/* The one that works after normalising; other files have to know it. */
extern const struct dml_operation dml_operation_random_erasing;

/* Helpers of those files. */

static inline double dml_between(struct dml_rng *rng, double low, double high) {
    return low + dml_rng_uniform(rng) * (high - low);
}

/* "a..b" as two values with least <= a <= b <= most; else a message that names `what`. */
enum dml_status dml_check_range(const char *what, const struct dml_floats *range, double least,
                                double most);

/* For operations that scale: refuses a second scaling, and one after changed pixels. */
enum dml_status dml_check_scaling(struct dml_place *place);
/* For operations that crop to `size`, which they may leave open. */
enum dml_status dml_check_crop(int64_t *size, struct dml_place *place);

/* The whole image, scaled to width x height. */
void dml_scale_whole(struct dml_scaling *scaling, int width, int height,
                     enum dml_interpolation interpolation);
/* The square at (left, top) of what has been chosen so far. */
void dml_take_square(struct dml_scaling *scaling, int left, int top, int size);

/* The choices of a parameter `interpolation` of resampling. */
extern const char *const dml_interpolations[];

#endif
