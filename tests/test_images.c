/* All kinds of files, whole and in parts, broken ones included. */
#include "data/image.h"
#include "dml/rng.h"
#include "support/golden.h"
#include "support/scratch.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define FOLDER DML_SOURCE_DIR "/tests/images"
enum { MOST_FILES = 64 };

static size_t list_files(char names[MOST_FILES][64]) {
    size_t count = 0;
    DIR *folder = opendir(FOLDER);
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder));) {
        const char *dot = strrchr(entry->d_name, '.');
        if (!dot || (strcmp(dot, ".jpg") != 0 && strcmp(dot, ".png") != 0))
            continue;
        assert_true(count < MOST_FILES && strlen(entry->d_name) < 64);
        strcpy(names[count++], entry->d_name);
    }
    closedir(folder);
    assert_true(count > 15);
    return count;
}

static struct dml_rect open_whole(struct dml_reader *reader, const char *path,
                                  struct dml_pixels *out) {
    struct dml_rect all = {0, 0, 0, 0};
    assert_ok(dml_reader_open(reader, path, &all.width, &all.height));
    assert_ok(dml_reader_decode(reader, all, out));
    return all;
}

/* Rows of `part`, which may hold more than `rect`, are those of `whole`. */
static void assert_part(const char *name, const struct dml_pixels *whole,
                        const struct dml_pixels *part, struct dml_rect rect) {
    assert_true(part->rect.left <= rect.left && part->rect.top <= rect.top);
    for (int y = rect.top; y < rect.top + rect.height; y++) {
        const uint8_t *a = whole->data + (size_t)y * whole->stride + (size_t)rect.left * 3;
        const uint8_t *b = part->data + (size_t)(y - part->rect.top) * part->stride +
                           (size_t)(rect.left - part->rect.left) * 3;
        if (memcmp(a, b, (size_t)rect.width * 3) != 0)
            fail_msg("%s: row %d of the part %d,%d %dx%d differs", name, y, rect.left, rect.top,
                     rect.width, rect.height);
    }
}

static void check_parts(struct dml_reader *reader, const char *path, int parts) {
    struct dml_pixels whole = {.data = NULL}, part = {.data = NULL};
    struct dml_rect all = open_whole(reader, path, &whole);
    struct dml_rng rng = dml_rng_make(1, DML_PURPOSE_OTHER, 0, 0);
    for (int i = 0; i < parts; i++) {
        int width = all.width, height = all.height;
        struct dml_rect rect;
        rect.width = 1 + (int)dml_rng_below(&rng, (uint64_t)width);
        rect.height = 1 + (int)dml_rng_below(&rng, (uint64_t)height);
        rect.left = (int)dml_rng_below(&rng, (uint64_t)(width - rect.width) + 1);
        rect.top = (int)dml_rng_below(&rng, (uint64_t)(height - rect.height) + 1);
        assert_ok(dml_reader_open(reader, path, &width, &height));
        assert_ok(dml_reader_decode(reader, rect, &part));
        assert_null(dml_reader_flaw(reader));
        assert_part(path, &whole, &part, rect);
    }
    dml_pixels_free(&whole);
    dml_pixels_free(&part);
}

static void test_kinds(void **state) {
    (void)state;
    char names[MOST_FILES][64];
    size_t count = list_files(names);
    struct dml_reader *reader;
    assert_ok(dml_reader_new(&reader));
    for (size_t i = 0; i < count; i++) {
        char path[256], expected[256];
        struct dml_npy npy;
        int32_t *wanted;
        struct dml_pixels pixels = {.data = NULL};
        snprintf(path, sizeof path, FOLDER "/%s", names[i]);
        snprintf(expected, sizeof expected, FOLDER "/%s.npy", names[i]);
        assert_ok(dml_npy_open(expected, &npy));
        assert_ok(dml_npy_int32(&npy, &wanted));
        struct dml_rect all = open_whole(reader, path, &pixels);
        assert_int_equal(npy.dims[0], all.height);
        assert_int_equal(npy.dims[1], all.width);
        /* Builds of libjpeg may round differently; PNG has nothing to round. */
        int allowed = strstr(names[i], ".jpg") ? 1 : 0;
        for (size_t v = 0; v < npy.count; v++)
            if (abs(pixels.data[v] - wanted[v]) > allowed)
                fail_msg("%s: value %zu is %d, not %d", names[i], v, pixels.data[v], wanted[v]);
        check_parts(reader, path, 100);
        assert_ok(dml_reader_check(reader, path, NULL));
        free(wanted);
        dml_npy_close(&npy);
        dml_pixels_free(&pixels);
    }
    dml_reader_free(reader);
}

