#include "nn/weights/safetensors.h"
#include "nn/weights/torch_file.h"
#include "support/golden.h"

#include <endian.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char checkpoint[] = DML_BINARY_DIR "/weights_round_trip.safetensors";
static const char pth[] = DML_BINARY_DIR "/weights_round_trip.pth";

/* One tensor of every type, a scalar and an empty one, with notes. */
static void fill(struct dml_tensors *tensors) {
    memset(tensors, 0, sizeof *tensors);
    for (int d = 0; d < DML_DTYPE_COUNT; d++) {
        unsigned char *data;
        size_t dims[] = {3, (size_t)d + 1};
        char name[32];
        snprintf(name, sizeof name, "layer.%d.weight", d);
        assert_ok(dml_tensors_add(tensors, name, (enum dml_dtype)d, dims, 2, (void **)&data));
        for (size_t i = 0; i < 3 * dims[1] * dml_dtype_size((enum dml_dtype)d); i++)
            data[i] = (unsigned char)(d == DML_DTYPE_BOOL ? i % 2 : 7 * i + 1);
    }
    int64_t *tracked;
    void *nothing;
    assert_ok(dml_tensors_add(tensors, "bn.num_batches_tracked", DML_DTYPE_I64, NULL, 0,
                              (void **)&tracked));
    *tracked = INT64_C(1) << 40;
    assert_ok(dml_tensors_add(tensors, "empty", DML_DTYPE_F32, (size_t[]){0, 4}, 2, &nothing));
    assert_ok(dml_tensors_set_note(tensors, "arch", "old"));
    assert_ok(dml_tensors_set_note(tensors, "params", "{\"path\": \"a \\\"b\\\" \xc3\xa9\"}"));
    assert_ok(dml_tensors_set_note(tensors, "arch", "resnet18_frozen"));
}

static void assert_same(const struct dml_tensors *a, const struct dml_tensors *b) {
    assert_int_equal(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        const struct dml_tensor *x = &a->items[i], *y = dml_tensors_find(b, x->name);
        assert_non_null(y);
        assert_int_equal(x->dtype, y->dtype);
        assert_int_equal(x->dim_count, y->dim_count);
        assert_memory_equal(x->dims, y->dims, sizeof x->dims);
        if (x->count)
            assert_memory_equal(x->data, y->data, x->count * dml_dtype_size(x->dtype));
    }
    assert_int_equal(a->note_count, b->note_count);
    for (size_t i = 0; i < a->note_count; i++)
        assert_string_equal(a->notes[i].value, dml_tensors_note(b, a->notes[i].key));
}

static void test_round_trips(void **state) {
    (void)state;
    struct dml_tensors made, read;
    fill(&made);
    assert_ok(dml_safetensors_write(checkpoint, &made));
    assert_ok(dml_tensors_read(checkpoint, &read));
    assert_same(&made, &read);
    for (size_t i = 0; i < read.count; i++) /* aligned where they lie */
        assert_int_equal((uintptr_t)read.items[i].data % dml_dtype_size(read.items[i].dtype), 0);
    assert_ok(dml_torch_write(pth, &read));
    dml_tensors_free(&read);
    assert_ok(dml_tensors_read(pth, &read));
    assert_same(&made, &read);
    dml_tensors_free(&read);
    assert_int_equal(dml_tensors_write("weights.bin", &made), DML_ERROR_USAGE);
    assert_int_equal(dml_tensors_write("/nowhere/at/all.pth", &made), DML_ERROR_IO);
    dml_tensors_free(&made);
}

static void test_numbers_become_float32(void **state) {
    (void)state;
    const uint16_t halves[] = {0x3c00, 0xc000, 0x0001, 0x7bff, 0x7c00, 0x8000};
    const float expected[] = {1, -2, 0x1p-24f, 65504, INFINITY, -0.0f};
    struct dml_tensors tensors = {0};
    assert_ok(dml_tensors_add_view(&tensors, "h", DML_DTYPE_F16, (size_t[]){6}, 1, halves));
    float out[6];
    dml_tensor_floats(&tensors.items[0], out);
    assert_memory_equal(out, expected, sizeof out);
    const int64_t large[] = {-5, INT64_C(1) << 24};
    assert_ok(dml_tensors_add_view(&tensors, "i", DML_DTYPE_I64, (size_t[]){2}, 1, large));
    dml_tensor_floats(&tensors.items[1], out);
    assert_true(out[0] == -5 && out[1] == 0x1p24f);
    dml_tensors_free(&tensors);
}

