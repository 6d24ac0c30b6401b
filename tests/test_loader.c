/* The loader: same batches for any number of threads, replaced images, early ends. */
#include "base/memory.h"
#include "data/pipeline.h"
#include "support/golden.h"
#include "support/loading.h"
#include "support/scratch.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* The rest of an epoch on its own, as a resumed run loads it, and one rank's part of each batch. */
static void test_parts_of_an_epoch(void **state) {
    (void)state;
    enum { BS = 4, OWN = 2, DONE = 2 };
    struct dml_part part;
    struct dml_loader *loader;
    make_part(&part);
    struct dml_loader_options options = options_of(&part, true, 2);
    options.batch_size = BS;
    assert_ok(dml_loader_open(&options, &loader));
    run_pass(loader, 4, ORDER, COUNT, BS, &first);
    dml_loader_place(loader, DONE * BS, BS);
    run_pass(loader, 4, ORDER + DONE * BS, COUNT - DONE * BS, BS, &second);
    assert_memory_equal(second.pixels, first.pixels[DONE * BS],
                        second.count * sizeof first.pixels[0]);
    dml_loader_close(loader);
    options.batch_size = OWN; /* the second of two ranks */
    assert_ok(dml_loader_open(&options, &loader));
    dml_loader_place(loader, DONE * BS + OWN, BS);
    run_pass(loader, 4, ORDER + DONE * BS + OWN, OWN, OWN, &third);
    assert_memory_equal(third.pixels, first.pixels[DONE * BS + OWN], OWN * sizeof first.pixels[0]);
    dml_loader_close(loader);
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
        assert_ok(dml_loader_next(loader, &batch)); /* still after the last */
        assert_null(batch);
        dml_loader_close(loader);
    }
    free_part(&part);
}

/* One pass over all images with the options. */
static void test_replaced(void **state) {
    (void)state;
    static const int threads[] = {1, 2, 5};
    struct dml_part part;
    make_part(&part);
    scratch_text("class1/2.jpg", "not an image");
    scratch_text("class3/0.jpg", "");
    scratch_copy("class3/1.jpg", golden_path("transforms/chelsea.jpg"), 5000);
    unlink(part.paths[4 * PER_CLASS + 3]);
    static const bool bad[CLASSES * PER_CLASS] = {
        [6] = true, [12] = true, [13] = true, [19] = true};
    for (int t = 0; t < 3; t++) {
        struct dml_loader_options options = options_of(&part, t == 2, threads[t]);
        struct dml_loader *loader;
        if (t == 1)
            options.cache = "memory";
        assert_ok(dml_loader_open(&options, &loader));
        struct pass *pass = t == 1 ? &second : &first;
        for (uint64_t epoch = 0; epoch < 2; epoch++) {
            run_pass(loader, epoch, NULL, part.images, 5, pass);
            for (size_t i = 0; i < part.images; i++) {
                if (bad[i] && t < 2)
                    assert_int_not_equal(pass->indices[i], i);
                else if (!bad[i])
                    assert_int_equal(pass->indices[i], i);
                assert_int_equal(pass->labels[i], part.labels[i]);
                assert_int_equal(part.labels[pass->indices[i]], part.labels[i]);
                assert_false(t < 2 && bad[pass->indices[i]]);
            }
        }
        assert_in_range(dml_loader_replaced(loader), 3, 4);
        if (t < 2)
            assert_int_equal(dml_loader_replaced(loader), 4);
        if (t == 1)
            assert_same(&first, &second);
        dml_loader_close(loader);
    }
    /* Training replaces the same images whatever the threads. */
    struct dml_loader_options options = options_of(&part, true, 1);
    pass_with(&options, 3, &second);
    options.threads = 4;
    pass_with(&options, 3, &third);
    assert_same(&second, &third);
    free_part(&part);
}

/* A file that is corrupt between whole ends is used as far as it decodes, the same whatever the
 * threads and the cache, and told once: by one of the loaders that share a part's notes. */
