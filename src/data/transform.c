#include "data/transform.h"

#include "data/color.h"
#include "data/pipeline.h"

#include <math.h>
#include <string.h>

enum { RESIZE = 256 }; /* shorter side, and the crop of --augmentation big */

struct dml_transform dml_transform_of(enum dml_augmentation augmentation, bool training, int native,
                                      int64_t image_size, double area_min) {
    static const enum dml_transform_kind kinds[] = {
        [DML_AUGMENTATION_BASE] = DML_TRANSFORM_BASE,
        [DML_AUGMENTATION_ADVANCED] = DML_TRANSFORM_ADVANCED,
        [DML_AUGMENTATION_BIG] = DML_TRANSFORM_BIG,
        [DML_AUGMENTATION_REDUCED] = DML_TRANSFORM_REDUCED,
    };
    /* The study crops 256 with big, for evaluation as well. */
    int crop = augmentation == DML_AUGMENTATION_BIG ? RESIZE : native, resize = RESIZE;
    if (image_size > 0) {
        resize = (int)lround((double)image_size * RESIZE / crop);
        crop = (int)image_size;
    }
    return (struct dml_transform){
        .kind = training ? kinds[augmentation] : DML_TRANSFORM_EVALUATION,
        .crop = crop,
        .resize = resize > crop ? resize : crop,
        .area_min = area_min,
    };
}

static double between(struct dml_rng *rng, double low, double high) {
    return low + dml_rng_uniform(rng) * (high - low);
}

struct dml_rect dml_draw_box(const double scale[2], const double ratio[2], int width, int height,
                             struct dml_rng *rng) {
    const double narrow = ratio[0], wide = ratio[1];
    double area = (double)width * height;
    for (int i = 0; i < 10; i++) {
        double wanted = area * between(rng, scale[0], scale[1]);
        double aspect = exp(between(rng, log(narrow), log(wide)));
        /* nearbyint rounds halves to even, as Python's round does */
        int w = (int)nearbyint(sqrt(wanted * aspect)), h = (int)nearbyint(sqrt(wanted / aspect));
        if (w < 1 || h < 1 || w > width || h > height)
            continue;
        int top = (int)dml_rng_below(rng, (uint64_t)(height - h) + 1);
        int left = (int)dml_rng_below(rng, (uint64_t)(width - w) + 1);
        return (struct dml_rect){left, top, w, h};
    }
    int w = width, h = height;
    if ((double)width / height < narrow)
        h = (int)nearbyint(w / narrow);
    else if ((double)width / height > wide)
        w = (int)nearbyint(h * wide);
    return (struct dml_rect){(width - w) / 2, (height - h) / 2, w, h};
}

/* Grayscale with probability 0.2; factors within 0.2 of 1, hue within 0.2 of 0, in any order. */
static void draw_colors(struct dml_view *view, struct dml_rng *rng) {
    uint64_t order[4];
    view->gray = dml_rng_uniform(rng) < 0.2;
    view->jitter = true;
    dml_rng_distinct(rng, 4, 4, order);
    for (int i = 0; i < 4; i++)
        view->order[i] = (enum dml_color_change)order[i];
    for (int i = 0; i < 4; i++)
        view->factors[i] =
            (float)(i == DML_COLOR_HUE ? between(rng, -0.2, 0.2) : between(rng, 0.8, 1.2));
}

struct dml_view dml_transform_draw(const struct dml_transform *transform, int width, int height,
                                   struct dml_rng *rng) {
    if (transform->list)
        return dml_pipeline_draw(transform->list, width, height, rng);
    struct dml_view view = {.gray = false};
    struct dml_scaling *scaling = &view.scaling;
    int crop = transform->crop, resize = transform->resize;
    scaling->box = (struct dml_rect){0, 0, width, height};
    scaling->width = scaling->height = crop;
    scaling->part = (struct dml_rect){0, 0, crop, crop};
    bool whole =
        transform->kind == DML_TRANSFORM_EVALUATION || transform->kind == DML_TRANSFORM_REDUCED;
    if (whole) {
        scaling->width = width <= height ? resize : dml_longer_side(resize, width, height);
        scaling->height = width <= height ? dml_longer_side(resize, height, width) : resize;
    } else {
        const double scale[] = {transform->area_min, 1}, ratio[] = {3.0 / 4, 4.0 / 3};
        scaling->box = dml_draw_box(scale, ratio, width, height, rng);
    }
    int spare_x = scaling->width - crop, spare_y = scaling->height - crop;
    if (transform->kind == DML_TRANSFORM_EVALUATION) {
        scaling->part.left = (int)nearbyint(spare_x / 2.0);
        scaling->part.top = (int)nearbyint(spare_y / 2.0);
        return view;
    }
    if (transform->kind == DML_TRANSFORM_REDUCED) {
        scaling->part.top = (int)dml_rng_below(rng, (uint64_t)spare_y + 1);
        scaling->part.left = (int)dml_rng_below(rng, (uint64_t)spare_x + 1);
    }
    if (transform->kind == DML_TRANSFORM_ADVANCED)
        draw_colors(&view, rng);
    scaling->flip = dml_rng_uniform(rng) < 0.5;
    return view;
}

void dml_color_change(enum dml_color_change change, float factor, uint8_t *pixels, size_t count) {
    switch (change) {
    case DML_COLOR_BRIGHTNESS:
        dml_color_brightness(pixels, count, factor);
        break;
    case DML_COLOR_CONTRAST:
        dml_color_contrast(pixels, count, factor);
        break;
    case DML_COLOR_SATURATION:
        dml_color_saturation(pixels, count, factor);
        break;
    case DML_COLOR_HUE:
        dml_color_hue(pixels, count, factor);
        break;
    }
}

enum dml_status dml_view_render(const struct dml_view *view, struct dml_resizer *resizer,
                                const struct dml_pixels *pixels, uint8_t *out) {
    if (view->list)
        return dml_pipeline_render(view, resizer, pixels, out);
    enum dml_status status = dml_resize(resizer, &view->scaling, pixels, out);
    if (status)
        return status;
    size_t count = (size_t)view->scaling.part.width * (size_t)view->scaling.part.height;
    if (view->gray)
        dml_color_gray(out, count);
    for (int i = 0; view->jitter && i < 4; i++)
        dml_color_change(view->order[i], view->factors[view->order[i]], out, count);
    return DML_OK;
}

enum dml_status dml_transformer_init(struct dml_transformer *transformer) {
    memset(transformer, 0, sizeof *transformer);
    return dml_reader_new(&transformer->reader);
}

void dml_transformer_free(struct dml_transformer *transformer) {
    dml_reader_free(transformer->reader);
    dml_resizer_free(&transformer->resizer);
    dml_pixels_free(&transformer->pixels);
    memset(transformer, 0, sizeof *transformer);
}

enum dml_status dml_transform_file(struct dml_transformer *transformer,
                                   const struct dml_transform *transform, const char *path,
                                   const struct dml_rect *box, struct dml_rng *rng, uint8_t *out) {
    int width, height;
    enum dml_status status = dml_reader_open_box(transformer->reader, path, box, &width, &height);
    if (status)
        return status;
    struct dml_view view = dml_transform_draw(transform, width, height, rng);
    transformer->erased = view.erased;
    status = dml_reader_decode(transformer->reader, dml_scaling_needs(&view.scaling),
                               &transformer->pixels);
    if (status)
        return status;
    return dml_view_render(&view, &transformer->resizer, &transformer->pixels, out);
}
