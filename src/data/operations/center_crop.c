#include "data/operations/operation.h"

#include <math.h>

struct options {
    int64_t size;
};

static const struct dml_param params[] = {
    {"size", DML_PARAM_INT, offsetof(struct options, size), "0", 0, 4096,
     .help = "Side of the square; 0: that of the network's input."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Operation: center_crop", struct options, params);

static enum dml_status check(void *data, struct dml_place *place) {
    struct options *o = data;
    return dml_check_crop(&o->size, place);
}

static void draw(const void *data, struct dml_rng *rng, struct dml_view *view,
                 struct dml_drawn *drawn) {
    const struct options *o = data;
    const struct dml_rect *part = &view->scaling.part;
    int size = (int)o->size;
    (void)drawn;
    (void)rng;
    /* nearbyint rounds halves to even, as Python's round does */
    dml_take_square(&view->scaling, (int)nearbyint((part->width - size) / 2.0),
                    (int)nearbyint((part->height - size) / 2.0), size);
}

const struct dml_operation dml_operation_center_crop = {
    .name = "center_crop",
    .summary = "A square from the middle.",
    .params = &table,
    .scales = true,
    .check = check,
    .draw = draw,
};
