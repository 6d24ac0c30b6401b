#include "data/operations/operation.h"

struct options {
    int64_t size;
    enum dml_interpolation interpolation;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"size", DML_PARAM_INT, AT(size), "0", 0, 8192,
     .help = "Both sides; 0: those of the network's input."},
    {"interpolation", DML_PARAM_CHOICE, AT(interpolation), "bilinear",
     .choices = dml_interpolations, .help = "How pixels are resampled."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Operation: squash", struct options, params);

static enum dml_status check(void *data, struct dml_place *place) {
    struct options *o = data;
    enum dml_status status = dml_check_scaling(place);
    if (o->size == 0)
        o->size = place->crop;
    place->side = (int)o->size;
    place->square = true;
    return status;
}

static void draw(const void *data, struct dml_rng *rng, struct dml_view *view,
                 struct dml_drawn *drawn) {
    const struct options *o = data;
    (void)rng;
    (void)drawn;
    dml_scale_whole(&view->scaling, (int)o->size, (int)o->size, o->interpolation);
}

const struct dml_operation dml_operation_squash = {
    .name = "squash",
    .summary = "The image scaled to a square, whatever its shape.",
    .params = &table,
    .scales = true,
    .check = check,
    .draw = draw,
};
