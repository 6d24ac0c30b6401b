/* Data sets as they are when unpacked, and the tables of open-metric-learning. */
#include "base/memory.h"
#include "support/data_sets.h"
#include "support/scratch.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

static void make_image(const char *path) {
    scratch_jpeg(path, 20, 16, (unsigned)strlen(path));
}

/* <folder>/00001.jpg and so on, with that many digits. */
static void make_numbered(const char *folder, int digits, int first, int last) {
    for (int i = first; i <= last; i++) {
        char *path = dml_format("%s/%0*d.jpg", folder, digits, i);
        make_image(path);
        free(path);
    }
}

static struct dml_dataset_options options_here(const char *dataset) {
    return data_options_of(dataset, scratch_path("%s", ""));
}

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

static void check_image(const struct dml_part *part, size_t image, const char *class,
                        const char *path) {
    assert_true(image < part->images);
    assert_string_equal(part->class_names[part->labels[image]], class);
    if (!ends_with(part->paths[image], path))
        fail_msg("image %zu is %s, not %s", image, part->paths[image], path);
}

static void test_cub200(void **state) {
    (void)state;
    make_image("CUB_200_2011/images/002.Auk/Auk_9.jpg");
    make_image("CUB_200_2011/images/002.Auk/Auk_10.jpg");
    make_image("CUB_200_2011/images/001.Gull/a b.jpg");
    make_image("CUB_200_2011/images/001.Gull/not listed.jpg");
    scratch_text("CUB_200_2011/images.txt",
                 "1 002.Auk/Auk_9.jpg\n2 002.Auk/Auk_10.jpg\r\n3 001.Gull/a b.jpg\n");
    scratch_text("CUB_200_2011/image_class_labels.txt", "1 2\n2 2\n3 1\n");
    struct dml_dataset_options options = options_here("CUB_200_2011");
    struct dml_dataset dataset = data_open_ok(&options);
    assert_string_equal(dataset.layout, "cub200");
    data_check_part(&dataset.training, 1, 1);
    data_check_part(&dataset.testing, 1, 2);
    check_image(&dataset.training, 0, "001.Gull", "images/001.Gull/a b.jpg");
    check_image(&dataset.testing, 0, "002.Auk", "Auk_10.jpg"); /* by name, as folders are read */
    dml_dataset_close(&dataset);

    /* The folder that an archive leaves, in the data set's. */
    assert_ok(dml_make_folders(scratch_path("birds")));
    assert_int_equal(rename(scratch_path("CUB_200_2011"), scratch_path("birds/CUB_200_2011")), 0);
    options = options_here("birds");
    dataset = data_open_ok(&options);
    assert_string_equal(dataset.layout, "cub200");
    dml_dataset_close(&dataset);

    scratch_text("birds/CUB_200_2011/image_class_labels.txt", "1 2\n2 2\n");
    data_open_fails(&options, DML_ERROR_INPUT, "image_class_labels.txt", "no label of image 3");
    scratch_text("birds/CUB_200_2011/image_class_labels.txt", "1 2\n2 2\n3 1\n4 1\n");
    data_open_fails(&options, DML_ERROR_INPUT, "line 4", "no image 4");
    scratch_text("birds/CUB_200_2011/image_class_labels.txt", "1 2\ntwo 2\n");
    data_open_fails(&options, DML_ERROR_INPUT, "line 2", "image_id class_id");
    scratch_text("birds/CUB_200_2011/images.txt", "1 002.Auk/gone.jpg\n");
    data_open_fails(&options, DML_ERROR_INPUT, "images.txt: line 1: 002.Auk/gone.jpg", "no such");
}

