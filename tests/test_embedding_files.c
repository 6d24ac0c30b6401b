/* Sets from .npy files of every type, and float64 that float32 cannot tell apart. */
#include "base/npy.h"
#include "dml/dml.h"
#include "metrics/files.h"
#include "support/golden.h"
#include "support/scratch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 240, DIM = 3, CLASSES = 30 };

/* Small whole numbers around each class's own, so that every type holds them. */
static void fill(double *values, int32_t *labels) {
    struct dml_rng rng = dml_rng_make(5, DML_PURPOSE_OTHER, 0, 0);
    for (size_t i = 0; i < N; i++) {
        labels[i] = (int32_t)(i % CLASSES);
        for (size_t k = 0; k < DIM; k++) {
            struct dml_rng own = dml_rng_make(6, DML_PURPOSE_OTHER, i % CLASSES, k);
            values[i * DIM + k] =
                1 + (double)dml_rng_below(&own, 100) + (double)dml_rng_below(&rng, 9);
        }
    }
}

static void evaluate(const char *embeddings, const char *labels, double values[3], bool *exact) {
    static const char *const names[] = {"e_recall@1", "mAP@R", "c_recall@1"};
    const struct dml_embedding_files files = {.embeddings = embeddings, .labels = labels};
    struct dml_embedding_set set;
    struct dml_metric_value found[3];
    assert_ok(dml_embedding_set_open(&files, &set));
    assert_ok(dml_evaluate(&set.set, names, 3, NULL, found));
    for (int i = 0; i < 3; i++)
        values[i] = found[i].value;
    *exact = set.set.exact != NULL;
    dml_embedding_set_close(&set);
}

#define CONVERTED(type, npy)                                                                       \
    do {                                                                                           \
        type *converted = malloc(sizeof(type) * N * DIM);                                          \
        for (size_t i = 0; i < N * DIM; i++)                                                       \
            converted[i] = (type)values[i];                                                        \
        assert_ok(dml_npy_write(scratch_path("e.npy"), npy, converted, (size_t[]){N, DIM}, 2));    \
        free(converted);                                                                           \
        evaluate(scratch_path("e.npy"), scratch_path("y.npy"), found, &exact);                     \
        assert_false(exact);                                                                       \
        for (int i = 0; i < 3; i++)                                                                \
            assert_true(found[i] == expected[i]);                                                  \
    } while (0)

static void test_types(void **state) {
    (void)state;
    double values[N * DIM], expected[3], found[3];
    int32_t labels[N];
    bool exact;
    fill(values, labels);
    assert_ok(dml_npy_write(scratch_path("y.npy"), DML_NPY_I32, labels, (size_t[]){N}, 1));
    assert_ok(dml_npy_write(scratch_path("e.npy"), DML_NPY_F64, values, (size_t[]){N, DIM}, 2));
    evaluate(scratch_path("e.npy"), scratch_path("y.npy"), expected, &exact);
    assert_true(expected[0] > 0.5);
    CONVERTED(float, DML_NPY_F32);
    CONVERTED(uint8_t, DML_NPY_U8);
    CONVERTED(int8_t, DML_NPY_I8);
    CONVERTED(uint16_t, DML_NPY_U16);
    CONVERTED(int16_t, DML_NPY_I16);
    CONVERTED(uint32_t, DML_NPY_U32);
    CONVERTED(int32_t, DML_NPY_I32);
    CONVERTED(uint64_t, DML_NPY_U64);
    CONVERTED(int64_t, DML_NPY_I64);
}

/* Coordinates in metres, far from their origin: Euclidean ranks are those of the coordinates
 * themselves, and so are those of int64 files. */
