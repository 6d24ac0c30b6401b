#include "data/operations/operation.h"

#include <math.h>

/* A part of random area and aspect ratio, scaled to a square; as torchvision draws it. */

struct options {
    struct dml_floats scale, ratio;
    enum dml_interpolation interpolation;
    int64_t size;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"scale", DML_PARAM_FLOATS, AT(scale), "0.08 1", 0, 1, true,
     .help = "Area, as a share of the image's: from..to."},
    {"ratio", DML_PARAM_FLOATS, AT(ratio), "0.75 1.3333333333333333", 0, 100, true,
     .help = "Width over height: from..to."},
    {"interpolation", DML_PARAM_CHOICE, AT(interpolation), "bilinear",
     .choices = dml_interpolations, .help = "How pixels are resampled."},
    {"size", DML_PARAM_INT, AT(size), "0", 0, 4096,
     .help = "Side of the result; 0: that of the network's input."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Operation: random_resized_crop", struct options, params);

static enum dml_status check(void *data, struct dml_place *place) {
    struct options *o = data;
    enum dml_status status = dml_check_scaling(place);
    if (!status)
        status = dml_check_range("scale", &o->scale, 0, 1);
    if (!status)
        status = dml_check_range("ratio", &o->ratio, 0, 100);
    if (o->size == 0)
        o->size = place->crop;
    place->side = (int)o->size;
    place->square = true;
    return status;
}

static void draw(const void *data, struct dml_rng *rng, struct dml_view *view,
                 struct dml_drawn *drawn) {
    const struct options *o = data;
    struct dml_scaling *scaling = &view->scaling;
    (void)drawn;
    scaling->box =
        dml_draw_box(o->scale.items, o->ratio.items, scaling->box.width, scaling->box.height, rng);
    scaling->width = scaling->height = (int)o->size;
    scaling->part = (struct dml_rect){0, 0, (int)o->size, (int)o->size};
    scaling->interpolation = o->interpolation;
}

const struct dml_operation dml_operation_random_resized_crop = {
    .name = "random_resized_crop",
    .summary = "A part of random area and shape, scaled to a square.",
    .paper = "Szegedy et al. 2015, Going deeper with convolutions",
    .params = &table,
    .random = true,
    .scales = true,
    .check = check,
    .draw = draw,
};
