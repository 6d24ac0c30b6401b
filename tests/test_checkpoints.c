/* Checkpoints as training code writes them: files of torch.save in tests/cases, and pickles built
 * here in torch's older format, which needs no archive. */
#include "nn/weights/tensors.h"
#include "support/golden.h"

#include <stdlib.h>
#include <string.h>

static void reads_nine_tensors(const char *name) {
    struct dml_tensors tensors;
    char path[500];
    snprintf(path, sizeof path, DML_SOURCE_DIR "/tests/cases/%s", name);
    assert_ok(dml_tensors_read(path, &tensors));
    assert_int_equal(tensors.count, 9);
    assert_non_null(dml_tensors_find(&tensors, "0.weight"));
    assert_non_null(dml_tensors_find(&tensors, "1.num_batches_tracked"));
    assert_null(dml_tensors_find(&tensors, "loss"));
    dml_tensors_free(&tensors);
}

static void test_files_of_torch(void **state) {
    (void)state;
    reads_nine_tensors("scheduler_counter.pth");
    reads_nine_tensors("compiled_and_parallel.pth");
    reads_nine_tensors("tutorial_layout.pth");
    reads_nine_tensors("ema_layout.pth");
}

/* Of the layout that torch.save has on such a machine. One of its tensors has the other sign than
 * its storage. */
static void test_file_of_a_big_endian_machine(void **state) {
    (void)state;
    static const struct {
        const char *name;
        size_t count;
        float values[3];
    } expected[] = {
        {"a", 3, {1, 2.5f, -3}}, {"h", 2, {0.5f, -2}}, {"d", 1, {1e-3f}}, {"l", 1, {7}}};
    struct dml_tensors tensors;
    assert_ok(dml_tensors_read(DML_SOURCE_DIR "/tests/cases/big_endian.pth", &tensors));
    assert_int_equal(tensors.count, 5);
    assert_null(dml_tensors_find(&tensors, "negative"));
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        const struct dml_tensor *tensor = dml_tensors_find(&tensors, expected[i].name);
        float values[3];
        assert_non_null(tensor);
        assert_int_equal(tensor->count, expected[i].count);
        dml_tensor_floats(tensor, values);
        assert_memory_equal(values, expected[i].values, tensor->count * sizeof *values);
    }
    dml_tensors_free(&tensors);
}

