/* Layouts, splits, and what is said about data sets that cannot be used. */
#include "base/memory.h"
#include "data/dataset.h"
#include "data/image.h"
#include "data/png_write.h"
#include "support/data_sets.h"
#include "support/golden.h"
#include "support/scratch.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void make_image(const char *format, const char *set, const char *class, int image) {
    char *relative = dml_format(format, set, class, image);
    scratch_jpeg(relative, 20, 16, (unsigned)image);
    free(relative);
}

/* Classes with 5 images each. */
static void make_classes(const char *set, const char *const *classes, int count, bool images) {
    for (int c = 0; c < count; c++)
        for (int i = 0; i < 5; i++)
            make_image(images ? "%s/images/%s/%d.jpg" : "%s/%s/%d.jpg", set, classes[c], i);
}

static const char *const NUMBERED[] = {"10.heron", "9.auk", "100.wren", "2.gull"};
static const char *const NAMED[] = {"bmw", "audi", "seat", "fiat", "opel"};

static void test_numbered(void **state) {
    (void)state;
    make_classes("cub200", NUMBERED, 4, true);
    scratch_text("cub200/images/._2.gull", "shadow");
    scratch_text("cub200/images/2.gull/._0.jpg", "shadow");
    scratch_text("cub200/images/readme.txt", "not a class");
    struct dml_dataset_options options = data_options_of("cub200", scratch_path("%s", ""));
    struct dml_dataset dataset = data_open_ok(&options);
    data_check_part(&dataset.training, 2, 10);
    data_check_part(&dataset.testing, 2, 10);
    data_check_part(&dataset.validation, 0, 0);
    assert_string_equal(dataset.training.name, "training");
    assert_string_equal(dataset.training.class_names[0], "2.gull");
    assert_string_equal(dataset.training.class_names[1], "9.auk");
    assert_string_equal(dataset.testing.class_names[0], "10.heron");
    assert_string_equal(dataset.testing.class_names[1], "100.wren");
    assert_non_null(strstr(dataset.training.paths[0], "images/2.gull/0.jpg"));
    assert_null(dataset.testing.is_query);
    dml_dataset_close(&dataset);
}

static void test_named_and_roots(void **state) {
    (void)state;
    make_classes("cars196", NAMED, 5, true);
    make_classes("mine", NAMED, 5, false);
    struct dml_dataset_options all[] = {
        data_options_of("cars196", scratch_path("%s", "")),  /* the folder above */
        data_options_of("cars196", scratch_path("cars196")), /* the folder itself */
        data_options_of("mine", scratch_path("%s", "")),     /* without images/ */
        data_options_of("mine", scratch_path("mine")),
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct dml_dataset dataset = data_open_ok(&all[i]);
        data_check_part(&dataset.training, 2, 10);
        data_check_part(&dataset.testing, 3, 15);
        assert_string_equal(dataset.training.class_names[1], "bmw");
        assert_string_equal(dataset.testing.class_names[0], "fiat");
        dml_dataset_close(&dataset);
    }
    /* A misspelt data set is not taken for the folder that holds others. */
    struct dml_dataset_options misspelt = data_options_of("mind", scratch_path("%s", ""));
    struct dml_dataset dataset;
    assert_int_equal(dml_dataset_open(&misspelt, 0, &dataset), DML_ERROR_INPUT);
    assert_non_null(strstr(dml_error(), "mind"));
}

static void test_class_split(void **state) {
    (void)state;
    make_classes("cars196", NAMED, 5, true);
    make_classes("cars196", NUMBERED, 4, true); /* 9 classes, 4 of them train */
    struct dml_dataset_options options = data_options_of("cars196", scratch_path("%s", ""));
    options.use_tv_split = true;
    struct dml_dataset dataset = data_open_ok(&options);
    data_check_part(&dataset.training, 3, 15);
    data_check_part(&dataset.validation, 1, 5);
    data_check_part(&dataset.testing, 5, 25);
    dml_dataset_close(&dataset);
    options.tv_split_perc = 0.1;
    data_open_fails(&options, DML_ERROR_USAGE, "--tv_split_perc 0.1", "nothing for training");
    options.tv_split_perc = 1;
    data_open_fails(&options, DML_ERROR_USAGE, "--tv_split_perc 1", "nothing for validation");
}

/* Number of the file: ".../3.jpg" is 3. */
static int number_of(const char *path) {
    return atoi(strrchr(path, '/') + 1);
}

