/* .npy files of all types, orders and kinds of damage. */
#include "base/half.h"
#include "base/memory.h"
#include "support/golden.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A file in memory: header text and data as given. */
struct file {
    unsigned char bytes[4096];
    size_t size;
};

static struct file make(int version, const char *header, const void *data, size_t size) {
    struct file file = {{0}, 0};
    size_t length = strlen(header), start = version == 1 ? 10 : 12;
    memcpy(file.bytes, "\x93NUMPY", 6);
    file.bytes[6] = (unsigned char)version;
    file.bytes[8] = (unsigned char)length;
    file.bytes[9] = (unsigned char)(length >> 8);
    memcpy(file.bytes + start, header, length);
    if (size)
        memcpy(file.bytes + start + length, data, size);
    file.size = start + length + size;
    return file;
}

static struct file describe(const char *type, bool fortran, const char *shape, const void *data,
                            size_t size) {
    char header[200];
    snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }\n", type,
             fortran ? "True" : "False", shape);
    return make(1, header, data, size);
}

static struct dml_npy parse(const struct file *file) {
    struct dml_npy npy;
    assert_ok(dml_npy_parse(file->bytes, file->size, "test", &npy));
    return npy;
}

static void expect_floats(const struct file *file, const float *expected, size_t count) {
    struct dml_npy npy = parse(file);
    float *found;
    assert_ok(dml_npy_floats(&npy, &found));
    assert_int_equal(npy.count, count);
    for (size_t i = 0; i < count; i++)
        assert_true(found[i] == expected[i]);
    /* The same row by row, and as a view. */
    size_t rows = npy.dims[0], width = count / rows;
    float *row = malloc(width * sizeof *row), *owned;
    const float *view;
    for (size_t r = 0; r < rows; r++) {
        dml_npy_rows(&npy, r, 1, row);
        assert_memory_equal(row, expected + r * width, width * sizeof *row);
    }
    assert_ok(dml_npy_view(&npy, &view, &owned));
    assert_memory_equal(view, expected, count * sizeof *view);
    free(owned);
    free(row);
    free(found);
}

static void test_types(void **state) {
    (void)state;
    const float expected[] = {1, -2, 3, 0, 5, -6};
    const float wide[] = {1, 254, 3, 0, 5, 250};
    int8_t i8[] = {1, -2, 3, 0, 5, -6};
    int16_t i16[] = {1, -2, 3, 0, 5, -6};
    int32_t i32[] = {1, -2, 3, 0, 5, -6};
    int64_t i64[] = {1, -2, 3, 0, 5, -6};
    uint8_t u8[] = {1, 254, 3, 0, 5, 250};
    uint16_t u16[] = {1, 254, 3, 0, 5, 250}, f16[] = {0x3c00, 0xc000, 0x4200, 0, 0x4500, 0xc600};
    uint32_t u32[] = {1, 254, 3, 0, 5, 250};
    uint64_t u64[] = {1, 254, 3, 0, 5, 250};
    float f32[] = {1, -2, 3, 0, 5, -6};
    double f64[] = {1, -2, 3, 0, 5, -6};
    const struct {
        const char *type;
        const void *data;
        size_t size;
        const float *expected;
    } cases[] = {
        {"|i1", i8, sizeof i8, expected},   {"<i2", i16, sizeof i16, expected},
        {"<i4", i32, sizeof i32, expected}, {"<i8", i64, sizeof i64, expected},
        {"|u1", u8, sizeof u8, wide},       {"<u2", u16, sizeof u16, wide},
        {"<u4", u32, sizeof u32, wide},     {"<u8", u64, sizeof u64, wide},
        {"<f2", f16, sizeof f16, expected}, {"<f4", f32, sizeof f32, expected},
        {"<f8", f64, sizeof f64, expected},
    };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct file file = describe(cases[c].type, false, "(2, 3)", cases[c].data, cases[c].size);
        expect_floats(&file, cases[c].expected, 6);
        file = describe(cases[c].type, true, "(1, 6)", cases[c].data, cases[c].size);
        expect_floats(&file, cases[c].expected, 6);
    }
}

