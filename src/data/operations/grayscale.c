#include "data/color.h"
#include "data/operations/operation.h"

struct options {
    double p;
};

static const struct dml_param params[] = {
    {"p", DML_PARAM_FLOAT, offsetof(struct options, p), "0.2", 0, 1, .help = "Probability."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Operation: grayscale", struct options, params);

static enum dml_status check(void *options, struct dml_place *place) {
    (void)options;
    place->pixels = true;
    return DML_OK;
}

static void draw(const void *data, struct dml_rng *rng, struct dml_view *view,
                 struct dml_drawn *drawn) {
    const struct options *o = data;
    (void)view;
    drawn->on = dml_rng_uniform(rng) < o->p;
}

static void render(const void *options, const struct dml_drawn *drawn, struct dml_canvas *canvas) {
    (void)options;
    (void)drawn;
    dml_color_gray(canvas->pixels, (size_t)canvas->width * (size_t)canvas->height);
}

const struct dml_operation dml_operation_grayscale = {
    .name = "grayscale",
    .summary = "Colours become shades of grey.",
    .params = &table,
    .random = true,
    .check = check,
    .draw = draw,
    .render = render,
};
