/* The loader: same batches for any number of threads, replaced images, early ends, caches; and
 * that decoding a part of a file gives the pixels of the whole. */
#include "base/memory.h"
#include "data/dataset.h"
#include "data/loader.h"
#include "data/png_write.h"
#include "support/golden.h"
#include "support/scratch.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CLASSES = 6, PER_CLASS = 4, SIDE = 32, MOST = 64 };

/* A part with images of different sizes, JPEG and PNG, from scratch. */
static void make_part(struct dml_part *part) {
    *part =
        (struct dml_part){.name = "training", .images = CLASSES * PER_CLASS, .classes = CLASSES};
    part->paths = calloc(part->images, sizeof *part->paths);
    part->labels = calloc(part->images, sizeof *part->labels);
    part->class_names = calloc(part->classes, sizeof *part->class_names);
    assert_true(part->paths && part->labels && part->class_names);
    for (int c = 0; c < CLASSES; c++) {
        part->class_names[c] = dml_format("class%d", c);
        for (int i = 0; i < PER_CLASS; i++) {
            int at = c * PER_CLASS + i;
            char *name = dml_format("class%d/%d.jpg", c, i);
            part->labels[at] = c;
            part->paths[at] = strdup(scratch_jpeg(name, 24 + 7 * at, 90 - 3 * at, (unsigned)at));
            free(name);
        }
    }
}

static void free_part(struct dml_part *part) {
    for (size_t i = 0; i < part->images; i++)
        free(part->paths[i]);
    for (size_t c = 0; c < part->classes; c++)
        free(part->class_names[c]);
    free(part->paths);
    free(part->labels);
    free(part->class_names);
}

static struct dml_loader_options options_of(const struct dml_part *part, bool training,
                                            int threads) {
    struct dml_loader_options options = {
        .part = part, .batch_size = 5, .threads = threads, .seed = 7};
    assert_ok(dml_transform_make("adv", training, 224, SIDE, 0.08, &options.transform));
    return options;
}

/* Everything a pass hands out, one image after the other. */
struct pass {
    size_t count;
    uint8_t pixels[MOST][SIDE * SIDE * 3];
    int32_t labels[MOST];
    uint32_t indices[MOST];
};

static void run_pass(struct dml_loader *loader, uint64_t epoch, const uint32_t *order, size_t count,
                     size_t batch_size, struct pass *out) {
    const struct dml_loaded *batch;
    out->count = 0;
    assert_ok(dml_loader_start(loader, epoch, order, count));
    for (;;) {
        assert_ok(dml_loader_next(loader, &batch));
        if (!batch)
            break;
        assert_int_equal(batch->height, SIDE);
        assert_int_equal(batch->width, SIDE);
        size_t left = count - out->count;
        assert_int_equal(batch->n, left < batch_size ? left : batch_size);
        memcpy(out->pixels[out->count], batch->pixels, batch->n * sizeof out->pixels[0]);
        memcpy(out->labels + out->count, batch->labels, batch->n * sizeof *out->labels);
        memcpy(out->indices + out->count, batch->indices, batch->n * sizeof *out->indices);
        out->count += batch->n;
        dml_loader_release(loader, batch);
    }
    assert_int_equal(out->count, count);
}

static void assert_same(const struct pass *a, const struct pass *b) {
    assert_int_equal(a->count, b->count);
    assert_memory_equal(a->indices, b->indices, a->count * sizeof *a->indices);
    assert_memory_equal(a->labels, b->labels, a->count * sizeof *a->labels);
    assert_memory_equal(a->pixels, b->pixels, a->count * sizeof a->pixels[0]);
}

static struct pass first, second, third; /* too large for a stack */

/* An order with repeats, as class_random draws it. */
static const uint32_t ORDER[] = {3, 3, 0, 23, 7, 11, 11, 2, 19, 5, 1, 22, 3};
enum { COUNT = sizeof ORDER / sizeof *ORDER };

static void test_threads(void **state) {
    (void)state;
    static const int threads[] = {1, 2, 5};
    struct dml_part part;
    make_part(&part);
    for (int t = 0; t < 3; t++) {
        struct dml_loader_options options = options_of(&part, true, threads[t]);
        struct dml_loader *loader;
        assert_ok(dml_loader_open(&options, &loader));
        struct pass *pass = t ? &second : &first;
        run_pass(loader, 4, ORDER, COUNT, 5, pass);
        for (int i = 0; i < COUNT; i++) {
            assert_int_equal(pass->indices[i], ORDER[i]);
            assert_int_equal(pass->labels[i], part.labels[ORDER[i]]);
        }
        if (t)
            assert_same(&first, &second);
        run_pass(loader, 4, ORDER, COUNT, 5, &third); /* a repeated epoch is the same */
        assert_same(&first, &third);
        run_pass(loader, 5, ORDER, COUNT, 5, &third); /* another one is not */
        assert_memory_not_equal(first.pixels, third.pixels, COUNT * sizeof first.pixels[0]);
        /* Positions 0 and 1 are one image, differently seen. */
        assert_memory_not_equal(first.pixels[0], first.pixels[1], sizeof first.pixels[0]);
        assert_int_equal(dml_loader_replaced(loader), 0);
        dml_loader_close(loader);
    }
    free_part(&part);
}

static void test_batches(void **state) {
    (void)state;
    struct dml_part part;
    make_part(&part);
    struct dml_loader_options options = options_of(&part, false, 2);
    for (size_t batch_size = 1; batch_size <= 32; batch_size += 6) {
        struct dml_loader *loader;
        options.batch_size = batch_size;
        assert_ok(dml_loader_open(&options, &loader));
        struct pass *pass = batch_size > 1 ? &second : &first;
        run_pass(loader, 0, NULL, part.images, batch_size, pass);
        for (size_t i = 0; i < part.images; i++)
            assert_int_equal(pass->indices[i], i);
        if (batch_size > 1)
            assert_same(&first, &second);
        const struct dml_loaded *batch;
        assert_ok(dml_loader_next(loader, &batch)); /* still behind the last */
        assert_null(batch);
        dml_loader_close(loader);
    }
    free_part(&part);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_batches),
    };
    scratch_open();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scratch_close();
    return failed;
}