static void test_what_is_mistaken_for_weights(void **state) {
    (void)state;
    static const char *const files[][2] = {
        {"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "Git LFS"},
        {"<!DOCTYPE html>\n<html>", "is a web page"},
        {"\x1f\x8b\x08", "compressed by gzip"},
        {"\x93NUMPY\1", "a .npy file"},
        {"epoch,loss\n", "neither a safetensors file nor one that torch.save wrote"},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct dml_tensors tensors;
        assert_int_equal(dml_tensors_parse(files[i][0], strlen(files[i][0]), "x.pth", &tensors),
                         DML_ERROR_INPUT);
        assert_non_null(strstr(dml_error(), files[i][1]));
    }
}

struct buffer {
    char bytes[20000];
    size_t size;
};

static void put(struct buffer *b, const void *bytes, size_t size) {
    memcpy(b->bytes + b->size, bytes, size);
    b->size += size;
}

#define PUT(b, literal) put(b, literal, sizeof(literal) - 1)

static void put_text(struct buffer *b, const char *text) {
    const char start[2] = {'U', (char)strlen(text)};
    put(b, start, 2);
    put(b, text, strlen(text));
}

/* A tensor of `count` floats, all of one storage of four; 0: a scalar. */
static void put_tensor(struct buffer *b, const char *storage, size_t count) {
    PUT(b, "ctorch._utils\n_rebuild_tensor_v2\n((U\7storagectorch\n");
    put(b, storage, strlen(storage));
    PUT(b, "\n");
    put_text(b, strcmp(storage, "FloatStorage") == 0 ? "7" : "8");
    PUT(b, "U\3cpuK\4NtQK\0");
    if (count) {
        const char shape[] = {'K', (char)count, (char)0x85, 'K', 1, (char)0x85};
        put(b, shape, sizeof shape);
    } else {
        PUT(b, "))");
    }
    PUT(b, "\x89}tR");
}

/* A small notation for checkpoints: `{` and `}` around `name:value,`; values are T (a tensor of
 * two), S (a scalar tensor), C (a complex tensor) or, between `<` and `>`, a number of the list
 * below of other things that stand in checkpoints. */
static const struct {
    const char *bytes;
    size_t size;
} others[] = {
#define OTHER(literal)                                                                             \
    { literal, sizeof(literal) - 1 }
    OTHER("K\7"),
    OTHER("N"),
    OTHER("G\x3f\xf0\0\0\0\0\0\0"),
    OTHER("ccollections\nCounter\n}(K\2K\1u\x85R"),
    OTHER("ccollections\ndefaultdict\nc__builtin__\nlist\n\x85R(K\1]u"),
    OTHER("c__builtin__\nset\n](K\1K\2e\x85R"),
    OTHER("\x8f(K\1K\2\x90"),
    OTHER("(K\1K\2\x91"),
    OTHER("c__builtin__\ncomplex\nG\0\0\0\0\0\0\0\0G\0\0\0\0\0\0\0\0\x86R"),
    OTHER("c_codecs\nencode\nU\1aU\6latin1\x86R"),
    OTHER("ctorch\nSize\nK\2K\3\x86\x85R"),
    OTHER("ctorch\ndevice\nU\4cuda\x85R"),
    OTHER("ctorch\nbfloat16\n"),
    OTHER("ctorch.serialization\n_get_layout\nU\7strided\x85R"),
    OTHER("\x8a\x0a\1\2\3\4\5\6\7\x8\x9\xa"),
    OTHER("cnumpy._core.multiarray\nscalar\n(cnumpy\ndtype\nU\2f8\x89\x88\x87R(K\3U\1<NNNJ\xff\xff"
          "\xff\xffJ\xff\xff\xff\xffK\0tbc_codecs\nencode\nU\1aU\6latin1\x86RtR"),
    OTHER("cargparse\nNamespace\n)\x81}(U\2lrK\1ub"),
    OTHER("}(K\0}(U\4stepK\1uu"),
    OTHER("(K\1K\2t"),
};
enum { OTHER_COUNT = sizeof others / sizeof others[0] };

static void put_value(struct buffer *b, const char **at) {
    char c = *(*at)++;
    if (c == 'T')
        put_tensor(b, "FloatStorage", 2);
    else if (c == 'S')
        put_tensor(b, "FloatStorage", 0);
    else if (c == 'C')
        put_tensor(b, "ComplexFloatStorage", 2);
    else if (c == '<') {
        size_t which = strtoul(*at, (char **)at, 10);
        put(b, others[which].bytes, others[which].size);
        (*at)++;
    } else {
        PUT(b, "ccollections\nOrderedDict\n)R(");
        while (**at != '}') {
            char key[100];
            size_t length = strcspn(*at, ":");
            snprintf(key, sizeof key, "%.*s", (int)length, *at);
            *at += length + 1;
            put_text(b, key);
            put_value(b, at);
            *at += **at == ',';
        }
        (*at)++;
        PUT(b, "u");
    }
}

static enum dml_status parse(const char *notation, struct dml_tensors *out) {
    static struct buffer b;
    b.size = 0;
    PUT(&b, "\x80\2\x8a\nl\xfc\x9c"
            "F\xf9 j\xa8P\x19.\x80\2M\xe9\3.\x80\2}U\rlittle_endian\x88s.\x80\2");
    const char *at = notation;
    put_value(&b, &at);
    bool complex = strchr(notation, 'C'), floats = strpbrk(notation, "TS");
    PUT(&b, ".\x80\2](");
    if (floats)
        put_text(&b, "7");
    if (complex)
        put_text(&b, "8");
    PUT(&b, "e.");
    if (floats)
        PUT(&b, "\4\0\0\0\0\0\0\0\0\0\x80?\0\0\0@\0\0@@\0\0\x80@");
    if (complex)
        PUT(&b, "\4\0\0\0\0\0\0\0aaaaaaaabbbbbbbbccccccccdddddddd");
    return dml_tensors_parse(b.bytes, b.size, "made.pth", out);
}

/* The tensors found are exactly those, in this order. */
static void gives(const char *notation, const char *names) {
    struct dml_tensors tensors;
    char found[300] = "";
    if (parse(notation, &tensors))
        fail_msg("%s: %s", notation, dml_error());
    for (size_t i = 0; i < tensors.count; i++)
        snprintf(found + strlen(found), sizeof found - strlen(found), "%s%s", i ? " " : "",
                 tensors.items[i].name);
    if (strcmp(found, names) != 0)
        fail_msg("%s: has '%s', not '%s'", notation, found, names);
    dml_tensors_free(&tensors);
}

static void refused(const char *notation, const char *reason) {
    struct dml_tensors tensors;
    assert_int_equal(parse(notation, &tensors), DML_ERROR_INPUT);
    if (!strstr(dml_error(), reason) || strchr(dml_error(), '\n'))
        fail_msg("%s: %s", notation, dml_error());
}

static void test_what_stands_beside_weights(void **state) {
    (void)state;
    char notation[100];
    for (int i = 0; i < OTHER_COUNT; i++) {
        snprintf(notation, sizeof notation, "{state_dict:{w:T,extra:<%d>,b:T},other:<%d>}", i, i);
        gives(notation, "w b");
        snprintf(notation, sizeof notation, "{other:<%d>,w:T,b:S}", i);
        gives(notation, "w b");
    }
    gives("{w:T,spectrum:C,b:T}", "w b");
    refused("{a:C,b:C}", "all of its tensors are complex");
}

static void test_every_wrapping(void **state) {
    (void)state;
    static const char *const names[] = {"state_dict", "model_state_dict", "model",   "teacher",
                                        "model_ema",  "state_dict_ema",   "net",     "student",
                                        "backbone",   "encoder",          "network", "my_weights"};
    char notation[200];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(notation, sizeof notation, "{epoch:<0>,%s:{w:T,b:T},loss:S}", names[i]);
        gives(notation, "w b");
        for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
            snprintf(notation, sizeof notation, "{loss:T,%s:{%s:{w:T,b:T},epoch:<0>}}", names[i],
                     names[k]);
            gives(notation, "w b");
        }
    }
    gives("{student:{s:T,b:T},teacher:{t:T,b:T}}", "t b");
    gives("{a:{x:T},b:{x:T,y:T,z:T}}", "x y z");
    gives("{optimizer:{a:T,b:T,c:T},best:{x:T}}", "x");
    gives("{model_state_dict:<1>,model:{w:T}}", "w");
}

