#include "data/operations/operation.h"

#include <string.h>

struct options {
    double p;
};

static const struct dml_param params[] = {
    {"p", DML_PARAM_FLOAT, offsetof(struct options, p), "0.5", 0, 1, .help = "Probability."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Operation: flip", struct options, params);

static enum dml_status check(void *options, struct dml_place *place) {
    (void)options;
    place->pixels = true;
    return DML_OK;
}

/* Where nothing has changed pixels yet, resampling flips as it goes. */
static void draw(const void *data, struct dml_rng *rng, struct dml_view *view,
                 struct dml_drawn *drawn) {
    const struct options *o = data;
    bool flips = dml_rng_uniform(rng) < o->p, first = true;
    for (int i = 0; i < view->count; i++)
        first &= !view->drawn[i].on;
    if (first)
        view->scaling.flip ^= flips;
    else
        drawn->on = flips;
}

static void render(const void *options, const struct dml_drawn *drawn, struct dml_canvas *canvas) {
    (void)options;
    (void)drawn;
    for (int y = 0; y < canvas->height; y++) {
        uint8_t *left = canvas->pixels + (size_t)y * (size_t)canvas->width * 3;
        uint8_t *right = left + (size_t)(canvas->width - 1) * 3;
        for (; left < right; left += 3, right -= 3) {
            uint8_t pixel[3];
            memcpy(pixel, left, 3);
            memcpy(left, right, 3);
            memcpy(right, pixel, 3);
        }
    }
}

const struct dml_operation dml_operation_flip = {
    .name = "flip",
    .summary = "Left and right swapped.",
    .params = &table,
    .random = true,
    .check = check,
    .draw = draw,
    .render = render,
};