static void prefix_is_taken_off(enum dml_status (*write)(const char *, const struct dml_tensors *),
                                const char *path) {
    struct dml_tensors made = {0}, read;
    const float value = 3;
    assert_ok(dml_tensors_add_view(&made, "module.fc.weight", DML_DTYPE_F32, NULL, 0, &value));
    assert_ok(dml_tensors_add_view(&made, "module.fc.bias", DML_DTYPE_F32, NULL, 0, &value));
    assert_ok(write(path, &made));
    assert_ok(dml_tensors_read(path, &read));
    assert_non_null(dml_tensors_find(&read, "fc.weight"));
    assert_non_null(dml_tensors_find(&read, "fc.bias"));
    dml_tensors_free(&read);
    dml_tensors_free(&made);
}

static void test_metadata_becomes_utf8(void **state) {
    (void)state;
    static const struct {
        const char *given, *kept;
    } cases[] = {
        {"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"caf\xe9", "caf?"},
        {"\xc0\xaf", "??"},             /* overlong */
        {"\xed\xa0\x80", "???"},        /* surrogate */
        {"\xf4\x90\x80\x80x", "????x"}, /* beyond U+10FFFF */
        {"\xe2\x82", "??"},             /* cut */
    };
    struct dml_tensors tensors = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_ok(dml_tensors_set_note(&tensors, "note", cases[i].given));
        assert_string_equal(dml_tensors_note(&tensors, "note"), cases[i].kept);
    }
    dml_tensors_free(&tensors);
}

static void test_prefix_of_data_parallel(void **state) {
    (void)state;
    prefix_is_taken_off(dml_safetensors_write, checkpoint);
    prefix_is_taken_off(dml_torch_write, pth);
}

/* A safetensors file with the given header and `size` bytes after it. */
static void refused_safetensors(const char *header, size_t size, const char *reason) {
    size_t length = strlen(header), total = 8 + length + size;
    char *bytes = calloc(total, 1);
    uint64_t stored = htole64(length);
    memcpy(bytes, &stored, 8);
    memcpy(bytes + 8, header, length);
    struct dml_tensors tensors;
    assert_int_equal(dml_tensors_parse(bytes, total, "bad.safetensors", &tensors), DML_ERROR_INPUT);
    if (!strstr(dml_error(), reason) || strncmp(dml_error(), "bad.safetensors: ", 17) != 0 ||
        strchr(dml_error(), '\n'))
        fail_msg("%s: %s", header, dml_error());
    free(bytes);
}

static void test_bad_safetensors(void **state) {
    (void)state;
    static const char *const one =
        "{\"w\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%s]}}";
    static const struct {
        const char *dtype, *shape, *offsets;
        size_t size;
        const char *reason;
    } cases[] = {
        {"F32", "2", "0,8", 4, "cut short: tensor w"},
        {"F32", "2", "0,8", 12, "4 bytes after its last tensor"},
        {"F32", "2", "4,12", 12, "4 bytes before tensor w"},
        {"F32", "3", "0,8", 8, "tensor w has 8 bytes where its shape needs 12"},
        {"F32", "4294967296,4294967296,4", "0,8", 8, "w: its shape overflows"},
        {"F32", "-2", "0,8", 8, "tensor w has no valid shape"},
        {"F32", "1.5", "0,8", 8, "tensor w has no valid shape"},
        {"F32", "1,1,1,1,1,1,1,1,2", "0,8", 8, "tensor w has no valid shape"},
        {"F32", "2", "8,0", 8, "tensor w has no valid offsets"},
        {"F32", "2", "0,1e300", 8, "tensor w has no valid offsets"},
        {"F8_E4M3", "8", "0,8", 8, "tensor w has elements of type F8_E4M3"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char header[300];
        snprintf(header, sizeof header, one, cases[i].dtype, cases[i].shape, cases[i].offsets);
        refused_safetensors(header, cases[i].size, cases[i].reason);
    }
    refused_safetensors("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                        "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}",
                        6, "tensor b overlaps tensor a");
    refused_safetensors("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                        "\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}",
                        8, "two tensors called a");
    refused_safetensors("{\"a\\n\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
                        "control characters");
    refused_safetensors("{\"a\xff\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
                        "not UTF-8");
    refused_safetensors("{\"__metadata__\":{\"a\":1}}", 0, "metadata");
    refused_safetensors("{\"a\":", 0, "malformed");
    struct dml_tensors tensors;
    const char large[16] = "\xff\xff\xff\xff\xff\xff\xff\xff{}";
    assert_int_equal(dml_tensors_parse(large, 16, "x", &tensors), DML_ERROR_INPUT);
    assert_non_null(strstr(dml_error(), "the limit"));
    const char cut[16] = "\x40\0\0\0\0\0\0\0{}";
    assert_int_equal(dml_tensors_parse(cut, 16, "x", &tensors), DML_ERROR_INPUT);
    assert_non_null(strstr(dml_error(), "cut short"));
}

