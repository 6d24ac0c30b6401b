/* Bicubic resampling, RandAugment's operations and random erasing against what Pillow and
 * torchvision make of the images of golden/transforms. */
#include "backends/cpu/kernels.h"
#include "data/augment.h"
#include "data/color.h"
#include "data/pipeline.h"
#include "support/golden.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static cJSON *cases;

static int open_cases(void **state) {
    (void)state;
    cases = golden_json("transforms2/cases.json");
    return 0;
}

static int close_cases(void **state) {
    (void)state;
    cJSON_Delete(cases);
    return 0;
}

/* The cases of a kind, of which there must be some; tells how many. */
static const cJSON *list_of(const char *kind) {
    const cJSON *list = cJSON_GetObjectItem(cases, kind);
    int count = cJSON_GetArraySize(list);
    print_message("transforms2: %d cases (%s)\n", count, kind);
    assert_true(count > 0);
    return list;
}

static int field(const cJSON *of, const char *name) {
    const cJSON *item = cJSON_GetObjectItem(of, name);
    assert_true(cJSON_IsNumber(item));
    return item->valueint;
}

static const char *text(const cJSON *of, const char *name) {
    const cJSON *item = cJSON_GetObjectItem(of, name);
    return cJSON_IsString(item) ? item->valuestring : "";
}

/* At most a level apart, and different in fewer than one value in `one_in`; 0: nowhere. */
static void compare(const char *what, const uint8_t *got, const char *expected, size_t size,
                    size_t one_in) {
    size_t count, different = 0;
    int32_t *wanted = golden_ints(&count, "transforms2/%s", expected);
    assert_int_equal(count, size);
    for (size_t i = 0; i < count; i++) {
        if (abs(got[i] - wanted[i]) > (one_in ? 1 : 0))
            fail_msg("%s: value %zu is %d, not %d", what, i, got[i], wanted[i]);
        different += got[i] != wanted[i];
    }
    if (different)
        print_message("%s: %zu of %zu values are a level off\n", what, different, count);
    assert_true(different * one_in < count);
    free(wanted);
}

static void resized_images(void **state) {
    (void)state;
    struct dml_transformer transformer;
    assert_ok(dml_transformer_init(&transformer));
    const cJSON *one, *all = list_of("resize");
    cJSON_ArrayForEach(one, all) {
        char list[100];
        int crop = field(one, "crop");
        size_t size = (size_t)(crop * crop * 3);
        snprintf(list, sizeof list, "resize(%d, interpolation=bicubic) center_crop(%d)",
                 field(one, "resize"), crop);
        struct dml_transform transform = {.kind = DML_TRANSFORM_EVALUATION, .crop = crop};
        struct dml_pipeline *pipeline;
        assert_ok(dml_pipeline_parse("eval_transforms", list, false, crop, 256, &pipeline));
        transform.list = pipeline;
        uint8_t *got = malloc(size);
        assert_ok(dml_transform_file(&transformer, &transform,
                                     golden_path("transforms/%s", text(one, "image")), NULL, NULL,
                                     got));
        compare(text(one, "expected"), got, text(one, "expected"), size, 1000);
        free(got);
        dml_pipeline_free(pipeline);
    }
    dml_transformer_free(&transformer);
}

static void crops(void **state) {
    (void)state;
    struct dml_reader *reader;
    struct dml_pixels pixels = {.data = NULL};
    struct dml_resizer resizer = {.columns = NULL};
    assert_ok(dml_reader_new(&reader));
    const cJSON *one, *all = list_of("crops");
    cJSON_ArrayForEach(one, all) {
        int side = field(one, "size"), width, height;
        struct dml_scaling scaling = {.box = {field(one, "left"), field(one, "top"),
                                              field(one, "width"), field(one, "height")},
                                      .width = side,
                                      .height = side,
                                      .part = {0, 0, side, side},
                                      .flip = cJSON_IsTrue(cJSON_GetObjectItem(one, "flip")),
                                      .interpolation = DML_BICUBIC};
        size_t size = (size_t)(side * side * 3);
        uint8_t *got = malloc(size);
        assert_ok(dml_reader_open(reader, golden_path("transforms/%s", text(one, "image")), &width,
                                  &height));
        assert_ok(dml_reader_decode(reader, dml_scaling_needs(&scaling), &pixels));
        assert_ok(dml_resize(&resizer, &scaling, &pixels, got));
        compare(text(one, "expected"), got, text(one, "expected"), size, 1000);
        free(got);
    }
    dml_reader_free(reader);
    dml_pixels_free(&pixels);
    dml_resizer_free(&resizer);
}