static void test_sample_split(void **state) {
    (void)state;
    make_classes("cub200", NUMBERED, 4, true);
    struct dml_dataset_options options = data_options_of("cub200", scratch_path("%s", ""));
    options.use_tv_split = options.tv_split_by_samples = true;
    options.tv_split_perc = 0.6; /* of 0..4: round(linspace(0, 4, 3)) */
    struct dml_dataset dataset = data_open_ok(&options);
    data_check_part(&dataset.training, 2, 6);
    data_check_part(&dataset.validation, 2, 4);
    for (int i = 0; i < 6; i++)
        assert_int_equal(number_of(dataset.training.paths[i]), i % 3 * 2);
    assert_string_equal(dataset.validation.class_names[1], "9.auk");
    dml_dataset_close(&dataset);

    /* Other data sets draw, by the seed. */
    make_classes("cars196", NAMED, 4, true);
    options.dataset = "cars196";
    bool differs = false;
    int first[6];
    for (uint64_t seed = 0; seed < 8; seed++)
        for (int again = 0; again < 2; again++) {
            assert_ok(dml_dataset_open(&options, seed, &dataset));
            data_check_part(&dataset.training, 2, 6);
            data_check_part(&dataset.validation, 2, 4);
            for (int i = 0; i < 6; i++) {
                int number = number_of(dataset.training.paths[i]);
                if (again)
                    assert_int_equal(number, first[i]);
                else if (seed)
                    differs |= number != first[i];
                first[i] = number;
            }
            for (int i = 0; i < 6; i++)
                for (int v = 0; v < 4; v++)
                    assert_string_not_equal(dataset.training.paths[i], dataset.validation.paths[v]);
            dml_dataset_close(&dataset);
        }
    assert_true(differs);
}

static void test_online_products(void **state) {
    (void)state;
    struct dml_dataset_options options = data_options_of("online_products", scratch_path("%s", ""));
    for (int i = 0; i < 8; i++)
        make_image("%s/images/%s/%d.jpg", "online_products", "sofa", i);
    scratch_text("online_products/Info_Files/Ebay_train.txt",
                 "image_id class_id super_class_id path\n"
                 "1 11 2 sofa/0.jpg\n2 11 2 sofa/1.jpg\n3 2 1 sofa/2.jpg\n4 2 1 sofa/3.jpg\r\n"
                 "5 12 2 sofa/4.jpg\n6 12 2 sofa/5.jpg\n");
    scratch_text("online_products/Info_Files/Ebay_test.txt",
                 "image_id class_id super_class_id path\n7 3 1 sofa/6.jpg\n8 3 1 sofa/7.jpg");
    struct dml_dataset dataset = data_open_ok(&options);
    data_check_part(&dataset.training, 3, 6);
    data_check_part(&dataset.testing, 1, 2);
    assert_string_equal(dataset.training.class_names[0], "2");
    assert_string_equal(dataset.training.class_names[2], "12");
    assert_int_equal(number_of(dataset.training.paths[0]), 2);
    dml_dataset_close(&dataset);

    options.use_tv_split = true; /* of each super class: 0 of 1 and 1 of 2 */
    options.tv_split_perc = 0.5;
    dataset = data_open_ok(&options);
    data_check_part(&dataset.training, 1, 2);
    assert_string_equal(dataset.training.class_names[0], "11");
    data_check_part(&dataset.validation, 2, 4);
    dml_dataset_close(&dataset);
    options.tv_split_by_samples = true;
    dataset = data_open_ok(&options);
    data_check_part(&dataset.training, 3, 3);
    data_check_part(&dataset.validation, 3, 3);
    assert_int_equal(number_of(dataset.training.paths[1]), 0);
    assert_int_equal(number_of(dataset.validation.paths[1]), 1);
    dml_dataset_close(&dataset);

    scratch_text("online_products/Info_Files/Ebay_test.txt", "header\n7 3 sofa/6.jpg\n");
    data_open_fails(&options, DML_ERROR_INPUT, "Ebay_test.txt: line 2", "class_id");
    scratch_text("online_products/Info_Files/Ebay_test.txt", "header\n");
    data_open_fails(&options, DML_ERROR_INPUT, "Ebay_test.txt", "no images");
    unlink(scratch_path("online_products/Info_Files/Ebay_test.txt"));
    data_open_fails(&options, DML_ERROR_IO, "Ebay_test.txt", "No such file");
}