static void test_online_products(void **state) {
    (void)state;
    static const char header[] = "image_id class_id super_class_id path\n";
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 2; k++) {
            char *path = dml_format("Stanford_Online_Products/sofa_final/%d_%d.JPG", i, k);
            make_image(path);
            free(path);
        }
    for (int with = 1; with >= 0; with--) { /* some copies lack the header */
        char *train = dml_format("%s1 1 1 sofa_final/0_0.JPG\n2 1 1 sofa_final/0_1.JPG\n"
                                 "3 2 1 sofa_final/1_0.JPG\n4 2 1 sofa_final/1_1.JPG\n",
                                 with ? header : "");
        char *test = dml_format("\xEF\xBB\xBF%s5 3 1 sofa_final/2_0.JPG\r\n"
                                "6 3 1 sofa_final/2_1.JPG\r\n7 4 1 sofa_final/3_0.JPG\r\n",
                                with ? header : "");
        scratch_text("Stanford_Online_Products/Ebay_train.txt", train);
        scratch_text("Stanford_Online_Products/Ebay_test.txt", test);
        struct dml_dataset_options all[] = {
            options_here("Stanford_Online_Products"),
            data_options_of("anything", scratch_path("Stanford_Online_Products")),
        };
        for (size_t i = 0; i < 2; i++) {
            struct dml_dataset dataset = data_open_ok(&all[i]);
            assert_string_equal(dataset.layout, "online_products");
            data_check_part(&dataset.training, 2, 4);
            data_check_part(&dataset.testing, 2, 3);
            check_image(&dataset.training, 0, "1", "sofa_final/0_0.JPG");
            check_image(&dataset.testing, 0, "3", "sofa_final/2_0.JPG");
            dml_dataset_close(&dataset);
        }
        free(train);
        free(test);
    }
    struct dml_dataset_options options = options_here("Stanford_Online_Products");
    scratch_text("Stanford_Online_Products/Ebay_test.txt", "5 2 1 sofa_final/2_0.JPG\n");
    data_open_fails(&options, DML_ERROR_INPUT, "class \"2\"", "training and testing");
    unlink(scratch_path("Stanford_Online_Products/Ebay_test.txt"));
    data_open_fails(&options, DML_ERROR_IO, "Ebay_test.txt", "No such file");
}

static void test_in_shop(void **state) {
    (void)state;
    static const char *const images[] = {"a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg", "b/3.jpg"};
    for (int i = 0; i < 5; i++) {
        char *path = dml_format("inshop/Img/img/WOMEN/%s", images[i]);
        make_image(path);
        free(path);
    }
    scratch_text("inshop/Eval/list_eval_partition.txt",
                 "5\nimage_name item_id evaluation_status\n"
                 "img/WOMEN/a/1.jpg   id_001  train\nimg/WOMEN/a/2.jpg   id_001  train\n"
                 "img/WOMEN/b/1.jpg   id_002  query\nimg/WOMEN/b/2.jpg   id_002  gallery\n"
                 "img/WOMEN/b/3.jpg   id_002  gallery\n");
    struct dml_dataset_options options = options_here("inshop");
    struct dml_dataset dataset = data_open_ok(&options);
    assert_string_equal(dataset.layout, "in_shop");
    data_check_part(&dataset.training, 1, 2);
    data_check_part(&dataset.testing, 1, 3);
    static const uint8_t query[] = {1, 0, 0}, gallery[] = {0, 1, 1};
    assert_null(dataset.training.is_query);
    assert_memory_equal(dataset.testing.is_query, query, 3);
    assert_memory_equal(dataset.testing.is_gallery, gallery, 3);
    dml_dataset_close(&dataset);
    scratch_text("inshop/Eval/list_eval_partition.txt", "2\nimage_name item_id evaluation_status\n"
                                                        "img/WOMEN/a/1.jpg id_001 train\n");
    data_open_fails(&options, DML_ERROR_INPUT, "list_eval_partition.txt", "lists 1 images");
    scratch_text("inshop/Eval/list_eval_partition.txt", "img/WOMEN/a/1.jpg id_001 trian\n");
    data_open_fails(&options, DML_ERROR_INPUT, "line 1", "train|query|gallery");
    unlink(scratch_path("inshop/Eval/list_eval_partition.txt"));
    assert_int_equal(rename(scratch_path("inshop/Img/img"), scratch_path("inshop/img")), 0);
    data_open_fails(&options, DML_ERROR_INPUT, "inshop", "has no list_eval_partition.txt");
}