/* The bytes of every element the other way round: the same numbers. */
static void test_big_endian(void **state) {
    (void)state;
    const float expected[] = {1, -2, 3, 0, 5, -6};
    int16_t i16[] = {1, -2, 3, 0, 5, -6};
    int32_t i32[] = {1, -2, 3, 0, 5, -6};
    int64_t i64[] = {1, -2, 3, 0, 5, -6};
    uint16_t f16[] = {0x3c00, 0xc000, 0x4200, 0, 0x4500, 0xc600};
    float f32[] = {1, -2, 3, 0, 5, -6};
    double f64[] = {1, -2, 3, 0, 5, -6};
    const struct {
        const char *type;
        void *data;
        size_t size;
    } cases[] = {{">i2", i16, 2}, {">i4", i32, 4}, {">i8", i64, 8},
                 {">f2", f16, 2}, {">f4", f32, 4}, {">f8", f64, 8}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        size_t size = cases[c].size;
        char *bytes = cases[c].data;
        for (size_t i = 0; i < 6; i++)
            for (size_t b = 0; b < size / 2; b++) {
                char swap = bytes[i * size + b];
                bytes[i * size + b] = bytes[i * size + size - 1 - b];
                bytes[i * size + size - 1 - b] = swap;
            }
        struct file file = describe(cases[c].type, false, "(2, 3)", bytes, 6 * size);
        expect_floats(&file, expected, 6);
        struct dml_npy npy = parse(&file);
        if (dml_npy_is_integer(&npy))
            assert_true(dml_npy_integer(&npy, 1) == -2 && dml_npy_integer(&npy, 4) == 5);
    }
}

/* What float32 cannot hold comes as float64. */
static void test_doubles(void **state) {
    (void)state;
    const double near[] = {4e9, 4e9 + 1, -4e9, 0.1};
    const int64_t large[] = {(INT64_C(1) << 40) + 1, 3};
    const double small[] = {0.5, 1e6};
    const double *view;
    double *owned;
    struct file file = describe("<f8", true, "(2, 2)", near, sizeof near);
    struct dml_npy npy = parse(&file);
    assert_false(dml_npy_is_float32(&npy));
    assert_ok(dml_npy_view64(&npy, &view, &owned));
    assert_true(view[0] == near[0] && view[1] == near[2] && view[2] == near[1]);
    free(owned);
    file = describe("<i8", false, "(2,)", large, sizeof large);
    npy = parse(&file);
    assert_false(dml_npy_is_float32(&npy));
    assert_ok(dml_npy_view64(&npy, &view, &owned));
    assert_true(view[0] == 1099511627777.0 && view[1] == 3);
    free(owned);
    file = describe("<f8", false, "(2,)", small, sizeof small);
    npy = parse(&file);
    assert_true(dml_npy_is_float32(&npy));
}