static void test_corrupt(void **state) {
    (void)state;
    struct dml_part part;
    make_part(&part);
    char *good = strdup(scratch_jpeg("good.jpg", 200, 150, 4));
    scratch_corrupt("class2/3.jpg", good, 64, true);
    char *caches[] = {NULL, "memory", strdup(scratch_path("images"))};
    for (int c = 0; c < 3; c++)
        for (int again = 0; again < 2; again++) {
            struct dml_loader_options options = options_of(&part, false, 1 + 3 * again);
            struct dml_loader *loader;
            options.cache = caches[c];
            assert_ok(dml_loader_open(&options, &loader));
            for (uint64_t epoch = 0; epoch < 2; epoch++)
                run_pass(loader, epoch, NULL, part.images, 5, c || again ? &second : &first);
            assert_int_equal(dml_loader_corrupt(loader), 1);
            assert_int_equal(dml_loader_replaced(loader), 0);
            dml_loader_close(loader);
            if (c || again)
                assert_same(&first, &second);
        }
    part.told = calloc(part.images, sizeof *part.told);
    assert_non_null(part.told);
    unlink(part.paths[0]);
    struct dml_loader *loaders[2];
    for (int i = 0; i < 2; i++) {
        struct dml_loader_options options = options_of(&part, false, 2);
        assert_ok(dml_loader_open(&options, &loaders[i]));
        run_pass(loaders[i], 0, NULL, part.images, 5, &first);
        assert_int_equal(dml_loader_corrupt(loaders[i]), i == 0);
        assert_int_equal(dml_loader_replaced(loaders[i]), i == 0);
    }
    dml_loader_close(loaders[0]);
    dml_loader_close(loaders[1]);
    free((void *)part.told);
    free(caches[2]);
    free(good);
    free_part(&part);
}

/* The same batches where there is memory for one at a time, two, or any number. */
static void test_little_memory(void **state) {
    (void)state;
    struct dml_part part;
    make_part(&part);
    for (size_t batches = 0; batches < 4; batches++) {
        struct dml_loader_options options = options_of(&part, true, 3);
        options.memory = batches * options.batch_size * SIDE * SIDE * 3 + 1;
        pass_with(&options, 2, batches ? &second : &first);
        if (batches)
            assert_same(&first, &second);
    }
    free_part(&part);
}

/* Where every row must be of its own image, none takes the place of another. */
static void test_strict(void **state) {
    (void)state;
    struct dml_part part;
    make_part(&part);
    char *good = strdup(scratch_jpeg("good.jpg", 200, 150, 4));
    for (int threads = 1; threads < 4; threads++) {
        if (threads < 3)
            scratch_text("class1/2.jpg", "not an image");
        else
            scratch_corrupt("class1/2.jpg", good, 64, true);
        struct dml_loader_options options = options_of(&part, false, threads);
        const struct dml_loaded *batch;
        struct dml_loader *loader;
        enum dml_status status = DML_OK;
        options.strict = true;
        assert_ok(dml_loader_open(&options, &loader));
        assert_ok(dml_loader_start(loader, 0, NULL, 0));
        for (int i = 0; i < 10 && !status; i++) {
            status = dml_loader_next(loader, &batch);
            dml_loader_release(loader, batch);
        }
        assert_int_equal(status, DML_ERROR_INPUT);
        assert_non_null(strstr(dml_error(), "class1/2.jpg: "));
        assert_int_equal(dml_loader_replaced(loader) + dml_loader_corrupt(loader), 0);
        dml_loader_close(loader);
    }
    free(good);
    free_part(&part);
}