static void test_bundled(void **state) {
    (void)state;
    struct dml_dataset_options options = data_options_of("emoji200", DML_SOURCE_DIR "/data");
    struct dml_dataset dataset = data_open_ok(&options);
    data_check_part(&dataset.training, 100, dataset.training.images);
    data_check_part(&dataset.testing, 100, dataset.testing.images);
    assert_string_equal(dataset.training.class_names[0], "001.left-speech-bubble");
    dml_dataset_close(&dataset);
}

static void test_missing(void **state) {
    (void)state;
    make_classes("cub200", NUMBERED, 4, true);
    struct dml_dataset_options options = data_options_of("cub20", scratch_path("%s", ""));
    data_open_fails(&options, DML_ERROR_INPUT, "cub20: no such folder", "\"cub200\"");
    options = data_options_of("cub200", "/nowhere/at/all");
    data_open_fails(&options, DML_ERROR_INPUT, "/nowhere/at/all: no such folder", "--source_path");
    assert_ok(dml_make_folders(scratch_path("cub200/images/3.empty")));
    options = data_options_of("cub200", scratch_path("%s", ""));
    data_open_fails(&options, DML_ERROR_INPUT, "3.empty", "without images");
    rmdir(scratch_path("cub200/images/3.empty"));
    assert_ok(dml_make_folders(scratch_path("hollow/images")));
    options = data_options_of("hollow", scratch_path("%s", ""));
    data_open_fails(&options, DML_ERROR_INPUT, "hollow/images", "at least two");
}

/* A JPEG file whose header promises side x side pixels, and that has none. */
static const char *hostile_jpeg(const char *relative, unsigned side) {
    const unsigned char high = (unsigned char)(side >> 8), low = (unsigned char)side;
    const unsigned char bytes[] = {
        0xFF, 0xD8, 0xFF, 0xC0, 0, 17, 8, high, low, high, low, 3, 1, 0x11, 0,    2, 0x11, 0,    3,
        0x11, 0,    0xFF, 0xDA, 0, 12, 3, 1,    0,   2,    0,   3, 0, 0,    0x3F, 0, 0xFF, 0xD9,
    };
    return scratch_write(relative, bytes, sizeof bytes);
}

static void bad_image(const char *path, enum dml_status status, const char *problem) {
    struct dml_dataset_options options = data_options_of("cub200", scratch_path("%s", ""));
    data_open_fails(&options, status, path, problem);
    assert_null(strstr(dml_error(), "more images"));
    unlink(path);
}

static void test_bad_images(void **state) {
    (void)state;
    make_classes("cub200", NUMBERED, 4, true);
    const char *name = "cub200/images/9.auk/bad.jpg";
    bad_image(scratch_text(name, ""), DML_ERROR_INPUT, "is empty");
    bad_image(scratch_text(name, "Not an image."), DML_ERROR_INPUT, "neither a JPEG nor a PNG");
    bad_image(scratch_text(name, "GIF89a;"), DML_ERROR_INPUT, "is a GIF image, neither a JPEG");
    bad_image(scratch_text(name, "RIFFsizeWEBPVP8 "), DML_ERROR_INPUT, "is a WebP image, neither");
    bad_image(hostile_jpeg(name, 65535), DML_ERROR_INPUT, "65500");
    bad_image(hostile_jpeg(name, 65000), DML_ERROR_INPUT, "65000 x 65000");
    static const size_t cuts[] = {3, 20, 100, 700, 10000, 20000};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        bad_image(scratch_copy(name, golden_path("transforms/chelsea.jpg"), cuts[i]),
                  DML_ERROR_INPUT, "cut short");
        bad_image(scratch_copy(name, golden_path("transforms/chelsea_progressive.jpg"), cuts[i]),
                  DML_ERROR_INPUT, "cut short");
    }
    bad_image(scratch_copy(name, golden_path("transforms/chelsea.png"), 9), DML_ERROR_INPUT,
              "cut short");
    bad_image(scratch_copy(name, golden_path("transforms/chelsea.png"), 20000), DML_ERROR_INPUT,
              "cut short");
    assert_ok(dml_make_folders(scratch_path("%s", name)));
    struct dml_dataset_options options = data_options_of("cub200", scratch_path("%s", ""));
    data_open_fails(&options, DML_ERROR_INPUT, name, "is not a file");
    rmdir(scratch_path("%s", name));
    assert_int_equal(symlink("/nowhere/at/all", scratch_path("%s", name)), 0);
    bad_image(scratch_path("%s", name), DML_ERROR_IO, "cannot be opened");

    /* Several: the first one is named, whatever the threads do. */
    const char *first = scratch_text("cub200/images/2.gull/bad.jpg", "");
    const char *second = scratch_text(name, "x");
    data_open_fails(&options, DML_ERROR_INPUT, first, "(and 1 more images that cannot be used)");
    unlink(first);
    unlink(second);
}