static void test_prefixes_of_names(void **state) {
    (void)state;
    gives("{module.module.w:T,module.module.b:T}", "w b");
    gives("{module._orig_mod.w:T,module._orig_mod.b:T}", "w b");
    gives("{_orig_mod.module.model.backbone.w:T,_orig_mod.module.model.backbone.b:T}", "w b");
    gives("{layer1._orig_mod.0.w:T,layer2.w:T}", "layer1.0.w layer2.w");
    gives("{n_averaged:S,module.w:T,module.n:S}", "n_averaged w n");
    gives("{module.w:T,b:T}", "module.w b");
    gives("{module:T}", "module");
    gives("{state_dict:{encoder.a:T,encoder.encoder.b:T}}", "a encoder.b");
}

static void test_messages_list_the_keys(void **state) {
    (void)state;
    refused("{epoch:<0>,lr:<2>}", "holds no tensors by name; its keys are epoch, lr");
    refused("{query:{w:T,b:T},key:{w:T,b:T}}", "is not clear; its keys are query, key");
    refused("{}", "holds no tensors by name");
    refused("{a:<0>,b:<0>,c:<0>,d:<0>,e:<0>,f:<0>,g:<0>,h:<0>,i:<0>,j:<0>,k:<0>,l:<0>,m:<0>}",
            "k, l and 1 more");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files_of_torch),
        cmocka_unit_test(test_file_of_a_big_endian_machine),
        cmocka_unit_test(test_what_is_mistaken_for_weights),
        cmocka_unit_test(test_what_stands_beside_weights),
        cmocka_unit_test(test_every_wrapping),
        cmocka_unit_test(test_prefixes_of_names),
        cmocka_unit_test(test_messages_list_the_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