static unsigned char *find_bytes(char *data, size_t size, const char *wanted, size_t length) {
    unsigned char *at = memmem(data, size, wanted, length);
    assert_non_null(at);
    return at;
}

/* The older format has no checksums, so a byte of a good file can be made wrong. */
static void refused_legacy(const char *before, size_t length, size_t offset, unsigned char byte,
                           const char *reason) {
    char *data;
    size_t size;
    struct dml_tensors tensors;
    assert_ok(dml_read_file(golden_path("weights/legacy.pth"), &data, &size));
    find_bytes(data, size, before, length)[offset] = byte;
    enum dml_status status = dml_tensors_parse(data, size, "bad.pth", &tensors);
    if (status != DML_ERROR_INPUT || !strstr(dml_error(), reason) || strchr(dml_error(), '\n'))
        fail_msg("%s: status %d: %s", reason, status, status ? dml_error() : "");
    free(data);
}

static void test_bad_legacy_files(void **state) {
    (void)state;
    /* slice: offset 25, size (2, 5), strides (5, 1) of 60 elements */
    static const char slice[] = {'Q', 'K', 25, 'K', 2, 'K', 5};
    refused_legacy(slice, 7, 2, 56, "tensor slice reaches beyond its storage");
    refused_legacy(slice, 7, 4, 200, "tensor slice reaches beyond its storage");
    /* conv_weight: its storage has 108 elements, in the pickle and in front of its bytes */
    static const char conv[] = {'K', 108, 'N'};
    refused_legacy(conv, 3, 1, 107, "tensor conv_weight reaches beyond its storage");
    refused_legacy(conv, 3, 1, 109, "cut short: tensor conv_weight needs 444 bytes");
    static const char count[] = {108, 0, 0, 0, 0, 0, 0, 0};
    refused_legacy(count, 8, 3, 1, "tensor conv_weight: its storage has");
    refused_legacy("torch\nFloatStorage", 18, 5, '.', "its pickle asks for torch.FloatStorage");
    refused_legacy("_rebuild_parameter", 18, 0, 'x', "torch._utils.xrebuild_parameter");
    refused_legacy("OrderedDict", 11, 0, 'o', "collections.orderedDict");
}

static void test_cut_files(void **state) {
    (void)state;
    static const char *const files[] = {"legacy.pth", "zip.pth"};
    for (int f = 0; f < 2; f++) {
        char *data;
        size_t size;
        assert_ok(dml_read_file(golden_path("weights/%s", files[f]), &data, &size));
        for (size_t length = 0; length < size; length++) {
            struct dml_tensors tensors;
            char *copy = malloc(length + 1); /* so that a sanitizer sees what is beyond */
            memcpy(copy, data, length);
            assert_int_equal(dml_tensors_parse(copy, length, "cut", &tensors), DML_ERROR_INPUT);
            free(copy);
        }
        free(data);
    }
}

/* A pickle that repeats one element a million million times, as expand() makes them. */
static void test_expanded_tensor_is_bounded(void **state) {
    (void)state;
    char *data;
    size_t size;
    struct dml_tensors tensors;
    assert_ok(dml_read_file(golden_path("weights/legacy.pth"), &data, &size));
    static const char sizes[] = {'K', 5, 'K', 3, 'K', 4, (char)0x87};    /* permuted */
    static const char strides[] = {'K', 1, 'K', 20, 'K', 5, (char)0x87}; /* its strides */
    unsigned char *dims = find_bytes(data, size, sizes, 7);
    unsigned char *steps = find_bytes(data, size, strides, 7);
    dims[1] = dims[3] = dims[5] = 255;
    steps[1] = steps[3] = steps[5] = 0;
    assert_int_equal(dml_tensors_parse(data, size, "big", &tensors), DML_ERROR_INPUT);
    assert_non_null(strstr(dml_error(), "tensor permuted repeats its storage"));
    free(data);
}

