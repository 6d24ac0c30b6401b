#include "data/operations/operation.h"

struct options {
    int64_t size;
};

static const struct dml_param params[] = {
    {"size", DML_PARAM_INT, offsetof(struct options, size), "0", 0, 4096,
     .help = "Side of the square; 0: that of the network's input."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Operation: random_crop", struct options, params);

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
    int top = (int)dml_rng_below(rng, (uint64_t)(part->height - size) + 1);
    int left = (int)dml_rng_below(rng, (uint64_t)(part->width - size) + 1);
    dml_take_square(&view->scaling, left, top, size);
}

const struct dml_operation dml_operation_random_crop = {
    .name = "random_crop",
    .summary = "A square from anywhere.",
    .params = &table,
    .random = true,
    .scales = true,
    .check = check,
    .draw = draw,
};