/* Garbage after the end, or only the end marker missing, does not matter. */
static void test_tolerated(void **state) {
    (void)state;
    make_classes("cub200", NUMBERED, 4, true);
    char *data;
    size_t size;
    assert_ok(dml_read_file(golden_path("transforms/coffee.jpg"), &data, &size));
    char *longer = calloc(size + 1000, 1);
    assert_non_null(longer);
    memcpy(longer, data, size);
    scratch_write("cub200/images/9.auk/longer.jpg", longer, size + 1000);
    scratch_write("cub200/images/9.auk/shorter.jpg", data, size - 2);
    struct dml_dataset_options options = data_options_of("cub200", scratch_path("%s", ""));
    struct dml_dataset dataset = data_open_ok(&options);
    data_check_part(&dataset.training, 2, 12);
    dml_dataset_close(&dataset);
    unlink(scratch_path("cub200/images/9.auk/longer.jpg"));
    unlink(scratch_path("cub200/images/9.auk/shorter.jpg"));
    free(longer);
    free(data);
}

static struct dml_dataset_options csv_options(const char *text) {
    struct dml_dataset_options options = data_options_of("cub200", scratch_path("cub200"));
    options.dataset_csv = (char *)scratch_text("lists/mine.csv", text);
    return options;
}

static void test_csv(void **state) {
    (void)state;
    make_classes("cub200", NUMBERED, 4, true);
    make_classes("lists", NAMED, 2, false);
    struct dml_dataset_options options =
        csv_options("\xEF\xBB\xBFlabel,path,split,is_gallery,is_query,note\r\n"
                    "10,images/2.gull/0.jpg,train,,,\r\n"
                    "9,images/2.gull/1.jpg,train,,,\"a, \"\"b\"\"\nc\"\r\n"
                    "\r\n"
                    "9,\"bmw/1.jpg\",test,1,0,x\n"
                    "9,bmw/0.jpg,test,,yes,\n"
                    "bird,bmw/2.jpg,test,no,TRUE,\n"
                    "10,audi/3.jpg,val,1,1,");
    struct dml_dataset dataset = data_open_ok(&options);
    data_check_part(&dataset.training, 2, 2);
    data_check_part(&dataset.validation, 1, 1);
    data_check_part(&dataset.testing, 2, 3);
    assert_string_equal(dataset.training.class_names[0], "9"); /* numbers, by value */
    assert_string_equal(dataset.testing.class_names[1], "bird");
    assert_int_equal(number_of(dataset.testing.paths[0]), 1); /* the file's order */
    static const uint8_t query[] = {0, 1, 1}, gallery[] = {1, 1, 0};
    assert_memory_equal(dataset.testing.is_query, query, 3);
    assert_memory_equal(dataset.testing.is_gallery, gallery, 3);
    dml_dataset_close(&dataset);

    options.use_tv_split = true;
    data_open_fails(&options, DML_ERROR_USAGE, "--use_tv_split", "mine.csv");
    options = csv_options("path,label,split\nbmw/0.jpg,a,train\nbmw/1.jpg,b,test\n");
    dataset = data_open_ok(&options);
    assert_null(dataset.testing.is_query);
    assert_string_equal(dataset.testing.class_names[0], "b");
    dml_dataset_close(&dataset);
}

/* As Excel writes them where the comma is a decimal point, and with lines that were emptied. */
static void test_csv_of_excel(void **state) {
    (void)state;
    static const char *const texts[] = {
        "\xEF\xBB\xBFpath;label;split\r\nbmw/0.jpg;a,b;train\r\nbmw/1.jpg;\"c;d\";test\r\n;;\r\n",
        "path\tlabel\tsplit\nbmw/0.jpg\ta,b\ttrain\n\t\t\nbmw/1.jpg\tc;d\ttest\n",
        "sep=;\r\n\"pa,th\";path;label;split\r\n0;bmw/0.jpg;a,b;train\r\n1;bmw/"
        "1.jpg;\"c;d\";test\r\n",
        "path,label,split\rbmw/0.jpg,\"a,b\",train\r,,\rbmw/1.jpg,c;d,test\r",
    };
    make_classes("lists", NAMED, 2, false);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct dml_dataset_options options = csv_options(texts[i]);
        struct dml_dataset dataset = data_open_ok(&options);
        data_check_part(&dataset.training, 1, 1);
        data_check_part(&dataset.testing, 1, 1);
        assert_string_equal(dataset.training.class_names[0], "a,b");
        assert_string_equal(dataset.testing.class_names[0], "c;d");
        dml_dataset_close(&dataset);
    }
}