static void test_inaturalist(void **state) {
    (void)state;
    make_image("inat/train_val2018/Aves/7/a.jpg");
    make_image("inat/train_val2018/Aves/7/b.jpg");
    make_image("inat/train_val2018/Fungi/7/a.jpg");
    make_image("inat/train_val2018/Fungi/9/a.jpg");
    scratch_text("inat/Inat_dataset_splits/Inaturalist_train_set1.txt",
                 "train_val2018/Aves/7/b.jpg\ntrain_val2018/Aves/7/a.jpg\n"
                 "train_val2018/Fungi/7/a.jpg\n");
    scratch_text("inat/Inat_dataset_splits/Inaturalist_test_set1.txt",
                 "train_val2018/Fungi/9/a.jpg\n");
    struct dml_dataset_options options = options_here("inat");
    struct dml_dataset dataset = data_open_ok(&options);
    assert_string_equal(dataset.layout, "inaturalist");
    data_check_part(&dataset.training, 2, 3);
    data_check_part(&dataset.testing, 1, 1);
    check_image(&dataset.training, 0, "Aves/7", "7/b.jpg");
    check_image(&dataset.training, 2, "Fungi/7", "7/a.jpg");
    dml_dataset_close(&dataset);
    scratch_text("inat/Inat_dataset_splits/Inaturalist_test_set1.txt", "a.jpg\n");
    data_open_fails(&options, DML_ERROR_INPUT, "test_set1.txt: line 1", "class's folder");
    unlink(scratch_path("inat/Inat_dataset_splits/Inaturalist_test_set1.txt"));
    data_open_fails(&options, DML_ERROR_INPUT, "inat", "has no Inaturalist_test_set1.txt");
}

static void test_vehicle_id(void **state) {
    (void)state;
    static const char *const lists[] = {"800", "1600", "2400"};
    make_numbered("VehicleID/image", 7, 1, 5);
    scratch_text("VehicleID/train_test_split/train_list.txt", "0000001 11\n0000002 11\n");
    scratch_text("VehicleID/train_test_split/test_list_800.txt", "0000003 12\n");
    scratch_text("VehicleID/train_test_split/test_list_1600.txt", "0000003 12\n0000004 13\n");
    scratch_text("VehicleID/train_test_split/test_list_2400.txt",
                 "0000003 12\n0000004 13\n0000005 14\n");
    struct dml_dataset_options options = options_here("VehicleID");
    for (size_t i = 0; i < 3; i++) {
        options.test_list = (enum dml_test_list)i;
        struct dml_dataset dataset = data_open_ok(&options);
        assert_string_equal(dataset.layout, "vehicle_id");
        data_check_part(&dataset.training, 1, 2);
        data_check_part(&dataset.testing, i + 1, i + 1);
        check_image(&dataset.testing, i, i == 0 ? "12" : i == 1 ? "13" : "14", ".jpg");
        dml_dataset_close(&dataset);
        unlink(scratch_path("VehicleID/train_test_split/test_list_%s.txt", lists[i]));
        data_open_fails(&options, DML_ERROR_IO, lists[i], "cannot be opened");
    }
}

static void test_split_folders(void **state) {
    (void)state;
    make_image("parts/train/a/1.jpg");
    make_image("parts/train/b/1.jpg");
    make_image("parts/val/c/1.jpg");
    struct dml_dataset_options options = options_here("parts");
    struct dml_dataset dataset = data_open_ok(&options); /* val in the place of test */
    assert_string_equal(dataset.layout, "split_folders");
    data_check_part(&dataset.training, 2, 2);
    data_check_part(&dataset.testing, 1, 1);
    data_check_part(&dataset.validation, 0, 0);
    dml_dataset_close(&dataset);
    make_image("parts/test/d/1.jpg");
    dataset = data_open_ok(&options);
    data_check_part(&dataset.validation, 1, 1);
    check_image(&dataset.testing, 0, "d", "test/d/1.jpg");
    dml_dataset_close(&dataset);
}

/* Folders that a link makes appear twice, and parts that are no classes. */
static void test_folders(void **state) {
    (void)state;
    make_image("set/images/a/1.jpg");
    make_image("set/images/b/1.jpg");
    struct dml_dataset_options options = options_here("set");
    assert_int_equal(symlink("a", scratch_path("set/images/c")), 0);
    data_open_fails(&options, DML_ERROR_INPUT, "images/c", "same folder");
    unlink(scratch_path("set/images/c"));
    assert_int_equal(symlink(".", scratch_path("set/images/c")), 0);
    data_open_fails(&options, DML_ERROR_INPUT, "images", "same folder");
    unlink(scratch_path("set/images/c"));
    /* What systems leave in folders is no class and no image. */
    make_image("set/images/__MACOSX/a/._1.jpg");
    make_image("set/images/@eaDir/1.jpg");
    scratch_text("set/images/a/Thumbs.db", "x");
    scratch_text("set/images/b/.DS_Store", "x");
    struct dml_dataset dataset = data_open_ok(&options);
    data_check_part(&dataset.training, 1, 1);
    data_check_part(&dataset.testing, 1, 1);
    dml_dataset_close(&dataset);
    make_image("both/images/cars_train/1.jpg");
    make_image("both/images/cars_test/1.jpg");
    options = options_here("both");
    data_open_fails(&options, DML_ERROR_INPUT, "cars_test and cars_train", "not classes");
    /* Among many classes such names are classes. */
    for (int i = 0; i < 7; i++) {
        char *path = dml_format("both/images/%d.bus/1.jpg", i);
        make_image(path);
        free(path);
    }
    dataset = data_open_ok(&options);
    data_check_part(&dataset.training, 4, 4);
    data_check_part(&dataset.testing, 5, 5);
    dml_dataset_close(&dataset);
}

