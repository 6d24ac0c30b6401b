#include "data/color.h"
#include "data/operations/operation.h"

/* Brightness, contrast, saturation and hue changed by random factors, in random order, as
 * torchvision's ColorJitter does. */

struct options {
    double brightness, contrast, saturation, hue, p;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"brightness", DML_PARAM_FLOAT, AT(brightness), "0.2", 0, 100,
     .help = "Factors are at most this far from 1, and not below 0."},
    {"contrast", DML_PARAM_FLOAT, AT(contrast), "0.2", 0, 100, .help = "The same."},
    {"saturation", DML_PARAM_FLOAT, AT(saturation), "0.2", 0, 100, .help = "The same."},
    {"hue", DML_PARAM_FLOAT, AT(hue), "0.2", 0, 0.5,
     .help = "At most this many turns of the colour circle, in either direction."},
    {"p", DML_PARAM_FLOAT, AT(p), "1", 0, 1, .help = "Probability."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Operation: color_jitter", struct options, params);

static enum dml_status check(void *options, struct dml_place *place) {
    (void)options;
    place->pixels = true;
    return DML_OK;
}

static float draw_factor(struct dml_rng *rng, double most) {
    return (float)dml_between(rng, most < 1 ? 1 - most : 0, 1 + most);
}

static void draw(const void *data, struct dml_rng *rng, struct dml_view *view,
                 struct dml_drawn *drawn) {
    const struct options *o = data;
    uint64_t order[4];
    (void)view;
    drawn->on = o->p >= 1 || dml_rng_uniform(rng) < o->p;
    dml_rng_distinct(rng, 4, 4, order);
    for (int i = 0; i < 4; i++)
        drawn->which[i] = (int)order[i];
    drawn->values[DML_COLOR_BRIGHTNESS] = draw_factor(rng, o->brightness);
    drawn->values[DML_COLOR_CONTRAST] = draw_factor(rng, o->contrast);
    drawn->values[DML_COLOR_SATURATION] = draw_factor(rng, o->saturation);
    drawn->values[DML_COLOR_HUE] = (float)dml_between(rng, -o->hue, o->hue);
}

static void render(const void *data, const struct dml_drawn *drawn, struct dml_canvas *canvas) {
    const struct options *o = data;
    const double strengths[] = {[DML_COLOR_BRIGHTNESS] = o->brightness,
                                [DML_COLOR_CONTRAST] = o->contrast,
                                [DML_COLOR_SATURATION] = o->saturation,
                                [DML_COLOR_HUE] = o->hue};
    size_t count = (size_t)canvas->width * (size_t)canvas->height;
    for (int i = 0; i < 4; i++) /* what has strength 0 is left out, as torchvision does */
        if (strengths[drawn->which[i]] > 0)
            dml_color_change((enum dml_color_change)drawn->which[i],
                             (float)drawn->values[drawn->which[i]], canvas->pixels, count);
}

const struct dml_operation dml_operation_color_jitter = {
    .name = "color_jitter",
    .summary = "Brightness, contrast, saturation and hue changed at random, in random order.",
    .params = &table,
    .random = true,
    .check = check,
    .draw = draw,
    .render = render,
};
