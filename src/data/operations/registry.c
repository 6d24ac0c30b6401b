#include "data/operations/operation.h"

/* Each operation has its file, NAME.c, which defines dml_operation_NAME. */
extern const struct dml_operation dml_operation_random_resized_crop, dml_operation_resize,
    dml_operation_squash, dml_operation_random_crop, dml_operation_center_crop, dml_operation_flip,
    dml_operation_grayscale, dml_operation_color_jitter, dml_operation_rand_augment;

static const struct dml_operation *const operations[] = {
    &dml_operation_random_resized_crop, &dml_operation_resize,       &dml_operation_squash,
    &dml_operation_random_crop,         &dml_operation_center_crop,  &dml_operation_flip,
    &dml_operation_grayscale,           &dml_operation_color_jitter, &dml_operation_rand_augment,
    &dml_operation_random_erasing,
};

const struct dml_operation *dml_operation_at(size_t i) {
    return i < sizeof operations / sizeof *operations ? operations[i] : NULL;
}

const char *const dml_interpolations[] = {
    [DML_BILINEAR] = "bilinear", [DML_BICUBIC] = "bicubic", NULL};

enum dml_status dml_check_range(const char *what, const struct dml_floats *range, double least,
                                double most) {
    if (range->count != 2 || range->items[0] > range->items[1])
        return dml_fail(DML_ERROR_USAGE, "%s: is not a range, from..to", what);
    if (range->items[0] < least || range->items[1] > most)
        return dml_fail(DML_ERROR_USAGE, "%s=%g..%g: is not within %g..%g", what, range->items[0],
                        range->items[1], least, most);
    return DML_OK;
}

enum dml_status dml_check_scaling(struct dml_place *place) {
    if (place->pixels)
        return dml_fail(DML_ERROR_USAGE, "must come before what changes colours");
    if (place->scaled)
        return dml_fail(DML_ERROR_USAGE, "the image has been scaled before");
    place->scaled = true;
    return DML_OK;
}

enum dml_status dml_check_crop(int64_t *size, struct dml_place *place) {
    if (place->pixels)
        return dml_fail(DML_ERROR_USAGE, "must come before what changes colours");
    if (!place->scaled)
        return dml_fail(DML_ERROR_USAGE, "needs resize, squash or random_resized_crop before it");
    if (*size == 0)
        *size = place->crop;
    if (*size > place->side)
        return dml_fail(DML_ERROR_USAGE, "%lld pixels of an image of %d", (long long)*size,
                        place->side);
    place->side = (int)*size;
    place->square = true;
    return DML_OK;
}

void dml_scale_whole(struct dml_scaling *scaling, int width, int height,
                     enum dml_interpolation interpolation) {
    scaling->width = width;
    scaling->height = height;
    scaling->part = (struct dml_rect){0, 0, width, height};
    scaling->interpolation = interpolation;
}

void dml_take_square(struct dml_scaling *scaling, int left, int top, int size) {
    const struct dml_rect *part = &scaling->part;
    scaling->part = (struct dml_rect){part->left + left, part->top + top, size, size};
}