/* astronaut_64.npy. */
static uint8_t *read_input(int *side) {
    char name[200];
    snprintf(name, sizeof name, "%s", text(cases, "operations_input"));
    *strchrnul(name, ' ') = 0; /* "astronaut_64.npy of golden/transforms" */
    size_t count;
    int32_t *values = golden_ints(&count, "transforms/%s", name);
    uint8_t *pixels = malloc(count);
    for (size_t i = 0; i < count; i++)
        pixels[i] = (uint8_t)values[i];
    free(values);
    *side = (int)lround(sqrt((double)count / 3));
    return pixels;
}

static enum dml_interpolation interpolation_of(const cJSON *one) {
    const char *name = text(one, "interpolation");
    return !strcmp(name, "bilinear")  ? DML_BILINEAR
           : !strcmp(name, "bicubic") ? DML_BICUBIC
                                      : DML_NEAREST;
}

/* Moves pixels; false for an operation that does not. */
static bool move(const char *name, double value, const cJSON *one, int side, const uint8_t *in,
                 uint8_t *out) {
    double m[6];
    if (!strcmp(name, "shear_x"))
        dml_augment_shear_x(value, m);
    else if (!strcmp(name, "shear_y"))
        dml_augment_shear_y(value, m);
    else if (!strcmp(name, "rotate"))
        dml_augment_rotate(value, side, side, m);
    else if (!strcmp(name, "translate_x"))
        dml_augment_translate(value, 0, m);
    else if (!strcmp(name, "translate_y"))
        dml_augment_translate(0, value, m);
    else
        return false;
    dml_augment_affine(in, side, side, m, interpolation_of(one), out);
    return true;
}

static void change(const char *name, double value, int side, uint8_t *pixels, uint8_t *spare) {
    size_t count = (size_t)side * (size_t)side;
    if (!strcmp(name, "brightness"))
        dml_color_brightness(pixels, count, (float)value);
    else if (!strcmp(name, "color"))
        dml_color_saturation(pixels, count, (float)value);
    else if (!strcmp(name, "contrast"))
        dml_color_contrast(pixels, count, (float)value);
    else if (!strcmp(name, "sharpness"))
        dml_augment_sharpness(pixels, side, side, (float)value, spare);
    else if (!strcmp(name, "posterize"))
        dml_augment_posterize(pixels, count, (int)value);
    else if (!strcmp(name, "solarize"))
        dml_augment_solarize(pixels, count, value);
    else if (!strcmp(name, "autocontrast"))
        dml_augment_autocontrast(pixels, count);
    else if (!strcmp(name, "equalize"))
        dml_augment_equalize(pixels, count);
    else if (!strcmp(name, "invert"))
        dml_augment_invert(pixels, count);
    else if (strcmp(name, "identity") != 0)
        fail_msg("no operation %s", name);
}

static void operations(void **state) {
    (void)state;
    int side;
    uint8_t *in = read_input(&side);
    size_t size = (size_t)(side * side * 3);
    uint8_t *out = malloc(size), *spare = malloc(size);
    const cJSON *one, *all = list_of("operations");
    cJSON_ArrayForEach(one, all) {
        const char *name = text(one, "operation");
        const cJSON *number = cJSON_GetObjectItem(one, "value");
        double value = cJSON_IsNumber(number) ? number->valuedouble : 0;
        if (!move(name, value, one, side, in, out)) {
            memcpy(out, in, size);
            change(name, value, side, out, spare);
        }
        compare(text(one, "expected"), out, text(one, "expected"), size, 0);
    }
    free(in);
    free(out);
    free(spare);
}

static struct dml_input_transform transform_of(const cJSON *of) {
    struct dml_input_transform transform = {.bgr = false};
    for (int c = 0; c < 3; c++) {
        transform.mean[c] =
            (float)cJSON_GetArrayItem(cJSON_GetObjectItem(of, "mean"), c)->valuedouble;
        transform.std[c] =
            (float)cJSON_GetArrayItem(cJSON_GetObjectItem(of, "std"), c)->valuedouble;
    }
    return transform;
}