static void test_fortran_order(void **state) {
    (void)state;
    float stored[6] = {1, 4, 2, 5, 3, 6}, expected[6] = {1, 2, 3, 4, 5, 6};
    struct file file = describe("<f4", true, "(2, 3)", stored, sizeof stored);
    expect_floats(&file, expected, 6);
    /* More rows than are turned at a time, and three axes. */
    enum { ROWS = 150, WIDTH = 3 };
    float tall[ROWS * WIDTH], turned[ROWS * WIDTH];
    for (size_t r = 0; r < ROWS; r++)
        for (size_t c = 0; c < WIDTH; c++)
            tall[r * WIDTH + c] = turned[c * ROWS + r] = (float)(r * 10 + c);
    file = describe("<f4", true, "(150, 3)", turned, sizeof turned);
    expect_floats(&file, tall, ROWS * WIDTH);
    struct dml_npy npy = parse(&file);
    float some[70 * WIDTH];
    dml_npy_rows(&npy, 75, 70, some);
    assert_memory_equal(some, tall + 75 * WIDTH, sizeof some);
    float cube[8] = {0, 4, 2, 6, 1, 5, 3, 7}, in_order[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    file = describe("<f4", true, "(2, 2, 2)", cube, sizeof cube);
    expect_floats(&file, in_order, 8);
}

/* All 65536 halves as the portable conversion has them. */
static void test_halves(void **state) {
    (void)state;
    for (uint32_t first = 0; first < 65536; first += 1024) {
        uint16_t bits[1024];
        for (uint32_t i = 0; i < 1024; i++)
            bits[i] = (uint16_t)(first + i);
        struct file file = describe("<f2", false, "(1024,)", bits, sizeof bits);
        struct dml_npy npy = parse(&file);
        float *found;
        assert_ok(dml_npy_floats(&npy, &found));
        for (size_t i = 0; i < 1024; i++) {
            float expected = (float)dml_half_value(bits[i]);
            assert_true(found[i] == expected || (isnan(found[i]) && isnan(expected)));
        }
        free(found);
    }
}

static void test_integers(void **state) {
    (void)state;
    int64_t i64[] = {INT64_MAX, INT64_MIN, (1ll << 53) + 1, -7};
    uint64_t u64[] = {UINT64_MAX, UINT64_MAX - 1, (1ull << 53) + 1, 0};
    struct file signed_file = describe("<i8", false, "(4,)", i64, sizeof i64);
    struct file unsigned_file = describe("<u8", false, "(4,)", u64, sizeof u64);
    struct dml_npy a = parse(&signed_file), b = parse(&unsigned_file);
    for (size_t i = 0; i < 4; i++) {
        assert_true(dml_npy_integer(&a, i) == (__int128)i64[i]);
        assert_true(dml_npy_integer(&b, i) == (__int128)u64[i]);
    }
    int32_t *narrow;
    assert_int_equal(dml_npy_int32(&a, &narrow), DML_ERROR_INPUT);
    assert_non_null(strstr(dml_error(), "9223372036854775807 at index 0"));
    int64_t edge[] = {0, INT32_MIN, INT32_MAX, 1};
    struct file file = describe("<i8", false, "(4,)", edge, sizeof edge);
    struct dml_npy npy = parse(&file);
    assert_ok(dml_npy_int32(&npy, &narrow));
    assert_true(narrow[1] == INT32_MIN && narrow[2] == INT32_MAX);
    free(narrow);
    edge[3] = (int64_t)INT32_MIN - 1;
    file = describe("<i8", false, "(4,)", edge, sizeof edge);
    npy = parse(&file);
    assert_int_equal(dml_npy_int32(&npy, &narrow), DML_ERROR_INPUT);
    assert_non_null(strstr(dml_error(), "-2147483649 at index 3"));
    int8_t grid[] = {1, -3, 2, -4};
    file = describe("|i1", true, "(2, 2)", grid, sizeof grid);
    npy = parse(&file);
    assert_true(dml_npy_integer(&npy, 1) == 2 && dml_npy_integer(&npy, 2) == -3);
    file = describe("<f4", false, "(1,)", grid, 4);
    npy = parse(&file);
    assert_int_equal(dml_npy_int32(&npy, &narrow), DML_ERROR_INPUT);
    assert_non_null(strstr(dml_error(), "float32"));
}

static void test_headers(void **state) {
    (void)state;
    float values[2] = {1, 2};
    /* Versions 2 and 3, keys in another order, longs as Python 2 wrote them, a scalar. */
    struct file file =
        make(2, "{'shape': (2L,), 'descr': '<f4', 'fortran_order': False}", values, 8);
    expect_floats(&file, values, 2);
    file = make(3, "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2)}", values, 8);
    expect_floats(&file, values, 2);
    file = describe("<f4", false, "()", values, 4);
    struct dml_npy npy = parse(&file);
    float *found;
    assert_ok(dml_npy_floats(&npy, &found));
    assert_true(npy.dim_count == 0 && npy.count == 1 && found[0] == 1);
    free(found);
    file = describe("<f4", true, "(1099511627776, 0)", values, 0);
    npy = parse(&file);
    assert_ok(dml_npy_floats(&npy, &found));
    assert_int_equal(npy.count, 0);
    free(found);
}

static void refused(const struct file *file, const char *why) {
    struct dml_npy npy;
    /* Of the exact size, so that a sanitizer sees a read beyond it. */
    unsigned char *copy = malloc(file->size + 1);
    memcpy(copy, file->bytes, file->size);
    assert_int_equal(dml_npy_parse(copy, file->size, "bad.npy", &npy), DML_ERROR_INPUT);
    free(copy);
    if (!strstr(dml_error(), why) || strncmp(dml_error(), "bad.npy: ", 9) != 0)
        fail_msg("'%s' does not say '%s'", dml_error(), why);
}

static void test_damage(void **state) {
    (void)state;
    float values[6] = {0};
    struct file good = describe("<f4", false, "(2, 3)", values, sizeof values), file;
    for (file = good; file.size > 0;) { /* cut anywhere */
        file.size--;
        refused(&file, file.size < 12 ? "not a .npy file" : "cut short");
    }
    file = good;
    file.bytes[6] = 9;
    refused(&file, "not a .npy file");
    file = describe("<f4", false, "(2, 4)", values, sizeof values);
    refused(&file, "cut short: its shape asks for 8 elements");
    file = describe("<f4", false, "(4294967296, 4294967296, 4294967296)", values, sizeof values);
    refused(&file, "malformed");
    file = describe("<f8", false, "(4611686018427387904,)", values, sizeof values);
    refused(&file, "cut short");
    static const struct {
        const char *type, *named;
    } others[] = {{"<c8", "complex64"},   {"<c16", "complex128"}, {"<f16", "float128"},
                  {"|O", "objects"},      {"<U5", "text"},        {"|S3", "bytes"},
                  {"<M8[ns]", "dates"},   {"<m8[s]", "duration"}, {"|V8", "raw bytes"},
                  {"<q9", "unknown type"}};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        file = describe(others[i].type, false, "(1,)", values, sizeof values);
        refused(&file, others[i].named);
    }
    file = make(1, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (6,)}", values, 24);
    refused(&file, "structured type");
    file = describe("<f4", false, "(-2, 3)", values, sizeof values);
    refused(&file, "malformed");
    file = describe("<f4", false, "(2, 3", values, 0);
    refused(&file, "malformed");
    file = make(1, "{'descr': '<f4', 'shape': (6,)}", values, sizeof values);
    refused(&file, "malformed");
}

