#include "data/operations/operation.h"

struct options {
    int64_t size;
    enum dml_interpolation interpolation;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"size", DML_PARAM_INT, AT(size), "0", 0, 8192,
     .help = "The shorter side; 0: 256 where the network takes 224, and in proportion."},
    {"interpolation", DML_PARAM_CHOICE, AT(interpolation), "bilinear",
     .choices = dml_interpolations, .help = "How pixels are resampled."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Operation: resize", struct options, params);

static enum dml_status check(void *data, struct dml_place *place) {
    struct options *o = data;
    enum dml_status status = dml_check_scaling(place);
    if (o->size == 0)
        o->size = place->resize;
    place->side = (int)o->size;
    place->square = false;
    return status;
}

static void draw(const void *data, struct dml_rng *rng, struct dml_view *view,
                 struct dml_drawn *drawn) {
    const struct options *o = data;
    (void)rng;
    (void)drawn;
    const struct dml_rect *box = &view->scaling.box;
    int size = (int)o->size;
    if (box->width <= box->height)
        dml_scale_whole(&view->scaling, size, dml_longer_side(size, box->height, box->width),
                        o->interpolation);
    else
        dml_scale_whole(&view->scaling, dml_longer_side(size, box->width, box->height), size,
                        o->interpolation);
}

const struct dml_operation dml_operation_resize = {
    .name = "resize",
    .summary = "The image scaled so that its shorter side has a given size.",
    .params = &table,
    .scales = true,
    .check = check,
    .draw = draw,
};