/* Of each pixel value that the case names, all three channels. */
static void normalised_values(void **state) {
    (void)state;
    const cJSON *one, *all = list_of("normalisation");
    cJSON_ArrayForEach(one, all) {
        const struct dml_input_transform transform = transform_of(one);
        const cJSON *levels = cJSON_GetObjectItem(one, "pixels");
        const cJSON *values = cJSON_GetObjectItem(one, "values");
        for (int k = 0; k < cJSON_GetArraySize(levels); k++) {
            uint8_t pixel[3];
            float out[3];
            memset(pixel, cJSON_GetArrayItem(levels, k)->valueint, 3);
            struct dml_images images = {.n = 1, .height = 1, .width = 1, .pixels = pixel};
            cpu_kernels_float32()->input(&images, 0, 1, &transform, NULL, NULL, out);
            for (int c = 0; c < 3; c++) {
                double right = cJSON_GetArrayItem(cJSON_GetArrayItem(values, c), k)->valuedouble;
                if (!(fabs(out[c] - right) <= 3e-7 * (1 + fabs(right))))
                    fail_msg("%s: %d becomes %.9g, not %.9g", one->string, pixel[c], out[c], right);
            }
        }
    }
}

/* Every 4th row and column of what the network gets. */
static void erased_rectangles(void **state) {
    (void)state;
    int side;
    uint8_t *in = read_input(&side);
    size_t plane = (size_t)(side * side), few = (size_t)side / 4;
    float *out = malloc(3 * plane * sizeof *out);
    const struct dml_input_transform transform =
        transform_of(cJSON_GetObjectItem(cJSON_GetObjectItem(cases, "normalisation"), "imagenet"));
    const cJSON *one, *all = list_of("erasing");
    cJSON_ArrayForEach(one, all) {
        const struct dml_rect rect = {field(one, "left"), field(one, "top"), field(one, "width"),
                                      field(one, "height")};
        struct dml_images images = {
            .n = 1, .height = side, .width = side, .pixels = in, .erased = &rect};
        cpu_kernels_float32()->input(&images, 0, 1, &transform, NULL, NULL, out);
        size_t count;
        float *wanted = golden_floats(&count, "transforms2/%s", text(one, "expected"));
        assert_int_equal(count, 3 * few * few);
        for (size_t i = 0; i < count; i++) {
            size_t c = i / (few * few), y = i / few % few * 4, x = i % few * 4;
            float got = out[c * plane + y * (size_t)side + x];
            if (!(fabsf(got - wanted[i]) <= 3e-7f) || (wanted[i] == 0) != (got == 0))
                fail_msg("%s: value %zu is %.9g, not %.9g", text(one, "expected"), i, got,
                         wanted[i]);
        }
        free(wanted);
    }
    free(in);
    free(out);
}

/* What is drawn at every magnitude, in the order of the file's fourteen operations. */
static void magnitudes(void **state) {
    (void)state;
    const cJSON *all = list_of("randaugment_magnitudes_of_31");
    enum { BINS = 31, SIDE = 64, DRAWS = 400 };
    for (int magnitude = 0; magnitude < BINS; magnitude++) {
        char list[100];
        struct dml_pipeline *pipeline;
        snprintf(list, sizeof list, "squash rand_augment(n=1, magnitude=%d)", magnitude);
        assert_ok(dml_pipeline_parse("transforms", list, true, SIDE, SIDE, &pipeline));
        int seen[14] = {0}, negative[14] = {0};
        for (uint64_t i = 0; i < DRAWS; i++) {
            struct dml_rng rng = dml_rng_make(3, DML_PURPOSE_AUGMENT, (uint64_t)magnitude, i);
            struct dml_view view = dml_pipeline_draw(pipeline, 100, 80, &rng);
            const struct dml_drawn *drawn = &view.drawn[1];
            const cJSON *kind = cJSON_GetArrayItem(all, drawn->which[0]);
            const cJSON *values = cJSON_GetObjectItem(kind, "values");
            bool one = cJSON_GetArraySize(values) == 1;
            double right = cJSON_GetArrayItem(values, one ? 0 : magnitude)->valuedouble;
            if (!(fabs(fabs(drawn->values[0]) - right) <= 1e-6 * right))
                fail_msg("%s at %d: %.9g, not %.9g", kind->string, magnitude, drawn->values[0],
                         right);
            seen[drawn->which[0]]++;
            negative[drawn->which[0]] += drawn->values[0] < 0;
        }
        for (int k = 0; k < 14; k++) { /* at least one of each, in both directions */
            const cJSON *kind = cJSON_GetArrayItem(all, k);
            bool is_signed = cJSON_IsTrue(cJSON_GetObjectItem(kind, "signed"));
            assert_true(seen[k] > 0);
            if (magnitude > 0)
                assert_int_equal(negative[k] > 0 && negative[k] < seen[k], is_signed);
        }
        dml_pipeline_free(pipeline);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resized_images),    cmocka_unit_test(crops),
        cmocka_unit_test(operations),        cmocka_unit_test(normalised_values),
        cmocka_unit_test(erased_rectangles), cmocka_unit_test(magnitudes),
    };
    return cmocka_run_group_tests(tests, open_cases, close_cases);
}
