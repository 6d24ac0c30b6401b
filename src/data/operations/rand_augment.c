#include "data/augment.h"
#include "data/color.h"
#include "data/operations/operation.h"

#include <math.h>
#include <string.h>

/* A few of fourteen operations, each drawn with equal probability, all at one magnitude; values and
 * signs as torchvision's RandAugment has them. */

enum kind {
    IDENTITY,
    SHEAR_X,
    SHEAR_Y,
    TRANSLATE_X,
    TRANSLATE_Y,
    ROTATE,
    BRIGHTNESS,
    COLOR,
    CONTRAST,
    SHARPNESS,
    POSTERIZE,
    SOLARIZE,
    AUTOCONTRAST,
    EQUALIZE,
    KINDS
};

enum { MOST = 8 };

struct options {
    int64_t n, magnitude, bins;
    enum dml_interpolation interpolation;
};

static const char *const interpolations[] = {
    [DML_BILINEAR] = "bilinear", [DML_BICUBIC] = "bicubic", [DML_NEAREST] = "nearest", NULL};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"n", DML_PARAM_INT, AT(n), "2", 1, MOST, .help = "Operations per image."},
    {"magnitude", DML_PARAM_INT, AT(magnitude), "9", 0, 1000, .help = "How strong they are."},
    {"bins", DML_PARAM_INT, AT(bins), "31", 2, 1001,
     .help = "How many magnitudes there are, from 0 on."},
    {"interpolation", DML_PARAM_CHOICE, AT(interpolation), "nearest", .choices = interpolations,
     .help = "For shearing, shifting and turning."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Operation: rand_augment", struct options, params);

static enum dml_status check(void *data, struct dml_place *place) {
    const struct options *o = data;
    place->pixels = true;
    if (o->magnitude >= o->bins)
        return dml_fail(DML_ERROR_USAGE, "magnitude=%lld: the last of %lld bins is %lld",
                        (long long)o->magnitude, (long long)o->bins, (long long)o->bins - 1);
    return DML_OK;
}

/* The value of an operation at `share` of its largest. */
static double value_of(enum kind kind, double share, int width, int height) {
    switch (kind) {
    case SHEAR_X:
    case SHEAR_Y:
        return 0.3 * share;
    case TRANSLATE_X:
        return 150.0 / 331 * width * share;
    case TRANSLATE_Y:
        return 150.0 / 331 * height * share;
    case ROTATE:
        return 30 * share;
    case BRIGHTNESS:
    case COLOR:
    case CONTRAST:
    case SHARPNESS:
        return 0.9 * share;
    case POSTERIZE:
        return 8 - nearbyint(4 * share);
    case SOLARIZE:
        return 255 * (1 - share);
    default:
        return 0;
    }
}

static void draw(const void *data, struct dml_rng *rng, struct dml_view *view,
                 struct dml_drawn *drawn) {
    const struct options *o = data;
    double share = (double)o->magnitude / (double)(o->bins - 1);
    drawn->on = true;
    for (int i = 0; i < o->n; i++) {
        enum kind kind = (enum kind)dml_rng_below(rng, KINDS);
        double value =
            (float)value_of(kind, share, view->scaling.part.width, view->scaling.part.height);
        bool is_signed = kind >= SHEAR_X && kind <= SHARPNESS;
        if (is_signed && dml_rng_uniform(rng) < 0.5)
            value = -value;
        drawn->which[i] = (int)kind;
        drawn->values[i] = value;
    }
}

/* The operations that move pixels. */
static void move(enum kind kind, double value, enum dml_interpolation interpolation,
                 struct dml_canvas *canvas) {
    double m[6];
    if (kind == SHEAR_X)
        dml_augment_shear_x(value, m);
    else if (kind == SHEAR_Y)
        dml_augment_shear_y(value, m);
    else if (kind == ROTATE)
        dml_augment_rotate(value, canvas->width, canvas->height, m);
    else
        dml_augment_translate(kind == TRANSLATE_X ? trunc(value) : 0,
                              kind == TRANSLATE_Y ? trunc(value) : 0, m);
    size_t bytes = (size_t)canvas->width * (size_t)canvas->height * 3;
    memcpy(canvas->spare, canvas->pixels, bytes);
    dml_augment_affine(canvas->spare, canvas->width, canvas->height, m, interpolation,
                       canvas->pixels);
}

static void apply(enum kind kind, double value, enum dml_interpolation interpolation,
                  struct dml_canvas *canvas) {
    uint8_t *pixels = canvas->pixels;
    size_t count = (size_t)canvas->width * (size_t)canvas->height;
    float factor = (float)(1 + value);
    switch (kind) {
    case SHEAR_X:
    case SHEAR_Y:
    case TRANSLATE_X:
    case TRANSLATE_Y:
    case ROTATE:
        move(kind, value, interpolation, canvas);
        break;
    case BRIGHTNESS:
        dml_color_brightness(pixels, count, factor);
        break;
    case COLOR:
        dml_color_saturation(pixels, count, factor);
        break;
    case CONTRAST:
        dml_color_contrast(pixels, count, factor);
        break;
    case SHARPNESS:
        dml_augment_sharpness(pixels, canvas->width, canvas->height, factor, canvas->spare);
        break;
    case POSTERIZE:
        dml_augment_posterize(pixels, count, (int)value);
        break;
    case SOLARIZE:
        dml_augment_solarize(pixels, count, value);
        break;
    case AUTOCONTRAST:
        dml_augment_autocontrast(pixels, count);
        break;
    case EQUALIZE:
        dml_augment_equalize(pixels, count);
        break;
    case IDENTITY:
    case KINDS:
        break;
    }
}

static void render(const void *data, const struct dml_drawn *drawn, struct dml_canvas *canvas) {
    const struct options *o = data;
    for (int i = 0; i < o->n; i++)
        apply((enum kind)drawn->which[i], drawn->values[i], o->interpolation, canvas);
}

const struct dml_operation dml_operation_rand_augment = {
    .name = "rand_augment",
    .summary = "Some of fourteen operations at one magnitude: shears, shifts, turns, changes of "
               "colours and levels.",
    .paper = "Cubuk, Zoph, Shlens, Le 2020, RandAugment: practical automated data augmentation "
             "with a reduced search space",
    .params = &table,
    .random = true,
    .check = check,
    .draw = draw,
    .render = render,
};