static void csv_fails(const char *text, const char *first, const char *second) {
    struct dml_dataset_options options = csv_options(text);
    data_open_fails(&options, DML_ERROR_INPUT, first, second);
    assert_non_null(strstr(dml_error(), "mine.csv"));
}

static void test_bad_csv(void **state) {
    (void)state;
    make_classes("lists", NAMED, 2, false);
    csv_fails("path,lable,split\n", "line 1", "no column \"label\" (but \"lable\")");
    csv_fails("path,label,split\n", "lists no images", "");
    csv_fails("path,label,split\nbmw/0.jpg,a\n", "line 2: 2 fields", "the header has 3");
    csv_fails("path,label,split\nbmw/0.jpg,a,train,b\n", "line 2: 4 fields", "");
    csv_fails("path,label,split\n\nbmw/0.jpg,a,training\n", "line 3", "\"training\"");
    csv_fails("path,label,split\nbmw/0.jpg,\"a\nb\",train\nx.jpg,a,train\n", "line 4: x.jpg",
              "no such file");
    csv_fails("path,label,split\n/nowhere/x.jpg,a,train\n", "line 2: /nowhere/x.jpg", "no such");
    csv_fails("path,label,split\nbmw/0.jpg,,train\n", "line 2", "empty label");
    csv_fails("path,label,split\n,a,train\n", "line 2", "empty path");
    csv_fails("path,label,split\nbmw/0.jpg,\"a,train\n", "line 2", "not closed");
    csv_fails("path,label,split\nbmw/0.jpg,\"a\"\"", "line 2", "not closed");
    csv_fails("path,label,split\nbmw/0.jpg,\"a\"b,train\n", "line 2", "closing quote");
    csv_fails("path,label,split,is_query\nbmw/0.jpg,a,test,maybe\n", "line 2: is_query",
              "\"maybe\"");
    csv_fails("path,label,split,label\n", "line 1", "\"label\" is there twice");
    csv_fails("sep=;\npath;label;split\nbmw/0.jpg;;train\n", "line 3", "empty label");
    csv_fails("\xFF\xFEp", "is UTF-16 text", "");
    csv_fails("path,label,split\nbmw/0.jpg,a,\"tr\nain\"\n", "line 2: split is \"tr\\x0aain\"", "");
    struct dml_dataset_options options = data_options_of("cub200", scratch_path("%s", ""));
    options.dataset_csv = "/nowhere/x.csv";
    data_open_fails(&options, DML_ERROR_IO, "/nowhere/x.csv", "cannot be opened");
}

static void test_png_write(void **state) {
    (void)state;
    enum { WIDTH = 7, HEIGHT = 5 };
    uint8_t pixels[WIDTH * HEIGHT * 3];
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(i * 37);
    const char *path = scratch_path("sheet.png");
    assert_ok(dml_png_write(path, pixels, WIDTH, HEIGHT));
    struct dml_reader *reader;
    struct dml_pixels back = {.data = NULL};
    int width, height;
    assert_ok(dml_reader_new(&reader));
    assert_ok(dml_reader_open(reader, path, &width, &height));
    assert_int_equal(width, WIDTH);
    assert_int_equal(height, HEIGHT);
    assert_ok(dml_reader_decode(reader, (struct dml_rect){0, 0, WIDTH, HEIGHT}, &back));
    assert_memory_equal(back.data, pixels, sizeof pixels);
    dml_pixels_free(&back);
    dml_reader_free(reader);
    assert_int_equal(dml_png_write("/nowhere/x.png", pixels, WIDTH, HEIGHT), DML_ERROR_IO);
    assert_non_null(strstr(dml_error(), "/nowhere/x.png"));
    assert_int_equal(dml_png_write("/dev/full/x.png", pixels, WIDTH, HEIGHT), DML_ERROR_IO);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_numbered),
        TEST(test_named_and_roots),
        TEST(test_class_split),
        TEST(test_sample_split),
        TEST(test_online_products),
        TEST(test_bundled),
        TEST(test_missing),
        TEST(test_bad_images),
        TEST(test_tolerated),
        TEST(test_csv_of_excel),
        TEST(test_csv),
        TEST(test_bad_csv),
        TEST(test_png_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