/* --- .mat files --- */

struct bytes {
    unsigned char data[4096];
    size_t size;
};

static void put(struct bytes *out, const void *data, size_t size) {
    assert_true(out->size + size + 8 < sizeof out->data);
    memcpy(out->data + out->size, data, size);
    out->size += size;
}

static void put_element(struct bytes *out, unsigned type, const void *data, unsigned size) {
    static const unsigned char padding[8];
    unsigned tag[2] = {type, size};
    if (size > 0 && size <= 4) { /* the short form */
        tag[0] |= size << 16;
        tag[1] = 0;
        memcpy(&tag[1], data, size);
        put(out, tag, 8);
        return;
    }
    put(out, tag, 8);
    put(out, data, size);
    put(out, padding, (8 - size % 8) % 8);
}

static void put_matrix_head(struct bytes *out, unsigned kind, int rows, int columns,
                            const char *name) {
    const unsigned flags[2] = {kind, 0};
    const int sizes[2] = {rows, columns};
    put_element(out, 6, flags, 8);
    put_element(out, 5, sizes, 8);
    put_element(out, 1, name, (unsigned)strlen(name));
}

static void put_text(struct bytes *out, const char *text) {
    struct bytes matrix = {.size = 0};
    unsigned short wide[64];
    size_t length = strlen(text);
    for (size_t i = 0; i < length; i++)
        wide[i] = (unsigned char)text[i];
    put_matrix_head(&matrix, 4, 1, (int)length, "");
    put_element(&matrix, 4, wide, (unsigned)length * 2);
    put_element(out, 14, matrix.data, (unsigned)matrix.size);
}

static void put_number(struct bytes *out, unsigned char number) {
    struct bytes matrix = {.size = 0};
    put_matrix_head(&matrix, 6, 1, 1, "");
    put_element(&matrix, 2, &number, 1);
    put_element(out, 14, matrix.data, (unsigned)matrix.size);
}

/* Annotations of images "00001.jpg" and so on, of the classes given; 0: without classes. */
static void write_mat(const char *path, const char *name_field, const char *folder, int count,
                      const unsigned char *classes, bool compressed) {
    struct bytes matrix = {.size = 0}, whole = {.size = 0}, file = {.size = 0};
    char names[2][20] = {"", "class"}, header[128];
    const int length = sizeof names[0];
    snprintf(names[0], sizeof names[0], "%s", name_field);
    put_matrix_head(&matrix, 2, 1, count, "annotations");
    put_element(&matrix, 5, &length, 4);
    put_element(&matrix, 1, names, sizeof names[0] * (classes ? 2 : 1));
    for (int i = 0; i < count; i++) {
        char image[64];
        snprintf(image, sizeof image, "%s%05d.jpg", folder, i + 1);
        put_text(&matrix, image);
        if (classes)
            put_number(&matrix, classes[i]);
    }
    memset(header, ' ', sizeof header);
    memcpy(header, "MATLAB 5.0 MAT-file", 19);
    memcpy(header + 124, "\0\1IM", 4);
    put(&file, header, sizeof header);
    put_number(&file, 7); /* another variable */
    put_element(&whole, 14, matrix.data, (unsigned)matrix.size);
    if (compressed) {
        struct bytes small = {.size = 0};
        uLongf size = sizeof small.data;
        assert_int_equal(compress(small.data, &size, whole.data, whole.size), Z_OK);
        const unsigned tag[2] = {15, (unsigned)size};
        put(&file, tag, 8);
        put(&file, small.data, size);
    } else {
        put(&file, whole.data, whole.size);
    }
    scratch_write(path, file.data, file.size);
}