static void test_parts_of_photographs(void **state) {
    (void)state;
    static const char *const names[] = {"astronaut.jpg", "chelsea_progressive.jpg",
                                        "coffee_cmyk.jpg", "camera_gray.jpg"};
    struct dml_reader *reader;
    assert_ok(dml_reader_new(&reader));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_parts(reader, golden_path("transforms/%s", names[i]), 25);
    for (int side = 1; side < 40; side += side < 4 ? 1 : 7) /* smaller than a block, or not */
        check_parts(reader, scratch_jpeg("small.jpg", side, 41 - side, 3), 20);
    dml_reader_free(reader);
}

/* A file that is whole at both ends and corrupt between: it opens and decodes, but not without a
 * word. Of a sequential file what lies above the damage is as ever, and has no flaw. */
static void check_corrupt(struct dml_reader *reader, const char *good, const char *bad) {
    struct dml_pixels whole = {.data = NULL}, pixels = {.data = NULL};
    struct dml_rect all = open_whole(reader, good, &whole);
    assert_null(dml_reader_flaw(reader));
    assert_ok(dml_reader_check(reader, bad, NULL));
    open_whole(reader, bad, &pixels);
    const char *flaw = dml_reader_flaw(reader);
    if (!flaw || !strstr(flaw, "Corrupt JPEG data: "))
        fail_msg("%s: '%s'", good, flaw ? flaw : "nothing");
    assert_memory_not_equal(pixels.data, whole.data, (size_t)all.height * whole.stride);
    if (!strstr(good, "progressive")) {
        struct dml_rect top = {0, 0, all.width, all.height / 8};
        assert_ok(dml_reader_open(reader, bad, &all.width, &all.height));
        assert_ok(dml_reader_decode(reader, top, &pixels));
        assert_null(dml_reader_flaw(reader));
        assert_part(good, &whole, &pixels, top);
    }
    dml_pixels_free(&whole);
    dml_pixels_free(&pixels);
}

static void test_corrupt(void **state) {
    (void)state;
    static const char *const names[] = {"astronaut.jpg", "chelsea_progressive.jpg",
                                        "coffee_cmyk.jpg", "camera_gray.jpg"};
    struct dml_reader *reader;
    assert_ok(dml_reader_new(&reader));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *good = golden_path("transforms/%s", names[i]);
        check_corrupt(reader, good, scratch_corrupt("corrupt.jpg", good, 64, true));
        check_corrupt(reader, good, scratch_corrupt("corrupt.jpg", good, 512, false));
    }
    /* Nothing is made of bytes after the pixels. */
    char *data;
    size_t size;
    struct dml_pixels pixels = {.data = NULL};
    assert_ok(dml_read_file(golden_path("transforms/astronaut.jpg"), &data, &size));
    data = realloc(data, size + 8);
    assert_non_null(data);
    memcpy(data + size - 2, "\0\0\0\0\0\0\0\0\xFF\xD9", 10);
    open_whole(reader, scratch_write("padded.jpg", data, size + 8), &pixels);
    assert_null(dml_reader_flaw(reader));
    free(data);
    dml_pixels_free(&pixels);
    dml_reader_free(reader);
}

/* Reads a file as far as it goes; failures must name it. */
static void read_any(struct dml_reader *reader, const char *path, struct dml_pixels *pixels) {
    int width, height;
    enum dml_status status = dml_reader_open(reader, path, &width, &height);
    if (!status && (int64_t)width * height < 1 << 22)
        status = dml_reader_decode(reader, (struct dml_rect){0, 0, width, height}, pixels);
    if (status)
        assert_true(strncmp(dml_error(), path, strlen(path)) == 0);
    dml_reader_check(reader, path, NULL);
}

