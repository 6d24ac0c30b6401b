/* Decoding, resampling and colour changes against what Pillow and torchvision make of the same
 * files. */
#include "data/color.h"
#include "data/transform.h"
#include "support/golden.h"

#include <stdlib.h>
#include <string.h>

enum { LEVELS = 1, ONE_IN = 1000 };

/* At most LEVELS apart, and different in fewer than one value in ONE_IN. */
static void assert_near(const char *what, const uint8_t *got, const int32_t *wanted, size_t count) {
    size_t different = 0;
    for (size_t i = 0; i < count; i++) {
        int apart = abs(got[i] - wanted[i]);
        if (apart > LEVELS)
            fail_msg("%s: value %zu is %d, not %d", what, i, got[i], wanted[i]);
        different += apart != 0;
    }
    if (different * ONE_IN >= count)
        fail_msg("%s: %zu of %zu values differ", what, different, count);
}

static void check_evaluation(const char *image, const char *expected) {
    struct dml_transform transform;
    struct dml_transformer transformer;
    transform = dml_transform_of(DML_AUGMENTATION_BASE, false, 224, 0, 0.08);
    assert_ok(dml_transformer_init(&transformer));
    size_t count;
    int32_t *wanted = golden_ints(&count, "transforms/%s", expected);
    assert_int_equal(count, 224 * 224 * 3);
    uint8_t *got = malloc(count);
    assert_non_null(got);
    assert_ok(dml_transform_file(&transformer, &transform, golden_path("transforms/%s", image),
                                 NULL, NULL, got));
    assert_near(image, got, wanted, count);
    free(got);
    free(wanted);
    dml_transformer_free(&transformer);
}

/* Every image that has an array of its own or shares one with the same image in another format. */
static void test_evaluation(void **state) {
    (void)state;
    size_t count, checked = 0;
    char **names = golden_names("transforms", &count);
    for (size_t i = 0; i < count; i++) {
        const char *dot = strrchr(names[i], '.');
        if (!dot || (strcmp(dot, ".jpg") != 0 && strcmp(dot, ".png") != 0))
            continue;
        char expected[300], path[350];
        snprintf(expected, sizeof expected, "%.*s_eval224.npy", (int)(dot - names[i]), names[i]);
        snprintf(path, sizeof path, "transforms/%s", expected);
        if (!golden_exists(path))
            continue;
        check_evaluation(names[i], expected);
        checked++;
    }
    assert_true(checked > 0);
    golden_free_names(names, count);
}

static int field(const cJSON *crop, const char *name) {
    const cJSON *item = cJSON_GetObjectItem(crop, name);
    assert_non_null(item);
    return item->valueint;
}

static void check_crop(const cJSON *crop, struct dml_reader *reader) {
    const char *image = cJSON_GetObjectItem(crop, "image")->valuestring;
    const char *expected = cJSON_GetObjectItem(crop, "expected")->valuestring;
    int size = field(crop, "size"), width, height;
    struct dml_view view = {.scaling = {.box = {field(crop, "left"), field(crop, "top"),
                                                field(crop, "width"), field(crop, "height")},
                                        .width = size,
                                        .height = size,
                                        .part = {0, 0, size, size},
                                        .flip = cJSON_IsTrue(cJSON_GetObjectItem(crop, "flip"))}};
    size_t count;
    int32_t *wanted = golden_ints(&count, "transforms/%s", expected);
    assert_int_equal(count, size * size * 3);
    struct dml_pixels pixels = {.data = NULL};
    struct dml_resizer resizer = {.columns = NULL};
    uint8_t *got = malloc(count);
    assert_non_null(got);
    assert_ok(dml_reader_open(reader, golden_path("transforms/%s", image), &width, &height));
    assert_ok(dml_reader_decode(reader, dml_scaling_needs(&view.scaling), &pixels));
    assert_ok(dml_view_render(&view, &resizer, &pixels, got));
    assert_near(expected, got, wanted, count);
    free(got);
    free(wanted);
    dml_pixels_free(&pixels);
    dml_resizer_free(&resizer);
}

static void test_crops(void **state) {
    (void)state;
    cJSON *cases = golden_json("transforms/cases.json");
    struct dml_reader *reader;
    assert_ok(dml_reader_new(&reader));
    const cJSON *crop, *crops = cJSON_GetObjectItem(cases, "crops");
    assert_true(cJSON_GetArraySize(crops) > 0);
    cJSON_ArrayForEach(crop, crops) check_crop(crop, reader);
    dml_reader_free(reader);
    cJSON_Delete(cases);
}

static void check_color(const char *image, const char *change, double amount) {
    size_t count, wanted_count;
    int32_t *before = golden_ints(&count, "transforms/%s_64.npy", image);
    int32_t *wanted = golden_ints(&wanted_count, "transforms/%s_64_%s.npy", image, change);
    uint8_t *pixels = malloc(count);
    assert_non_null(pixels);
    for (size_t i = 0; i < count; i++)
        pixels[i] = (uint8_t)before[i];
    size_t n = count / 3;
    if (strcmp(change, "gray") == 0)
        dml_color_gray(pixels, n);
    else if (strcmp(change, "brightness") == 0)
        dml_color_brightness(pixels, n, (float)amount);
    else if (strcmp(change, "contrast") == 0)
        dml_color_contrast(pixels, n, (float)amount);
    else if (strcmp(change, "saturation") == 0)
        dml_color_saturation(pixels, n, (float)amount);
    else
        dml_color_hue(pixels, n, amount);
    if (wanted_count == n) { /* one channel for all three */
        for (size_t i = 0; i < count; i++)
            assert_int_equal(pixels[i], wanted[i / 3]);
    } else {
        assert_int_equal(wanted_count, count);
        for (size_t i = 0; i < count; i++)
            if (pixels[i] != wanted[i])
                fail_msg("%s %s: value %zu is %d, not %d", image, change, i, pixels[i], wanted[i]);
    }
    free(pixels);
    free(before);
    free(wanted);
}

/* Every NAME_64.npy. */
static void test_colors(void **state) {
    (void)state;
    static const char ENDING[] = "_64.npy";
    size_t count, checked = 0;
    char **names = golden_names("transforms", &count);
    cJSON *cases = golden_json("transforms/cases.json");
    const cJSON *factor, *jitter = cJSON_GetObjectItem(cases, "jitter");
    assert_int_equal(cJSON_GetArraySize(jitter), 4);
    for (size_t i = 0; i < count; i++) {
        char *ending = strstr(names[i], ENDING);
        if (!ending || ending[sizeof ENDING - 1])
            continue;
        *ending = 0;
        check_color(names[i], "gray", 0);
        cJSON_ArrayForEach(factor, jitter)
            check_color(names[i], factor->string, factor->valuedouble);
        checked++;
    }
    assert_true(checked > 0);
    golden_free_names(names, count);
    cJSON_Delete(cases);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_evaluation),
        cmocka_unit_test(test_crops),
        cmocka_unit_test(test_colors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