static void test_far_coordinates(void **state) {
    (void)state;
    double values[N * DIM], far[N * DIM], expected[3], found[3];
    int64_t whole[N * DIM];
    int32_t labels[N];
    bool exact;
    fill(values, labels);
    evaluate(scratch_path("e.npy"), scratch_path("y.npy"), expected, &exact);
    for (size_t i = 0; i < N * DIM; i++) {
        far[i] = 4e9 + values[i];
        whole[i] = (int64_t)1 << 50 | (int64_t)values[i];
    }
    assert_ok(dml_npy_write(scratch_path("far.npy"), DML_NPY_F64, far, (size_t[]){N, DIM}, 2));
    evaluate(scratch_path("far.npy"), scratch_path("y.npy"), found, &exact);
    assert_true(exact);
    assert_true(found[0] == expected[0] && found[1] == expected[1]);
    /* Directions: 4e9 (1, 1, 1) + x differs from it by x less its mean, over 4e9 sqrt(3). */
    double centred[N * DIM];
    for (size_t i = 0; i < N; i++) {
        double mean = (values[i * 3] + values[i * 3 + 1] + values[i * 3 + 2]) / 3;
        for (size_t k = 0; k < 3; k++)
            centred[i * 3 + k] = values[i * 3 + k] - mean;
    }
    double flat[3];
    assert_ok(dml_npy_write(scratch_path("flat.npy"), DML_NPY_F64, centred, (size_t[]){N, DIM}, 2));
    evaluate(scratch_path("flat.npy"), scratch_path("y.npy"), flat, &exact);
    assert_true(fabs(found[2] - flat[0]) < 0.03);
    assert_ok(dml_npy_write(scratch_path("far.npy"), DML_NPY_I64, whole, (size_t[]){N, DIM}, 2));
    evaluate(scratch_path("far.npy"), scratch_path("y.npy"), found, &exact);
    assert_true(exact && found[0] > 0.5);
}

static void test_gallery_of_another_type(void **state) {
    (void)state;
    double values[N * DIM];
    int32_t labels[N];
    fill(values, labels);
    assert_ok(dml_npy_write(scratch_path("plain.npy"), DML_NPY_F64, values, (size_t[]){N, DIM}, 2));
    for (size_t i = 0; i < N * DIM; i++)
        values[i] += 4e9;
    assert_ok(dml_npy_write(scratch_path("far.npy"), DML_NPY_F64, values, (size_t[]){N, DIM}, 2));
    const struct dml_embedding_files files = {.embeddings = scratch_path("plain.npy"),
                                              .labels = scratch_path("y.npy"),
                                              .gallery_embeddings = scratch_path("far.npy"),
                                              .gallery_labels = scratch_path("y.npy")};
    struct dml_embedding_set set;
    assert_ok(dml_embedding_set_open(&files, &set));
    assert_int_equal(set.set.n, 2 * N);
    assert_non_null(set.set.exact);
    for (size_t i = 0; i < N * DIM; i++)
        assert_true(set.set.exact[N * DIM + i] == values[i] && set.set.exact[i] == values[i] - 4e9);
    dml_embedding_set_close(&set);
}

static void test_beyond_float64(void **state) {
    (void)state;
    const int64_t values[4] = {1, 2, ((int64_t)1 << 53) + 1, 4};
    assert_ok(dml_npy_write(scratch_path("wide.npy"), DML_NPY_I64, values, (size_t[]){2, 2}, 2));
    const struct dml_embedding_files files = {.embeddings = scratch_path("wide.npy")};
    struct dml_embedding_set set;
    assert_int_equal(dml_embedding_set_open(&files, &set), DML_ERROR_INPUT);
    assert_non_null(strstr(dml_error(), "wide.npy: holds 9007199254740993 in row 1"));
    dml_embedding_set_close(&set);
}

