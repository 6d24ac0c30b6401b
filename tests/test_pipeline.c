/* Lists of operations: what they read, refuse, draw and make. */
#include "data/pipeline.h"
#include "support/golden.h"

#include <stdlib.h>
#include <string.h>

enum { SIDE = 32, WIDTH = 61, HEIGHT = 47 };

static struct dml_pipeline *parse(const char *text, bool training) {
    struct dml_pipeline *pipeline;
    assert_ok(dml_pipeline_parse("transforms", text, training, SIDE, 37, &pipeline));
    return pipeline;
}

static void fill(struct dml_pixels *pixels) {
    assert_ok(dml_pixels_reserve(pixels, (struct dml_rect){0, 0, WIDTH, HEIGHT}));
    struct dml_rng rng = dml_rng_make(1, DML_PURPOSE_OTHER, 0, 0);
    for (size_t y = 0; y < HEIGHT; y++)
        for (size_t i = 0; i < WIDTH * 3; i++)
            pixels->data[y * pixels->stride + i] = (uint8_t)dml_rng_bits(&rng);
}

/* A list that says what an augmentation does makes the same images, to the bit. */
static void check_same(enum dml_augmentation augmentation, bool training, const char *list) {
    struct dml_transform plain, listed;
    struct dml_pixels pixels = {.data = NULL};
    struct dml_resizer resizer = {.columns = NULL};
    uint8_t a[SIDE * SIDE * 3], b[SIDE * SIDE * 3];
    fill(&pixels);
    plain = dml_transform_of(augmentation, training, 224, SIDE, 0.08);
    listed = plain;
    struct dml_pipeline *pipeline = parse(list, training);
    listed.list = pipeline;
    for (uint64_t i = 0; i < 200; i++) {
        struct dml_rng first = dml_rng_make(7, DML_PURPOSE_AUGMENT, 0, i), second = first;
        struct dml_view x = dml_transform_draw(&plain, WIDTH, HEIGHT, &first);
        struct dml_view y = dml_transform_draw(&listed, WIDTH, HEIGHT, &second);
        assert_ok(dml_view_render(&x, &resizer, &pixels, a));
        assert_ok(dml_view_render(&y, &resizer, &pixels, b));
        assert_memory_equal(a, b, sizeof a);
    }
    dml_pipeline_free(pipeline);
    dml_pixels_free(&pixels);
    dml_resizer_free(&resizer);
}

static void lists_that_say_what_augmentations_do(void **state) {
    (void)state;
    check_same(DML_AUGMENTATION_BASE, true, "random_resized_crop flip");
    check_same(DML_AUGMENTATION_BASE, true,
               " random_resized_crop( scale = 0.08..1 )\n\tflip(p=0.5) ");
    check_same(DML_AUGMENTATION_ADVANCED, true,
               "random_resized_crop() grayscale(0.2) color_jitter flip");
    check_same(DML_AUGMENTATION_REDUCED, true, "resize(37) random_crop(32) flip");
    check_same(DML_AUGMENTATION_BASE, false, "resize center_crop");
}

static void refused(const char *list, bool training, const char *message) {
    struct dml_pipeline *pipeline;
    const char *flag = training ? "transforms" : "eval_transforms";
    assert_int_equal(dml_pipeline_parse(flag, list, training, SIDE, 37, &pipeline),
                     DML_ERROR_USAGE);
    assert_null(pipeline);
    if (strncmp(dml_error(), "--", 2) || strncmp(dml_error() + 2, flag, strlen(flag)) ||
        !strstr(dml_error(), message) || strchr(dml_error(), '\n'))
        fail_msg("%s: %s", list, dml_error());
}

static void bad_lists_are_named_with_their_place(void **state) {
    (void)state;
    refused("random_resized_crop flpi", true,
            "operation 2: there is no 'flpi'; did you mean 'flip'?");
    refused("random_resized_crop(sclae=0.2..1) flip", true, "sclae");
    refused("random_resized_crop(scale=0.2) flip", true, "scale: is not a range");
    refused("random_resized_crop(scale=0.9..0.2) flip", true, "scale: is not a range");
    refused("random_resized_crop(scale=0.2..3) flip", true, "operation 1: random_resized_crop");
    refused("random_resized_crop(scale=0..1)", true, "operation 1: random_resized_crop");
    refused("random_resized_crop(interpolation=cubic)", true, "cubic");
    refused("random_resized_crop flip(p=1.5)", true, "operation 2: flip");
    refused("random_resized_crop flip(0.5, 0.6)", true, "'0.6' is not of the form name=value");
    refused("random_resized_crop flip(0.5", true, "operation 2: ')' is missing");
    refused("random_resized_crop flip(0.5)x", true, "'x' follows its ')'");
    refused("random_resized_crop resize", true, "operation 2: resize: the image has been scaled");
    refused("random_resized_crop grayscale center_crop", true,
            "operation 3: center_crop: must come");
    refused("center_crop", true, "operation 1: center_crop: needs resize");
    refused("resize(20) center_crop", true, "32 pixels of an image of 20");
    refused("resize", true, "crop after it");
    refused("flip", true, "nothing scales the images");
    refused("", true, "nothing scales the images");
    refused("squash(40)", true, "makes images of 40 x 40, but the network takes 32 x 32");
    refused("squash random_erasing flip", true, "operation 3: flip: nothing may follow");
    refused("squash rand_augment(magnitude=31)", true, "operation 2: rand_augment: magnitude=31");
    refused("squash flip", false, "operation 2: flip: is random");
    refused(
        "squash flip flip flip flip flip flip flip flip flip flip flip flip flip flip flip flip",
        true, "more than 16 operations");
}

