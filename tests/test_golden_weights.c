#include "nn/weights/tensors.h"
#include "support/golden.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char ENDING[] = ".npy";

/* `name` becomes that of the tensor of an array's file. */
static bool is_array(char *name) {
    size_t length = strlen(name), ending = sizeof ENDING - 1;
    if (length <= ending || strcmp(name + length - ending, ENDING) != 0)
        return false;
    name[length - ending] = 0;
    return true;
}

static void check_tensor(const struct dml_tensors *tensors, const char *name) {
    struct dml_npy npy;
    assert_ok(dml_npy_open(golden_path("weights/%s%s", name, ENDING), &npy));
    const struct dml_tensor *tensor = dml_tensors_find(tensors, name);
    assert_non_null(tensor);
    assert_int_equal(tensor->dim_count, npy.dim_count);
    for (int d = 0; d < npy.dim_count; d++)
        assert_int_equal(tensor->dims[d], npy.dims[d]);
    assert_int_equal(tensor->count, npy.count);
    float *values = malloc((tensor->count + 1) * sizeof *values);
    dml_tensor_floats(tensor, values);
    const double *wanted = npy.data;
    for (size_t k = 0; k < npy.count; k++)
        assert_true(values[k] == (float)wanted[k]);
    if (tensor->dtype == DML_DTYPE_F64)
        assert_memory_equal(tensor->data, wanted, npy.count * sizeof *wanted);
    free(values);
    dml_npy_close(&npy);
}

/* The file holds the tensors of all arrays, and each equals its array exactly: they are float64. */
static void check_file(const char *file) {
    struct dml_tensors tensors;
    assert_ok(dml_tensors_read(golden_path("weights/%s", file), &tensors));
    size_t count, arrays = 0;
    char **names = golden_names("weights", &count);
    for (size_t i = 0; i < count; i++)
        if (is_array(names[i])) {
            check_tensor(&tensors, names[i]);
            arrays++;
        }
    assert_int_equal(tensors.count, arrays);
    golden_free_names(names, count);
    dml_tensors_free(&tensors);
}

static void test_files_of_both_formats(void **state) {
    (void)state;
    check_file("zip.pth");
    check_file("legacy.pth");
    check_file("nested.pth");
}

static void test_state_dict_of_a_module(void **state) {
    (void)state;
    struct dml_tensors tensors;
    assert_ok(dml_tensors_read(golden_path("weights/module.pth"), &tensors));
    const struct dml_tensor *weight = dml_tensors_find(&tensors, "0.weight");
    assert_non_null(weight);
    assert_true(weight->count > 0 && weight->dim_count == 4);
    const struct dml_tensor *tracked = dml_tensors_find(&tensors, "1.num_batches_tracked");
    assert_non_null(tracked);
    assert_int_equal(tracked->dtype, DML_DTYPE_I64);
    dml_tensors_free(&tensors);
}

/* In one line that names the file and one of two reasons. */
static void refused(const char *file, const char *reason, const char *other) {
    struct dml_tensors tensors;
    assert_int_equal(dml_tensors_read(golden_path("weights/%s", file), &tensors), DML_ERROR_INPUT);
    assert_int_equal(tensors.count, 0);
    bool told = strstr(dml_error(), reason) || strstr(dml_error(), other);
    if (!told || !strstr(dml_error(), file) || strchr(dml_error(), '\n'))
        fail_msg("%s: %s", file, dml_error());
}

static void test_bad_files_are_refused(void **state) {
    (void)state;
    refused("truncated.pth", "cut short", "damaged");
    refused("not_a_checkpoint.pth", "damaged", "is neither");
    refused("evil_pickle.pth", "its pickle asks for", "posix.system");
    assert_int_not_equal(access("pickle_was_executed", F_OK), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files_of_both_formats),
        cmocka_unit_test(test_state_dict_of_a_module),
        cmocka_unit_test(test_bad_files_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