static void test_class_unreadable(void **state) {
    (void)state;
    struct dml_part part;
    const struct dml_loaded *batch;
    enum dml_status status = DML_OK;
    struct dml_loader *loader;
    make_part(&part);
    for (int i = 0; i < PER_CLASS; i++)
        unlink(part.paths[2 * PER_CLASS + i]);
    struct dml_loader_options options = options_of(&part, true, 3);
    assert_ok(dml_loader_open(&options, &loader));
    assert_ok(dml_loader_start(loader, 0, NULL, 0));
    for (int i = 0; i < 10 && !status; i++) {
        status = dml_loader_next(loader, &batch);
        if (!status)
            assert_non_null(batch);
        dml_loader_release(loader, batch);
    }
    assert_int_equal(status, DML_ERROR_INPUT);
    assert_non_null(strstr(dml_error(), "class2/"));
    assert_non_null(strstr(dml_error(), "no image of its class"));
    assert_int_equal(dml_loader_next(loader, &batch), DML_ERROR_INPUT); /* and stays so */
    static const uint32_t good[] = {0, 1, 23};
    run_pass(loader, 1, good, 3, 5, &first); /* another pass may do without that class */
    dml_loader_close(loader);
    free_part(&part);
}

/* Passes are left and loaders closed while producers are at work or wait for room. */
static void test_early_ends(void **state) {
    (void)state;
    struct dml_part part;
    make_part(&part);
    for (int threads = 1; threads <= 4; threads++)
        for (int taken = 0; taken < 4; taken++) {
            struct dml_loader_options options = options_of(&part, true, threads);
            struct dml_loader *loader;
            const struct dml_loaded *batch = NULL, *before = NULL;
            options.batch_size = 2;
            options.memory = 2 * (2 * SIDE * SIDE * 3);
            assert_ok(dml_loader_open(&options, &loader));
            for (int i = 0; i < taken; i++) {
                if (i == 0)
                    assert_ok(dml_loader_start(loader, 9, NULL, 0));
                dml_loader_release(loader, before);
                before = batch;
                assert_ok(dml_loader_next(loader, &batch));
                assert_non_null(batch);
            }
            if (taken % 2) { /* a new pass in the middle of another, two batches not released */
                run_pass(loader, 4, ORDER, COUNT, 2, &second);
                options.threads = 1;
                struct dml_loader *fresh;
                assert_ok(dml_loader_open(&options, &fresh));
                run_pass(fresh, 4, ORDER, COUNT, 2, &first);
                dml_loader_close(fresh);
                assert_same(&first, &second);
            }
            dml_loader_close(loader);
        }
    struct dml_loader_options options = options_of(&part, true, 2);
    struct dml_loader *loader;
    static const uint32_t wrong[] = {0, CLASSES * PER_CLASS};
    assert_ok(dml_loader_open(&options, &loader));
    assert_int_equal(dml_loader_start(loader, 0, wrong, 2), DML_ERROR_INPUT);
    assert_non_null(strstr(dml_error(), "image 24 of a part of 24"));
    dml_loader_close(loader);
    free_part(&part);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)
/* A list draws the same for any number of threads and with a cache; what is to be erased comes with
 * its image. */
static void test_lists(void **state) {
    (void)state;
    static const char text[] = "random_resized_crop(interpolation=bicubic) rand_augment flip "
                               "random_erasing";
    static char memory[] = "memory";
    struct dml_part part;
    struct dml_pipeline *list;
    make_part(&part);
    assert_ok(dml_pipeline_parse("transforms", text, true, SIDE, SIDE, &list));
    for (int t = 0; t < 3; t++) {
        struct dml_loader_options options = options_of(&part, true, t + 1);
        options.transform.kind = DML_TRANSFORM_LIST;
        options.transform.list = list;
        options.cache = t == 2 ? memory : NULL;
        struct dml_loader *loader;
        assert_ok(dml_loader_open(&options, &loader));
        for (int again = 0; again < 2; again++) /* the second time from the cache */
            run_pass(loader, 4, ORDER, COUNT, 5, t ? &second : &first);
        if (t)
            assert_same(&second, &first);
        dml_loader_close(loader);
    }
    int erased = 0;
    for (int i = 0; i < COUNT; i++)
        erased += first.erased[i].width > 0;
    assert_true(erased > 0 && erased < COUNT);
    dml_pipeline_free(list);
    free_part(&part);
}