/* Every list's views lie in their images and are as large as the network's input. */
static void views(void **state) {
    (void)state;
    static const char *const lists[] = {
        "random_resized_crop(scale=0.2..1, interpolation=bicubic) flip rand_augment random_erasing",
        "squash(interpolation=bicubic) rand_augment(n=3, magnitude=20, interpolation=bicubic) flip",
        "resize(50, interpolation=bicubic) random_crop color_jitter(hue=0, p=0.5) flip",
        "resize(64) center_crop(40) random_crop(32) grayscale(1) "
        "rand_augment(interpolation=bilinear)",
    };
    static const int shapes[][2] = {{1, 1}, {1, 900}, {900, 1}, {2, 3}, {32, 32}, {300, 200}};
    struct dml_pixels pixels = {.data = NULL};
    struct dml_resizer resizer = {.columns = NULL};
    uint8_t out[SIDE * SIDE * 3];
    for (size_t l = 0; l < sizeof lists / sizeof *lists; l++) {
        struct dml_pipeline *pipeline = parse(lists[l], true);
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            struct dml_rect all = {0, 0, shapes[s][0], shapes[s][1]};
            assert_ok(dml_pixels_reserve(&pixels, all));
            memset(pixels.data, 90, pixels.stride * (size_t)all.height);
            for (uint64_t i = 0; i < 100; i++) {
                struct dml_rng rng = dml_rng_make(2, DML_PURPOSE_AUGMENT, s, i);
                struct dml_view view = dml_pipeline_draw(pipeline, all.width, all.height, &rng);
                struct dml_rect part = view.scaling.part, needs = dml_scaling_needs(&view.scaling);
                struct dml_rect erased = view.erased;
                assert_int_equal(part.width, SIDE);
                assert_int_equal(part.height, SIDE);
                assert_true(part.left >= 0 && part.left + SIDE <= view.scaling.width);
                assert_true(part.top >= 0 && part.top + SIDE <= view.scaling.height);
                assert_true(needs.left >= 0 && needs.left + needs.width <= all.width);
                assert_true(needs.top >= 0 && needs.top + needs.height <= all.height);
                assert_true(erased.left >= 0 && erased.left + erased.width <= SIDE);
                assert_true(erased.top >= 0 && erased.top + erased.height <= SIDE);
                assert_ok(dml_view_render(&view, &resizer, &pixels, out));
            }
        }
        dml_pipeline_free(pipeline);
    }
    dml_pixels_free(&pixels);
    dml_resizer_free(&resizer);
}

/* Half of the images have a rectangle erased, of 0.02 to 0.33 of their area. */
static void erasing_draws_its_shares(void **state) {
    (void)state;
    enum { DRAWS = 4000 };
    struct dml_pipeline *pipeline;
    assert_ok(dml_pipeline_parse("transforms", "squash random_erasing", true, 224, 256, &pipeline));
    assert_true(dml_pipeline_erases(pipeline));
    int erased = 0;
    for (uint64_t i = 0; i < DRAWS; i++) {
        struct dml_rng rng = dml_rng_make(4, DML_PURPOSE_AUGMENT, 0, i);
        struct dml_view view = dml_pipeline_draw(pipeline, 500, 300, &rng);
        if (view.erased.width == 0)
            continue;
        erased++;
        double share = (double)view.erased.width * view.erased.height / (224 * 224),
               ratio = (double)view.erased.height / view.erased.width;
        assert_true(share > 0.019 && share < 0.335);
        assert_true(ratio > 0.28 && ratio < 3.5);
    }
    assert_in_range(erased, DRAWS / 2 - 160, DRAWS / 2 + 160);
    dml_pipeline_free(pipeline);
}

/* A flip after an operation that moves pixels flips what that made. */
static void the_order_of_a_list_counts(void **state) {
    (void)state;
    struct dml_pixels pixels = {.data = NULL};
    struct dml_resizer resizer = {.columns = NULL};
    uint8_t plain[SIDE * SIDE * 3], flipped[SIDE * SIDE * 3];
    fill(&pixels);
    struct dml_pipeline *a = parse("squash rand_augment(n=4) flip(0)", true);
    struct dml_pipeline *b = parse("squash rand_augment(n=4) flip(1)", true);
    for (uint64_t i = 0; i < 50; i++) {
        struct dml_rng first = dml_rng_make(9, DML_PURPOSE_AUGMENT, 0, i), second = first;
        struct dml_view x = dml_pipeline_draw(a, WIDTH, HEIGHT, &first);
        struct dml_view y = dml_pipeline_draw(b, WIDTH, HEIGHT, &second);
        assert_ok(dml_view_render(&x, &resizer, &pixels, plain));
        assert_ok(dml_view_render(&y, &resizer, &pixels, flipped));
        for (size_t k = 0; k < SIDE * SIDE; k++)
            assert_memory_equal(plain + 3 * k,
                                flipped + 3 * (k / SIDE * SIDE + SIDE - 1 - k % SIDE), 3);
    }
    dml_pipeline_free(a);
    dml_pipeline_free(b);
    dml_pixels_free(&pixels);
    dml_resizer_free(&resizer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_that_say_what_augmentations_do),
        cmocka_unit_test(bad_lists_are_named_with_their_place),
        cmocka_unit_test(views),
        cmocka_unit_test(erasing_draws_its_shares),
        cmocka_unit_test(the_order_of_a_list_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