/* What torch wrote under Python 2: byte strings, an OrderedDict made from a list of pairs, the
 * first _rebuild_tensor, and parameters as objects with a state, two ways. */
static void test_pickles_of_old_versions(void **state) {
    (void)state;
#define STORAGE                                                                                    \
    "((U\7storagectorch\nFloatStorage\nU\1"                                                        \
    "7U\3cpuK\4NtQ"
#define TENSOR(offset) "ctorch._utils\n_rebuild_tensor\n" STORAGE "K" offset "K\2\x85K\1\x85tR"
    static const char file[] =
        "\x80\2\x8a\nl\xfc\x9c"
        "F\xf9 j\xa8P\x19." /* magic */
        "\x80\2M\xe9\3."    /* version 1001 */
        "\x80\2}U\rlittle_endian\x88s."
        "\x80\2"
        "ccollections\nOrderedDict\n]("
        "](U\1"
        "a" TENSOR("\0") "e"
                         "](U\1"
                         "bctorch.nn.parameter\nParameter\n" TENSOR(
                             "\1") "\x85R(\x88\x89Ntbe"
                                   "](U\1"
                                   "cctorch.nn.parameter\nParameter\n)\x81(" TENSOR(
                                       "\2") "NN\x88\x89tbe"
                                             "e\x85R."
                                             "\x80\2]U\1"
                                             "7a."
                                             "\4\0\0\0\0\0\0\0"
                                             "\0\0\200?\0\0\0@\0\0@@\0\0\200@"; /* 1, 2, 3, 4 */
    struct dml_tensors tensors;
    assert_ok(dml_tensors_parse(file, sizeof file - 1, "old.pth", &tensors));
    assert_int_equal(tensors.count, 3);
    for (int i = 0; i < 3; i++) {
        float values[2];
        const struct dml_tensor *tensor =
            dml_tensors_find(&tensors, ((const char *[]){"a", "b", "c"})[i]);
        assert_non_null(tensor);
        assert_int_equal(tensor->count, 2);
        dml_tensor_floats(tensor, values);
        assert_true(values[0] == i + 1 && values[1] == i + 2);
    }
    dml_tensors_free(&tensors);
}

/* An empty tensor may begin anywhere: nothing is read there. */
static void test_empty_tensor_far_away(void **state) {
    (void)state;
    static const char file[] =
        "\x80\2\x8a\nl\xfc\x9c"
        "F\xf9 j\xa8P\x19."
        "\x80\2M\xe9\3."
        "\x80\2}U\rlittle_endian\x88s."
        "\x80\2}U\1"
        "actorch._utils\n_rebuild_tensor\n" STORAGE "\x8a\x08\0\0\0\0\0\0\0\x20" /* offset 2^61 */
        "K\0\x85K\1\x85tRs."
        "\x80\2]U\1"
        "7a."
        "\4\0\0\0\0\0\0\0"
        "\0\0\200?\0\0\0@\0\0@@\0\0\200@";
    struct dml_tensors tensors;
    assert_ok(dml_tensors_parse(file, sizeof file - 1, "empty.pth", &tensors));
    assert_int_equal(tensors.count, 1);
    assert_int_equal(tensors.items[0].count, 0);
    uintptr_t begin = (uintptr_t)file, at = (uintptr_t)tensors.items[0].data;
    assert_true(at >= begin && at <= begin + sizeof file);
    dml_tensors_free(&tensors);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_numbers_become_float32),
        cmocka_unit_test(test_metadata_becomes_utf8),
        cmocka_unit_test(test_prefix_of_data_parallel),
        cmocka_unit_test(test_bad_safetensors),
        cmocka_unit_test(test_bad_legacy_files),
        cmocka_unit_test(test_cut_files),
        cmocka_unit_test(test_expanded_tensor_is_bounded),
        cmocka_unit_test(test_pickles_of_old_versions),
        cmocka_unit_test(test_empty_tensor_far_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
