#include "base/files.h"
#include "base/memory.h"
#include "data/image.h"
#include "support/run_fixture.h"
#include "tracking/contact_sheet.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Images of tests/golden: three classes of four, of which one file does not exist. */
enum { IMAGES = 12, DIM = 3 };

static void make_part(struct dml_part *part) {
    static const char *const files[] = {"transforms/astronaut.jpg", "transforms/chelsea.png",
                                        "transforms/coffee.jpg"};
    *part = (struct dml_part){.name = "testing", .images = IMAGES, .classes = 3};
    part->paths = dml_alloc(IMAGES, sizeof *part->paths);
    part->labels = dml_alloc(IMAGES, sizeof *part->labels);
    for (int i = 0; i < IMAGES; i++) {
        part->paths[i] = dml_strdup(i == 11 ? "/nonexistent.jpg" : golden_path("%s", files[i / 4]));
        part->labels[i] = i / 4;
    }
}

static void free_part(struct dml_part *part) {
    for (int i = 0; i < IMAGES; i++)
        free(part->paths[i]);
    free(part->paths);
    free(part->labels);
}

/* Counts tiles by the colour of their frames, which begin 4 pixels from the corner. */
static void count_frames(const char *path, int *green, int *red, int *rows) {
    struct dml_reader *reader;
    struct dml_pixels pixels = {0};
    int width, height;
    assert_ok(dml_reader_new(&reader));
    assert_ok(dml_reader_open(reader, path, &width, &height));
    assert_ok(dml_reader_decode(reader, (struct dml_rect){0, 0, width, height}, &pixels));
    const int pitch = 148;
    assert_int_equal(height % pitch, 0);
    *rows = height / pitch;
    *green = *red = 0;
    for (int row = 0; row < *rows; row++)
        for (int column = 1; column < 4; column++) {
            int x = 4 + column * pitch + 20 + 2, y = 4 + row * pitch + 2;
            const uint8_t *at = pixels.data + (size_t)y * pixels.stride + (size_t)x * 3;
            *green += at[1] > 150 && at[0] < 50;
            *red += at[0] > 200 && at[1] < 50;
        }
    dml_pixels_free(&pixels);
    dml_reader_free(reader);
}

static void test_frames_tell_right_from_wrong(void **state) {
    (void)state;
    struct dml_part part;
    float embeddings[IMAGES * DIM] = {0};
    make_part(&part);
    for (int i = 0; i < IMAGES; i++) {
        embeddings[i * DIM + i / 4] = 1;
        embeddings[i * DIM + (i / 4 + 1) % 3] = 0.01f * (float)(i % 4);
    }
    char *path = dml_path_join(save_path, "sheet.png");
    int green, red, rows;
    assert_ok(dml_contact_sheet_write(path, &part, embeddings, DIM, 1));
    count_frames(path, &green, &red, &rows);
    assert_int_equal(rows, DML_SHEET_QUERIES);
    assert_int_equal(green, DML_SHEET_QUERIES * DML_SHEET_NEAREST);
    assert_int_equal(red, 0);
    /* Every image near those of the other classes: itself would be the only one of its own. */
    for (int i = 0; i < IMAGES; i++) {
        memset(embeddings + i * DIM, 0, DIM * sizeof(float));
        embeddings[i * DIM] = (float)(i % 4) * 10;
    }
    assert_ok(dml_contact_sheet_write(path, &part, embeddings, DIM, 1));
    count_frames(path, &green, &red, &rows);
    /* The two others at distance 0 come first; the third is 10 away, the lowest index first:
     * image 0 or 1 of class 0, or for queries with i % 4 of 0, one with 1. */
    assert_true(red >= 2 * DML_SHEET_QUERIES);
    assert_int_equal(red + green, DML_SHEET_QUERIES * DML_SHEET_NEAREST);
    free(path);
    free_part(&part);
}

static void test_gallery_and_queries(void **state) {
    (void)state;
    struct dml_part part;
    float embeddings[IMAGES * DIM] = {0};
    uint8_t query[IMAGES] = {1, 0, 0, 0, 1}, gallery[IMAGES] = {0, 0, 0, 0, 0, 1, 1, 1};
    make_part(&part);
    part.is_query = query;
    part.is_gallery = gallery;
    char *path = dml_path_join(save_path, "sheet.png");
    int green, red, rows;
    assert_ok(dml_contact_sheet_write(path, &part, embeddings, DIM, 1));
    count_frames(path, &green, &red, &rows);
    assert_int_equal(rows, 2);
    assert_int_equal(green, 3); /* of the second class's query */
    assert_int_equal(red, 3);
    free(path);
    free_part(&part);
}

static void test_bad_input(void **state) {
    (void)state;
    struct dml_part part;
    float embeddings[IMAGES * DIM] = {0};
    make_part(&part);
    assert_int_equal(dml_contact_sheet_write("/nonexistent/a.png", &part, embeddings, DIM, 1),
                     DML_ERROR_IO);
    part.images = 1;
    assert_int_equal(dml_contact_sheet_write("a.png", &part, embeddings, DIM, 1), DML_ERROR_INPUT);
    free_part(&part);
}

/* A file that does not exist is a grey tile; what the process lacks is told. */
static void test_shortage(void **state) {
    (void)state;
    struct dml_part part;
    float embeddings[IMAGES * DIM] = {0};
    struct rlimit before;
    make_part(&part);
    int next = open("/dev/null", O_RDONLY);
    assert_true(next >= 0 && close(next) == 0 && getrlimit(RLIMIT_NOFILE, &before) == 0);
    struct rlimit none = {(rlim_t)next, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    enum dml_status status = dml_contact_sheet_write("a.png", &part, embeddings, DIM, 1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(status, DML_ERROR_UNSUPPORTED);
    free_part(&part);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_frames_tell_right_from_wrong),
        TEST(test_gallery_and_queries),
        TEST(test_bad_input),
        TEST(test_shortage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
