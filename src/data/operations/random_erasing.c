#include "data/operations/operation.h"

#include <math.h>

/* A random rectangle of the network's input is set to 0: after normalising, so that it says
 * nothing, and therefore not by `render` but by whatever normalises (dml_view.erased). */

struct options {
    double p;
    struct dml_floats scale, ratio;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"p", DML_PARAM_FLOAT, AT(p), "0.5", 0, 1, .help = "Probability."},
    {"scale", DML_PARAM_FLOATS, AT(scale), "0.02 0.33", 0, 1, true,
     .help = "Area, as a share of the image's: from..to."},
    {"ratio", DML_PARAM_FLOATS, AT(ratio), "0.3 3.3", 0, 100, true,
     .help = "Height over width: from..to."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Operation: random_erasing", struct options, params);

static enum dml_status check(void *data, struct dml_place *place) {
    const struct options *o = data;
    place->pixels = place->closed = true;
    enum dml_status status = dml_check_range("scale", &o->scale, 0, 1);
    return status ? status : dml_check_range("ratio", &o->ratio, 0, 100);
}

static void draw(const void *data, struct dml_rng *rng, struct dml_view *view,
                 struct dml_drawn *drawn) {
    const struct options *o = data;
    int width = view->scaling.part.width, height = view->scaling.part.height;
    double area = (double)width * height;
    (void)drawn;
    if (dml_rng_uniform(rng) >= o->p)
        return;
    for (int i = 0; i < 10; i++) {
        double wanted = area * dml_between(rng, o->scale.items[0], o->scale.items[1]);
        double ratio = exp(dml_between(rng, log(o->ratio.items[0]), log(o->ratio.items[1])));
        int h = (int)nearbyint(sqrt(wanted * ratio)), w = (int)nearbyint(sqrt(wanted / ratio));
        if (h >= height || w >= width || h < 1 || w < 1)
            continue;
        int top = (int)dml_rng_below(rng, (uint64_t)(height - h) + 1);
        int left = (int)dml_rng_below(rng, (uint64_t)(width - w) + 1);
        view->erased = (struct dml_rect){left, top, w, h};
        return;
    }
}

const struct dml_operation dml_operation_random_erasing = {
    .name = "random_erasing",
    .summary = "A random rectangle set to 0 after normalising; the last of a list.",
    .paper = "Zhong, Zheng, Kang, Li, Yang 2020, Random erasing data augmentation",
    .params = &table,
    .random = true,
    .check = check,
    .draw = draw,
};