/* Pixels lie where they are told to, as far as there is room. */
static int pieces, room;
static uint8_t *piece[16];
static void *take_piece(void *data, size_t bytes) {
    assert_ptr_equal(data, &room);
    if (pieces == room)
        return NULL;
    return piece[pieces++] = calloc(bytes, 1);
}
static void give_piece(void *data, void *memory) {
    assert_ptr_equal(data, &room);
    for (int i = 0; i < room; i++)
        if (piece[i] == memory) {
            piece[i] = NULL;
            free(memory);
            return;
        }
    fail_msg("%s", "released what was not given");
}

static void test_memory_from_elsewhere(void **state) {
    (void)state;
    static struct pass pass, same;
    struct dml_part part;
    struct dml_loader *loader;
    make_part(&part);
    struct dml_loader_options options = options_of(&part, true, 2);
    assert_ok(dml_loader_open(&options, &loader));
    run_pass(loader, 3, NULL, part.images, 5, &pass);
    dml_loader_close(loader);
    for (room = 0; room <= 16; room = room ? 16 * room : 1) {
        pieces = 0;
        options.pixels = (struct dml_memory_source){take_piece, give_piece, &room};
        assert_ok(dml_loader_open(&options, &loader));
        assert_true(room == 16 ? pieces > 1 : pieces == room);
        run_pass(loader, 3, NULL, part.images, 5, &same);
        const struct dml_loaded *batch;
        assert_ok(dml_loader_start(loader, 3, NULL, 5));
        assert_ok(dml_loader_next(loader, &batch));
        bool there = false;
        for (int i = 0; i < pieces; i++)
            there |= batch->pixels == piece[i];
        assert_true(there || room < 16);
        dml_loader_close(loader);
        assert_memory_equal(same.pixels, pass.pixels, part.images * sizeof pass.pixels[0]);
        for (int i = 0; i < pieces; i++)
            assert_null(piece[i]);
    }
    free_part(&part);
}

/* What is seen of a batch before it is taken is the batch; nothing is where there is room for one
 * only, and after the last. */
static void test_peek(void **state) {
    (void)state;
    struct dml_part part;
    struct dml_loader *loader;
    const struct dml_loaded *batch, *next;
    const uint32_t order[10] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3};
    make_part(&part);
    struct dml_loader_options options = options_of(&part, true, 2);
    for (size_t memory = 0; memory < 2; memory++) {
        options.memory = memory;
        assert_ok(dml_loader_open(&options, &loader));
        assert_ok(dml_loader_start(loader, 0, order, 10));
        assert_ok(dml_loader_next(loader, &batch));
        do
            next = dml_loader_peek(loader);
        while (!next && !memory); /* until it is made */
        assert_true(memory ? !next : next && next != batch && next->n == 5);
        uint8_t seen[SIDE * SIDE * 3] = {0};
        if (next)
            memcpy(seen, next->pixels, sizeof seen);
        dml_loader_release(loader, batch);
        assert_ok(dml_loader_next(loader, &batch));
        assert_true(memory || batch == next);
        assert_true(memory || memcmp(seen, batch->pixels, sizeof seen) == 0);
        assert_null(dml_loader_peek(loader));
        dml_loader_close(loader);
    }
    free_part(&part);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_lists),
        TEST(test_threads),
        TEST(test_parts_of_an_epoch),
        TEST(test_batches),
        TEST(test_replaced),
        TEST(test_corrupt),
        TEST(test_little_memory),
        TEST(test_class_unreadable),
        TEST(test_strict),
        TEST(test_early_ends),
        TEST(test_memory_from_elsewhere),
        TEST(test_peek),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
