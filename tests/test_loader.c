/* The loader: same batches for any number of threads, replaced images, early ends, caches. */
#include "base/files.h"
#include "base/memory.h"
#include "data/dataset.h"
#include "data/loader.h"
#include "data/pipeline.h"
#include "support/golden.h"
#include "support/scratch.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
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
    options.transform = dml_transform_of(DML_AUGMENTATION_ADVANCED, training, 224, SIDE, 0.08);
    return options;
}

/* Everything a pass hands out, one image after the other. */
struct pass {
    size_t count;
    uint8_t pixels[MOST][SIDE * SIDE * 3];
    int32_t labels[MOST];
    uint32_t indices[MOST];
    struct dml_rect erased[MOST];
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
        for (size_t i = 0; i < batch->n; i++)
            out->erased[out->count + i] =
                batch->erased ? batch->erased[i] : (struct dml_rect){0, 0, 0, 0};
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
    assert_memory_equal(a->erased, b->erased, a->count * sizeof a->erased[0]);
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
static void pass_with(const struct dml_loader_options *options, uint64_t epoch, struct pass *out) {
    struct dml_loader *loader;
    assert_ok(dml_loader_open(options, &loader));
    run_pass(loader, epoch, NULL, options->part->images, options->batch_size, out);
    dml_loader_close(loader);
}

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

/* A cache changes nothing but the time: `training` and evaluation, twice each. */
static void check_cache(const struct dml_part *part, char *cache, size_t limit) {
    for (int training = 0; training < 2; training++) {
        struct dml_loader_options options = options_of(part, training, 3);
        pass_with(&options, 1, &first);
        options.cache = cache;
        options.cache_limit = limit;
        struct dml_loader *loader;
        assert_ok(dml_loader_open(&options, &loader));
        for (int again = 0; again < 2; again++) {
            run_pass(loader, 1, NULL, part->images, 5, &second);
            assert_same(&first, &second);
        }
        dml_loader_close(loader);
        pass_with(&options, 1, &second);
        assert_same(&first, &second);
    }
}

static void test_memory_cache(void **state) {
    (void)state;
    struct dml_part part;
    make_part(&part);
    check_cache(&part, "memory", 0);
    check_cache(&part, "memory", 20000); /* some images fit */
    check_cache(&part, "memory", 1);     /* none does */

    /* It is the memory that is used: the files may go. */
    struct dml_loader_options options = options_of(&part, true, 2);
    struct dml_loader *loader;
    options.cache = "memory";
    assert_ok(dml_loader_open(&options, &loader));
    run_pass(loader, 1, NULL, part.images, 5, &first);
    for (size_t i = 0; i < part.images; i++)
        unlink(part.paths[i]);
    run_pass(loader, 1, NULL, part.images, 5, &second);
    assert_same(&first, &second);
    assert_int_equal(dml_loader_replaced(loader), 0);
    dml_loader_close(loader);
    free_part(&part);
}

static size_t file_size(const char *path) {
    struct dml_mapping mapping;
    assert_ok(dml_map_file(path, &mapping));
    size_t size = mapping.size;
    dml_unmap_file(&mapping);
    return size;
}

static void test_file_cache(void **state) {
    (void)state;
    struct dml_part part;
    make_part(&part);
    char *cache = strdup(scratch_path("cache/images"));
    assert_ok(dml_make_folders(scratch_path("cache")));
    check_cache(&part, cache, 0);
    assert_true(dml_path_exists(scratch_path("cache/images.training-eval")));
    assert_true(dml_path_exists(scratch_path("cache/images.training-train")));

    /* Another content of a file: made anew. */
    scratch_jpeg("class2/1.jpg", 77, 55, 99);
    check_cache(&part, cache, 0);

    /* A broken cache file is made anew as well, wherever it is broken. */
    char *data, *path = strdup(scratch_path("cache/images.training-eval"));
    size_t size = file_size(path);
    for (int i = 0; i < 12; i++) {
        assert_ok(dml_read_file(path, &data, NULL));
        size_t length = i < 6 ? size * (size_t)i / 6 : size;
        if (i >= 6) /* the header's fields, and the table's first entries */
            data[i < 9 ? 8 * (size_t)(i - 6) : size - DML_PIXELS_SLACK - (size_t)(i - 8) * 4] ^=
                0x55;
        scratch_write("cache/images.training-eval", data, length);
        free(data);
        check_cache(&part, cache, 0);
    }

    /* Unreadable images are not in it and are replaced as without it. */
    scratch_text("class0/0.jpg", "not an image");
    check_cache(&part, cache, 0);

    /* It is the file that is used: removing the images changes its key, so compare in one run. */
    struct dml_loader_options options = options_of(&part, false, 2);
    struct dml_loader *loader;
    options.cache = cache;
    assert_ok(dml_loader_open(&options, &loader));
    run_pass(loader, 0, NULL, part.images, 5, &first);
    for (size_t i = 1; i < part.images; i++)
        unlink(part.paths[i]);
    run_pass(loader, 0, NULL, part.images, 5, &second);
    assert_same(&first, &second);
    dml_loader_close(loader);
    free(path);
    free(cache);
    free_part(&part);
}

/* A path that cannot be written is an error; a cache without room is left out; an interruption is
 * passed on. None leaves a file. */
static void test_no_file_cache(void **state) {
    (void)state;
    struct dml_part part;
    make_part(&part);
    assert_ok(dml_make_folders(scratch_path("cut")));

    volatile sig_atomic_t interrupted = 1;
    struct dml_loader_options options = options_of(&part, false, 2);
    struct dml_loader *loader;
    options.cache = "/nowhere/at/all/images";
    assert_int_equal(dml_loader_open(&options, &loader), DML_ERROR_IO);
    assert_null(loader);
    assert_non_null(strstr(dml_error(), "--cache_images: /nowhere/at/all/images.training-eval: "
                                        "cannot be written"));
    char *cache = strdup(scratch_path("cut/images"));
    options.cache = cache;
    options.interrupted = &interrupted;
    assert_int_equal(dml_loader_open(&options, &loader), DML_ERROR_INTERRUPTED);
    assert_null(loader);
    assert_non_null(strstr(dml_error(), "interrupted"));

    /* A full disk, as a limit on file sizes shows it. */
    struct rlimit before, small = {20000, 20000};
    options.interrupted = NULL;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small.rlim_max = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    for (int training = 0; training < 2; training++) {
        options.transform.kind = training ? DML_TRANSFORM_BASE : DML_TRANSFORM_EVALUATION;
        options.cache = NULL;
        pass_with(&options, 0, &first);
        options.cache = cache;
        pass_with(&options, 0, &second);
        assert_same(&first, &second);
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(rmdir(scratch_path("cut")), 0); /* nothing was left */
    free(cache);
    free_part(&part);
}

static int setup(void **state) {
    (void)state;
    scratch_open();
    return 0;
}

static int teardown(void **state) {
    (void)state;
    scratch_close();
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
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
        TEST(test_memory_cache),
        TEST(test_file_cache),
        TEST(test_no_file_cache),
        TEST(test_memory_from_elsewhere),
        TEST(test_peek),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