static void test_cars196(void **state) {
    (void)state;
    static const unsigned char train[] = {1, 10, 2}, test[] = {1, 2};
    struct dml_dataset_options options = options_here("cars196");
    make_numbered("cars196/cars_train", 5, 1, 3);
    make_numbered("cars196/cars_test", 5, 1, 2);
    data_open_fails(&options, DML_ERROR_INPUT, "classes of its images are missing",
                    "cars_train_annos.mat");
    for (int compressed = 0; compressed < 2; compressed++) {
        write_mat("cars196/devkit/cars_train_annos.mat", "fname", "", 3, train, compressed);
        write_mat("cars196/cars_test_annos_withlabels.mat", "fname", "", 2, test, compressed);
        struct dml_dataset dataset = data_open_ok(&options);
        assert_string_equal(dataset.layout, "cars196");
        data_check_part(&dataset.training, 1, 2);
        data_check_part(&dataset.testing, 2, 3);
        check_image(&dataset.training, 0, "1", "cars_train/00001.jpg");
        check_image(&dataset.training, 1, "1", "cars_test/00001.jpg");
        check_image(&dataset.testing, 2, "10", "cars_train/00002.jpg");
        dml_dataset_close(&dataset);
    }
    write_mat("cars196/cars_test_annos_withlabels.mat", "fname", "", 3, train, true);
    data_open_fails(&options, DML_ERROR_INPUT, "annotation 3: 00003.jpg", "no such file");
    write_mat("cars196/cars_test_annos_withlabels.mat", "fname", "", 2, NULL, true);
    data_open_fails(&options, DML_ERROR_INPUT, "has no classes", "withlabels");
    unlink(scratch_path("cars196/cars_test_annos_withlabels.mat"));
    data_open_fails(&options, DML_ERROR_INPUT, "missing", "cars_test_annos_withlabels.mat");

    /* All in one folder. */
    make_image("all/car_ims/00001.jpg");
    make_image("all/car_ims/00002.jpg");
    write_mat("all/cars_annos.mat", "relative_im_path", "car_ims/", 2, train, true);
    options = options_here("all");
    struct dml_dataset dataset = data_open_ok(&options);
    data_check_part(&dataset.training, 1, 1);
    check_image(&dataset.testing, 0, "10", "car_ims/00002.jpg");
    dml_dataset_close(&dataset);
}

/* However a .mat file is cut or changed, it is refused or read, and nothing is read beyond it. */
static void test_broken_mat(void **state) {
    (void)state;
    static const unsigned char train[] = {1, 10};
    struct dml_dataset_options options = options_here("all");
    struct dml_dataset dataset;
    char *data;
    size_t size;
    make_image("all/car_ims/00001.jpg");
    make_image("all/car_ims/00002.jpg");
    write_mat("all/cars_annos.mat", "relative_im_path", "car_ims/", 2, train, false);
    assert_ok(dml_read_file(scratch_path("all/cars_annos.mat"), &data, &size));
    for (size_t cut = 0; cut < size; cut += 7) {
        scratch_write("all/cars_annos.mat", data, cut);
        assert_int_equal(dml_dataset_open(&options, 0, &dataset), DML_ERROR_INPUT);
    }
    for (size_t at = 124; at < size; at++)
        for (int bit = 0; bit < 8; bit += 3) {
            data[at] ^= (char)(1 << bit);
            scratch_write("all/cars_annos.mat", data, size);
            if (dml_dataset_open(&options, 0, &dataset) == DML_OK)
                dml_dataset_close(&dataset);
            data[at] ^= (char)(1 << bit);
        }
    free(data);
}

/* --- tables --- */

static struct dml_dataset_options table_options(const char *text) {
    struct dml_dataset_options options = options_here("mine");
    options.dataset_csv = (char *)scratch_text("mine/table.csv", text);
    return options;
}