static void test_files(void **state) {
    (void)state;
    struct dml_npy npy;
    assert_int_equal(dml_npy_open(DML_BINARY_DIR "/no such file.npy", &npy), DML_ERROR_IO);
    assert_non_null(strstr(dml_error(), "no such file.npy"));
    assert_int_equal(dml_npy_open(DML_BINARY_DIR, &npy), DML_ERROR_INPUT);
    const char *path = DML_BINARY_DIR "/test_npy.npy";
    assert_ok(dml_write_file(path, "no", 2));
    assert_int_equal(dml_npy_open(path, &npy), DML_ERROR_INPUT);
    /* What is written is read, and the float32 view is the mapping itself. */
    int64_t labels[3] = {1ll << 60, -5, 7};
    assert_ok(dml_npy_write(path, DML_NPY_I64, labels, (size_t[]){3}, 1));
    assert_ok(dml_npy_open(path, &npy));
    assert_true(npy.type == DML_NPY_I64 && dml_npy_integer(&npy, 0) == labels[0]);
    dml_npy_close(&npy);
    float values[4] = {1, 2, 3, 4}, *owned;
    const float *view;
    assert_ok(dml_npy_write(path, DML_NPY_F32, values, (size_t[]){2, 2}, 2));
    assert_ok(dml_npy_open(path, &npy));
    assert_ok(dml_npy_view(&npy, &view, &owned));
    assert_true(owned == NULL && view == npy.data && view[3] == 4);
    dml_npy_close(&npy);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),   cmocka_unit_test(test_big_endian),
        cmocka_unit_test(test_doubles), cmocka_unit_test(test_fortran_order),
        cmocka_unit_test(test_halves),  cmocka_unit_test(test_integers),
        cmocka_unit_test(test_headers), cmocka_unit_test(test_damage),
        cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
