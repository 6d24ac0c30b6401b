/* Caches of the loader: in memory, in a file, and those that cannot be made. */
#include "base/files.h"
#include "data/pipeline.h"
#include "support/golden.h"
#include "support/loading.h"
#include "support/scratch.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static struct pass first, second; /* too large for a stack */

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

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_memory_cache),
        TEST(test_file_cache),
        TEST(test_no_file_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