/* As pandas writes it, with an index, and gaps that make whole numbers fractions. */
static void test_table_of_pandas(void **state) {
    (void)state;
    make_numbered("mine/im", 1, 0, 3);
    struct dml_dataset_options options =
        table_options(",label,path,split,is_query,is_gallery,x_1,x_2,y_1,y_2,category\n"
                      "0,0.0,im/0.jpg,train,,,,,,,shoe\n"
                      "1,0,im/1.jpg,train,False,False,,,,,shoe\n"
                      "2,2.0,im/2.jpg,validation,1.0,0.0,3.0,10.0,2.0,16.0,shoe\n"
                      "3,2.0,im/3.jpg,validation,False,True,,,,,shoe\n");
    struct dml_dataset dataset = data_open_ok(&options);
    assert_string_equal(dataset.layout, "table");
    data_check_part(&dataset.training, 1, 2);
    data_check_part(&dataset.testing, 1, 2);
    data_check_part(&dataset.validation, 0, 0);
    assert_string_equal(dataset.training.class_names[0], "0");
    static const uint8_t query[] = {1, 0}, gallery[] = {0, 1};
    static const struct dml_rect boxes[] = {{3, 2, 7, 14}, {0, 0, 0, 0}};
    assert_null(dataset.training.is_query);
    assert_memory_equal(dataset.testing.is_query, query, 2);
    assert_memory_equal(dataset.testing.is_gallery, gallery, 2);
    assert_null(dataset.training.boxes);
    assert_memory_equal(dataset.testing.boxes, boxes, sizeof boxes);
    dml_dataset_close(&dataset);

    /* Names of classes that only look like numbers stay. */
    options = table_options("path,label,split\nim/0.jpg,1.0,train\nim/1.jpg,1.5,train\n");
    dataset = data_open_ok(&options);
    assert_string_equal(dataset.training.class_names[0], "1.0");
    dml_dataset_close(&dataset);
}

static void table_fails(const char *row, const char *first, const char *second) {
    char *text = dml_format("path,label,split,is_query,x_1,x_2,y_1,y_2\n%s\n", row);
    struct dml_dataset_options options = table_options(text);
    data_open_fails(&options, DML_ERROR_INPUT, first, second);
    free(text);
}

static void test_bad_tables(void **state) {
    (void)state;
    make_image("mine/0.jpg");
    scratch_text("mine/secret.txt", "not an image");
    table_fails("0.jpg,a,train,0.5,,,,", "line 2: is_query", "\"0.5\"");
    table_fails("0.jpg,a,train,,1,2,3,", "line 2", "a box needs all");
    table_fails("0.jpg,a,train,,2,1,3,4", "line 2", "has no pixels");
    table_fails("0.jpg,a,train,,-1,1,3,4", "line 2: x_1", "\"-1\"");
    table_fails("0.jpg,a,train,,0,1.5,3,4", "line 2: x_2", "\"1.5\"");
    table_fails("0.jpg,a,train,,0,1e30,3,4", "line 2: x_2", "\"1e30\"");
    table_fails("0.jpg,a,train,,0,21,0,16", "0.jpg: the box from 0,0 to 21,16", "20 x 16");
    table_fails("secret.txt,a,train,,,,,", "secret.txt", "neither a JPEG nor a PNG");
    struct dml_dataset_options options = table_options("0.jpg,a,train\n");
    data_open_fails(&options, DML_ERROR_INPUT, "line 1: no column \"path\"", "are needed");
}

/* A box's pixels are those of the picture that is cut out. */
static void test_box(void **state) {
    (void)state;
    const char *path = scratch_jpeg("box.jpg", 80, 60, 5);
    const struct dml_rect box = {13, 7, 40, 30}, all = {0, 0, 80, 60}, inner = {5, 6, 20, 10};
    struct dml_pixels whole = {.data = NULL}, part = {.data = NULL};
    struct dml_reader *reader;
    int width, height;
    assert_ok(dml_reader_new(&reader));
    assert_ok(dml_reader_open(reader, path, &width, &height));
    assert_ok(dml_reader_decode(reader, all, &whole));
    assert_ok(dml_reader_open_box(reader, path, &box, &width, &height));
    assert_int_equal(width, 40);
    assert_int_equal(height, 30);
    assert_ok(dml_reader_decode(reader, inner, &part));
    for (int y = 0; y < inner.height; y++)
        assert_memory_equal(part.data + (size_t)(inner.top + y - part.rect.top) * part.stride +
                                (size_t)(inner.left - part.rect.left) * 3,
                            whole.data + (size_t)(box.top + inner.top + y) * whole.stride +
                                (size_t)(box.left + inner.left) * 3,
                            (size_t)inner.width * 3);
    dml_pixels_free(&whole);
    dml_pixels_free(&part);
    dml_reader_free(reader);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_cub200),          TEST(test_online_products), TEST(test_in_shop),
        TEST(test_inaturalist),     TEST(test_vehicle_id),      TEST(test_split_folders),
        TEST(test_folders),         TEST(test_cars196),         TEST(test_broken_mat),
        TEST(test_table_of_pandas), TEST(test_bad_tables),      TEST(test_box),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