/* Files cut anywhere are refused; files with changed bytes are refused or read, nothing worse. */
static void test_broken(void **state) {
    (void)state;
    char names[MOST_FILES][64];
    size_t count = list_files(names);
    struct dml_reader *reader;
    struct dml_pixels pixels = {.data = NULL};
    assert_ok(dml_reader_new(&reader));
    for (size_t i = 0; i < count; i++) {
        char path[256], *data;
        size_t size;
        snprintf(path, sizeof path, FOLDER "/%s", names[i]);
        assert_ok(dml_read_file(path, &data, &size));
        for (size_t length = 1; length < size; length += 1 + size / 40) {
            const char *cut = scratch_write("broken", data, length);
            read_any(reader, cut, &pixels);
            /* A JPEG file that lacks its last bytes may still have all its pixels. */
            if (length + 100 < size && dml_reader_check(reader, cut, NULL) == DML_OK)
                fail_msg("%s: accepted when cut to %zu of %zu bytes", names[i], length, size);
        }
        struct dml_rng rng = dml_rng_make(2, DML_PURPOSE_OTHER, i, 0);
        for (int change = 0; change < 60; change++) {
            size_t at = (size_t)dml_rng_below(&rng, size);
            char before = data[at];
            data[at] = (char)dml_rng_bits(&rng);
            read_any(reader, scratch_write("broken", data, size), &pixels);
            data[at] = before;
        }
        free(data);
    }
    dml_pixels_free(&pixels);
    dml_reader_free(reader);
}

/* A progressive file whose last scan comes again and again is refused. */
static void test_scans(void **state) {
    (void)state;
    char *data;
    size_t size, scan = 0, used;
    assert_ok(dml_read_file(FOLDER "/progressive.jpg", &data, &size));
    for (size_t i = 0; i + 1 < size; i++)
        if ((unsigned char)data[i] == 0xFF && (unsigned char)data[i + 1] == 0xDA)
            scan = i;
    assert_true(scan > 0 && (unsigned char)data[size - 1] == 0xD9);
    size_t length = size - 2 - scan;
    char *many = calloc(size + 600 * length, 1);
    assert_non_null(many);
    memcpy(many, data, size - 2);
    used = size - 2;
    for (int i = 0; i < 600; i++, used += length)
        memcpy(many + used, data + scan, length);
    memcpy(many + used, "\xFF\xD9", 2);
    struct dml_pixels pixels = {.data = NULL};
    struct dml_reader *reader;
    int width, height;
    assert_ok(dml_reader_new(&reader));
    assert_ok(dml_reader_open(reader, scratch_write("scans.jpg", many, used + 2), &width, &height));
    assert_int_equal(dml_reader_decode(reader, (struct dml_rect){0, 0, width, height}, &pixels),
                     DML_ERROR_INPUT);
    assert_non_null(strstr(dml_error(), "scans.jpg: has more than 500 scans"));
    dml_reader_free(reader);
    dml_pixels_free(&pixels);
    free(many);
    free(data);
}

/* Buffers do not stay as large as the largest image. */
static void test_buffers(void **state) {
    (void)state;
    struct dml_pixels pixels = {.data = NULL};
    assert_ok(dml_pixels_reserve(&pixels, (struct dml_rect){0, 0, 8000, 4000}));
    size_t large = pixels.capacity;
    assert_true(large >= 96000000);
    assert_ok(dml_pixels_reserve(&pixels, (struct dml_rect){0, 0, 7000, 4000}));
    assert_int_equal(pixels.capacity, large);
    assert_ok(dml_pixels_reserve(&pixels, (struct dml_rect){0, 0, 500, 400}));
    assert_true(pixels.capacity < 1000000);
    dml_pixels_free(&pixels);
}

/* What the process lacks is not the file's fault: the loader puts no other image in its place. */
static void test_no_descriptors(void **state) {
    (void)state;
    struct dml_reader *reader;
    struct rlimit before;
    int width, height, next = dup(0);
    const char *path = scratch_text("lacking.jpg", "x");
    assert_ok(dml_reader_new(&reader));
    assert_true(next >= 0 && close(next) == 0 && getrlimit(RLIMIT_NOFILE, &before) == 0);
    struct rlimit none = {(rlim_t)next, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    enum dml_status status = dml_reader_open(reader, path, &width, &height);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(status, DML_ERROR_UNSUPPORTED);
    assert_non_null(strstr(dml_error(), "lacking.jpg: cannot be opened: Too many open files"));
    dml_reader_free(reader);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),          cmocka_unit_test(test_parts_of_photographs),
        cmocka_unit_test(test_corrupt),        cmocka_unit_test(test_broken),
        cmocka_unit_test(test_scans),          cmocka_unit_test(test_buffers),
        cmocka_unit_test(test_no_descriptors),
    };
    scratch_open();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scratch_close();
    return failed;
}