/* Labels that pandas made floats of. */
static void test_labels_that_are_floats(void **state) {
    (void)state;
    double values[N * DIM], floats[N], expected[3], found[3];
    int32_t labels[N];
    bool exact;
    fill(values, labels);
    for (size_t i = 0; i < N; i++)
        floats[i] = labels[i];
    assert_ok(dml_npy_write(scratch_path("y.npy"), DML_NPY_I32, labels, (size_t[]){N}, 1));
    assert_ok(dml_npy_write(scratch_path("f.npy"), DML_NPY_F64, floats, (size_t[]){N}, 1));
    assert_ok(dml_npy_write(scratch_path("e.npy"), DML_NPY_F64, values, (size_t[]){N, DIM}, 2));
    evaluate(scratch_path("e.npy"), scratch_path("y.npy"), expected, &exact);
    evaluate(scratch_path("e.npy"), scratch_path("f.npy"), found, &exact);
    for (int i = 0; i < 3; i++)
        assert_true(found[i] == expected[i]);
    const double wrong[] = {0.5, NAN, INFINITY, 1e300};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        floats[7] = wrong[i];
        assert_ok(dml_npy_write(scratch_path("f.npy"), DML_NPY_F64, floats, (size_t[]){N}, 1));
        const struct dml_embedding_files files = {.embeddings = scratch_path("e.npy"),
                                                  .labels = scratch_path("f.npy")};
        struct dml_embedding_set set;
        assert_int_equal(dml_embedding_set_open(&files, &set), DML_ERROR_INPUT);
        assert_non_null(strstr(dml_error(), "f.npy: number 7 (from 0) is "));
        dml_embedding_set_close(&set);
    }
}

/* float64 whose squares are not: infinite distances, or none, would be ranked as if equal. */
static void test_squares_beyond_float64(void **state) {
    (void)state;
    double values[N * DIM], scaled[N * DIM], expected[3], found[3];
    const double good[] = {1e-30, 1e30, 1e-120, 1e120}, bad[] = {1e-200, 1e160, 1e300};
    int32_t labels[N];
    bool exact;
    fill(values, labels);
    assert_ok(dml_npy_write(scratch_path("y.npy"), DML_NPY_I32, labels, (size_t[]){N}, 1));
    assert_ok(dml_npy_write(scratch_path("e.npy"), DML_NPY_F64, values, (size_t[]){N, DIM}, 2));
    evaluate(scratch_path("e.npy"), scratch_path("y.npy"), expected, &exact);
    for (size_t s = 0; s < sizeof good / sizeof *good; s++) {
        for (size_t i = 0; i < N * DIM; i++)
            scaled[i] = ldexp(values[i], (int)(log2(good[s])));
        assert_ok(dml_npy_write(scratch_path("e.npy"), DML_NPY_F64, scaled, (size_t[]){N, DIM}, 2));
        evaluate(scratch_path("e.npy"), scratch_path("y.npy"), found, &exact);
        for (int i = 0; i < 3; i++)
            assert_true(found[i] == expected[i]);
    }
    for (size_t s = 0; s < sizeof bad / sizeof *bad; s++) {
        for (size_t i = 0; i < N * DIM; i++)
            scaled[i] = values[i] * bad[s];
        assert_ok(dml_npy_write(scratch_path("e.npy"), DML_NPY_F64, scaled, (size_t[]){N, DIM}, 2));
        const struct dml_embedding_files files = {.embeddings = scratch_path("e.npy")};
        struct dml_embedding_set set;
        assert_int_equal(dml_embedding_set_open(&files, &set), DML_ERROR_INPUT);
        assert_non_null(strstr(dml_error(), "whose square float64 cannot hold"));
        dml_embedding_set_close(&set);
    }
}

static int open_folder(void **state) {
    (void)state;
    scratch_open();
    return 0;
}

static int close_folder(void **state) {
    (void)state;
    scratch_close();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_far_coordinates),
        cmocka_unit_test(test_gallery_of_another_type),
        cmocka_unit_test(test_beyond_float64),
        cmocka_unit_test(test_labels_that_are_floats),
        cmocka_unit_test(test_squares_beyond_float64),
    };
    return cmocka_run_group_tests(tests, open_folder, close_folder);
}
