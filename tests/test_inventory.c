#include "base/memory.h"
#include "data/inventory.h"
#include "support/golden.h"
#include "support/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *root;

static int make_data(void **state) {
    (void)state;
    scratch_open();
    for (int c = 0; c < 4; c++)
        for (int i = 0; i < 3; i++) {
            char name[64];
            snprintf(name, sizeof name, "data/birds/images/class%d/image%d.jpg", c, i);
            scratch_jpeg(name, 20 + c, 20 + i, (unsigned)(c * 3 + i));
        }
    root = dml_strdup(scratch_path("data"));
    return root ? 0 : -1;
}

static int remove_data(void **state) {
    (void)state;
    free(root);
    scratch_close();
    return 0;
}

static char *inventory(void) {
    struct dml_params *params;
    struct dml_dataset dataset;
    char *text, *flags = dml_format("--dataset birds --source_path %s", root);
    assert_ok(dml_params_new(&params));
    assert_ok(dml_params_add(params, &dml_dataset_params));
    assert_ok(dml_params_parse_text(params, flags));
    assert_ok(dml_dataset_open(dml_params_options(params, &dml_dataset_params), 1, &dataset));
    assert_ok(dml_inventory_make(&dataset, &text));
    dml_dataset_close(&dataset);
    dml_params_free(params);
    free(flags);
    return text;
}

/* What is said of the change from `before` to now. */
static void expect(const char *before, const char *changes) {
    char *now = inventory(), *found;
    assert_ok(dml_inventory_compare(before, now, &found));
    if (changes)
        assert_string_equal(found, changes);
    else
        assert_null(found);
    free(found);
    free(now);
}

static void move(const char *from, const char *to) {
    char *a = dml_format("%s/birds/images/%s", root, from);
    char *b = dml_format("%s/birds/images/%s", root, to);
    assert_int_equal(rename(a, b), 0);
    free(a);
    free(b);
}

static void test_what_changed_is_told(void **state) {
    (void)state;
    char *before = inventory();
    expect(before, NULL);
    move("class1", "aaa");
    expect(before, "training class 'aaa' is new (3 images); "
                   "training class 'class1' is gone (3 images)");
    move("aaa", "class1");
    expect(before, NULL);
    move("class1/image0.jpg", "class1/other.jpg");
    expect(before, "training class 'class1' has images with other names or sizes");
    move("class1/other.jpg", "class0/other.jpg");
    expect(before, "training class 'class0' has 4 images where it had 3; "
                   "training class 'class1' has 2 images where it had 3");
    move("class0/other.jpg", "class1/image0.jpg");
    scratch_jpeg("data/birds/images/class3/image1.jpg", 40, 40, 1);
    expect(before, "testing class 'class3' has images with other names or sizes");
    free(before);
}

static void test_long_lists_are_cut(void **state) {
    (void)state;
    char *changes;
    assert_ok(dml_inventory_compare("training 1 0 a\ntraining 1 0 b\n",
                                    "training 1 0 b\ntraining 1 0 a\n", &changes));
    assert_string_equal(changes, "the classes have another order");
    free(changes);
    assert_ok(dml_inventory_compare("training 1 0 a\n",
                                    "training 1 0 b\ntraining 1 0 c\ntraining 1 0 d\n"
                                    "training 1 0 e f\ntraining 1 0 \ntesting 2 0 a\n",
                                    &changes));
    assert_non_null(strstr(changes, "training class 'a' is gone"));
    assert_non_null(strstr(changes, "; and 2 more"));
    free(changes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_changed_is_told, make_data, remove_data),
        cmocka_unit_test(test_long_lists_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
