/* What augmentations draw: crops, views and their shares. */
#include "data/dataset.h"
#include "data/transform.h"
#include "support/golden.h"

#include <stdlib.h>
#include <string.h>

static void test_transform_options(void **state) {
    (void)state;
    struct dml_transform transform;
    transform = dml_transform_of(DML_AUGMENTATION_BASE, true, 227, 0, 0.25);
    assert_int_equal(transform.kind, DML_TRANSFORM_BASE);
    assert_int_equal(transform.crop, 227);
    assert_int_equal(transform.resize, 256);
    transform = dml_transform_of(DML_AUGMENTATION_BIG, false, 224, 0, 0.08);
    assert_int_equal(transform.kind, DML_TRANSFORM_EVALUATION);
    assert_int_equal(transform.crop, 256);
    transform = dml_transform_of(DML_AUGMENTATION_REDUCED, true, 224, 64, 0.08);
    assert_int_equal(transform.kind, DML_TRANSFORM_REDUCED);
    assert_int_equal(transform.crop, 64);
    assert_int_equal(transform.resize, 73);
    transform = dml_transform_of(DML_AUGMENTATION_BIG, true, 224, 64, 0.08);
    assert_int_equal(transform.crop, 64);
    assert_int_equal(transform.resize, 64);
    transform = dml_transform_of(DML_AUGMENTATION_BASE, false, 227, 113, 0.08);
    assert_int_equal(transform.resize, 127);
    struct dml_params *params;
    assert_ok(dml_params_new(&params));
    assert_ok(dml_params_add(params, &dml_dataset_params));
    const struct dml_dataset_options *options = dml_params_options(params, &dml_dataset_params);
    assert_int_equal(options->augmentation, DML_AUGMENTATION_BASE);
    assert_ok(dml_params_parse_text(params, "--augmentation red"));
    assert_int_equal(options->augmentation, DML_AUGMENTATION_REDUCED);
    assert_int_equal(dml_params_parse_text(params, "--augmentation bsae"), DML_ERROR_USAGE);
    assert_string_equal(dml_error(),
                        "--augmentation: there is no 'bsae'; choose from base, adv, big, red");
    dml_params_free(params);
}

/* Every view lies in its image and is as large as asked for, whatever the image's shape. */
static void test_views(void **state) {
    (void)state;
    static const int shapes[][2] = {{1, 1},    {1, 9000},  {9000, 1},  {2, 3},  {10, 500},
                                    {500, 10}, {224, 224}, {600, 400}, {31, 33}};
    uint8_t *out = malloc(256 * 256 * 3);
    assert_non_null(out);
    struct dml_resizer resizer = {.columns = NULL};
    struct dml_pixels pixels = {.data = NULL};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        struct dml_rect all = {0, 0, shapes[s][0], shapes[s][1]};
        assert_ok(dml_pixels_reserve(&pixels, all));
        memset(pixels.data, 200, (size_t)all.width * (size_t)all.height * 3);
        for (int k = 0; k < 8; k++) {
            struct dml_transform transform =
                dml_transform_of((enum dml_augmentation)(k / 2), k % 2, 224, 0, 0.08);
            for (int draw = 0; draw < 20; draw++) {
                struct dml_rng rng = dml_rng_make(0, DML_PURPOSE_AUGMENT, s, (uint64_t)draw);
                struct dml_view view = dml_transform_draw(&transform, all.width, all.height, &rng);
                struct dml_rect box = view.scaling.box, part = view.scaling.part;
                struct dml_rect needs = dml_scaling_needs(&view.scaling);
                assert_true(box.left >= 0 && box.top >= 0 && box.width > 0 && box.height > 0);
                assert_true(box.left + box.width <= all.width);
                assert_true(box.top + box.height <= all.height);
                assert_true(part.left >= 0 && part.left + part.width <= view.scaling.width);
                assert_true(part.top >= 0 && part.top + part.height <= view.scaling.height);
                assert_true(needs.left >= box.left && needs.top >= box.top);
                assert_true(needs.left + needs.width <= box.left + box.width);
                assert_true(needs.top + needs.height <= box.top + box.height);
                assert_int_equal(part.width, transform.crop);
                view.jitter = view.gray = false;
                assert_ok(dml_view_render(&view, &resizer, &pixels, out));
                for (int i = 0; i < transform.crop * transform.crop * 3; i++)
                    if (out[i] != 200)
                        fail_msg("an even image became uneven: %d", out[i]);
            }
        }
    }
    dml_pixels_free(&pixels);
    dml_resizer_free(&resizer);
    free(out);
}

/* Shares of what random resized crops draw: areas and aspects in bounds, half of them flipped. */
static void test_draws(void **state) {
    (void)state;
    enum { DRAWS = 4000 };
    struct dml_transform transform;
    int flips = 0, grays = 0;
    double area = 0;
    transform = dml_transform_of(DML_AUGMENTATION_ADVANCED, true, 224, 0, 0.08);
    for (uint64_t i = 0; i < DRAWS; i++) {
        struct dml_rng rng = dml_rng_make(5, DML_PURPOSE_AUGMENT, 0, i);
        struct dml_view view = dml_transform_draw(&transform, 1000, 1000, &rng);
        struct dml_rect box = view.scaling.box;
        double share = (double)box.width * box.height / 1e6,
               aspect = (double)box.width / box.height;
        assert_true(share > 0.079 && share <= 1);
        assert_true(aspect > 0.745 && aspect < 1.342);
        area += share / DRAWS;
        flips += view.scaling.flip;
        grays += view.gray;
        for (int f = 0; f < 3; f++)
            assert_true(view.factors[f] >= 0.8f && view.factors[f] <= 1.2f);
        assert_true(view.factors[DML_COLOR_HUE] >= -0.2f && view.factors[DML_COLOR_HUE] <= 0.2f);
    }
    /* Five standard deviations; the area's mean is below (0.08 + 1) / 2, since large boxes fit
     * less often. */
    assert_in_range(flips, DRAWS / 2 - 160, DRAWS / 2 + 160);
    assert_in_range(grays, DRAWS / 5 - 130, DRAWS / 5 + 130);
    assert_true(area > 0.46 && area < 0.54);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transform_options),
        cmocka_unit_test(test_views),
        cmocka_unit_test(test_draws),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
