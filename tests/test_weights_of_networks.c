#include "nn/weights/safetensors.h"
#include "nn/weights/weights.h"
#include "support/fill.h"
#include "support/golden.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What a network would be: the values of every parameter. */
struct values {
    const struct dml_graph *graph;
    float **of;
    int given;
};

static struct values values_new(const struct dml_graph *graph, bool filled) {
    struct values values = {.graph = graph};
    values.of = calloc((size_t)graph->param_count, sizeof *values.of);
    for (int i = 0; i < graph->param_count; i++) {
        values.of[i] = calloc(graph->params[i].count, sizeof **values.of);
        if (filled)
            fill_param(&graph->params[i], values.of[i]);
    }
    return values;
}

static void values_free(struct values *values) {
    for (int i = 0; i < values->graph->param_count; i++)
        free(values->of[i]);
    free(values->of);
}

static enum dml_status get(void *data, int index, float *out) {
    const struct values *values = data;
    memcpy(out, values->of[index], values->graph->params[index].count * sizeof *out);
    return DML_OK;
}

static enum dml_status put(void *data, int index, const float *in) {
    struct values *values = data;
    memcpy(values->of[index], in, values->graph->params[index].count * sizeof *in);
    values->given++;
    return DML_OK;
}

static void collect(const char *arch, int embed_dim, struct dml_tensors *out) {
    struct dml_graph *graph;
    memset(out, 0, sizeof *out);
    assert_ok(dml_graph_build(arch, embed_dim, 0, &graph));
    struct values values = values_new(graph, true);
    assert_ok(dml_weights_collect(graph, get, &values, out));
    values_free(&values);
    dml_graph_free(graph);
}

static void rename_tensor(struct dml_tensors *tensors, const char *from, const char *to) {
    for (size_t i = 0; i < tensors->count; i++)
        if (strcmp(tensors->items[i].name, from) == 0) {
            free(tensors->items[i].name);
            tensors->items[i].name = strdup(to);
            return;
        }
    fail_msg("no %s", from);
}

/* With the head, everything comes back to the bit; the formats take turns. */
static void test_checkpoints_of_all_backbones(void **state) {
    (void)state;
    static const char *const paths[] = {DML_BINARY_DIR "/checkpoint.safetensors",
                                        DML_BINARY_DIR "/checkpoint.pth"};
    for (size_t a = 0; dml_backbone_at(a); a++) {
        struct dml_tensors tensors, loaded;
        struct dml_graph *graph;
        const char *arch = dml_backbone_at(a)->method.name, *path = paths[a % 2];
        collect(arch, 16, &tensors);
        assert_ok(dml_graph_build(arch, 16, 0, &graph));
        struct values read = values_new(graph, false);
        assert_ok(dml_tensors_write(path, &tensors));
        assert_ok(dml_tensors_read(path, &loaded));
        assert_ok(dml_weights_load(graph, &loaded, path, true, put, &read));
        assert_int_equal(read.given, graph->param_count);
        for (int i = 0; i < graph->param_count; i++) {
            const struct dml_tensor *expected = dml_tensors_find(&tensors, graph->params[i].name);
            assert_memory_equal(read.of[i], expected->data, expected->count * sizeof(float));
        }
        dml_tensors_free(&loaded);
        unlink(path);
        values_free(&read);
        dml_graph_free(graph);
        dml_tensors_free(&tensors);
    }
}

/* ImageNet's 1000 classes under either name of the last layer, a state dict of a wrapped network
 * and counters that are of no use. */
static void test_pretrained_files(void **state) {
    (void)state;
    struct dml_graph *graph;
    struct dml_tensors tensors;
    void *counter;
    collect("resnet18", 1000, &tensors);
    assert_ok(
        dml_tensors_add(&tensors, "bn1.num_batches_tracked", DML_DTYPE_I64, NULL, 0, &counter));
    rename_tensor(&tensors, "last_linear.weight", "fc.weight");
    rename_tensor(&tensors, "last_linear.bias", "fc.bias");
    rename_tensor(&tensors, "conv1.weight", "model.conv1.weight");
    assert_ok(dml_graph_build("resnet18_frozen_normalize", 128, 64, &graph));
    struct values read = values_new(graph, false);
    assert_ok(dml_weights_load(graph, &tensors, "imagenet.pth", false, put, &read));
    assert_int_equal(read.given, graph->param_count - 2);
    assert_true(read.of[0][0] != 0);
    /* The head of another size only where it is asked for. */
    assert_int_equal(dml_weights_load(graph, &tensors, "imagenet.pth", true, put, &read),
                     DML_ERROR_INPUT);
    assert_non_null(strstr(dml_error(), "last_linear.weight is (1000, 512) and not (128, 512)"));
    values_free(&read);
    dml_graph_free(graph);
    assert_ok(dml_graph_build("resnet18", 1000, 64, &graph));
    read = values_new(graph, false);
    assert_ok(dml_weights_load(graph, &tensors, "imagenet.pth", true, put, &read));
    assert_int_equal(read.given, graph->param_count);
    values_free(&read);
    dml_graph_free(graph);
    dml_tensors_free(&tensors);
}

static void refused(const char *arch, const struct dml_tensors *tensors, const char *reason) {
    struct dml_graph *graph;
    assert_ok(dml_graph_build(arch, 128, 0, &graph));
    struct values read = values_new(graph, false);
    assert_int_equal(dml_weights_load(graph, tensors, "w.pth", false, put, &read), DML_ERROR_INPUT);
    assert_int_equal(read.given, 0);
    if (!strstr(dml_error(), reason) || strncmp(dml_error(), "w.pth: ", 7) != 0 ||
        strchr(dml_error(), '\n'))
        fail_msg("%s", dml_error());
    values_free(&read);
    dml_graph_free(graph);
}

static void test_files_that_do_not_fit(void **state) {
    (void)state;
    struct dml_tensors tensors;
    collect("resnet18", 1000, &tensors);
    refused("resnet50_frozen", &tensors, "holds the weights of resnet18, not of resnet50_frozen");
    refused("bninception", &tensors, "holds the weights of resnet18, not of bninception");

    struct dml_tensors deeper; /* has all that a resnet50 needs */
    collect("resnet101", 8, &deeper);
    refused("resnet50", &deeper, "holds the weights of resnet101, not of resnet50");
    dml_tensors_free(&deeper);

    float *values = tensors.items[7].owned;
    float saved = values[3];
    values[3] = NAN;
    refused("resnet18", &tensors, "nan at element 3");
    assert_non_null(strstr(dml_error(), tensors.items[7].name));
    values[3] = saved;
    for (size_t i = 0; i < tensors.count; i++)
        if (strcmp(tensors.items[i].name, "layer4.1.bn2.running_var") == 0)
            ((float *)tensors.items[i].owned)[511] = -1;
    refused("resnet18", &tensors, "layer4.1.bn2.running_var has a negative variance");

    rename_tensor(&tensors, "layer4.1.bn2.running_var", "nobody");
    tensors.items[0].dims[1] = 1; /* a network for grey images */
    refused("resnet18", &tensors,
            "1 missing: layer4.1.bn2.running_var; 1 of another shape: "
            "conv1.weight is (64, 1, 7, 7) and not (64, 3, 7, 7)");
    dml_tensors_free(&tensors);
    memset(&tensors, 0, sizeof tensors);
    refused("resnet18", &tensors, "100 missing: conv1.weight, bn1.weight, ");
}

static void touch(const char *folder, const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_ok(dml_write_file(path, "x", 1));
}

static void found(const struct dml_backbone *backbone, const char *folder, const char *name) {
    char *path, expected[512];
    snprintf(expected, sizeof expected, "%s/%s", folder, name);
    assert_ok(dml_weights_find(backbone, "", &path));
    assert_string_equal(path, expected);
    unlink(path);
    free(path);
}

static void test_where_weights_are_looked_for(void **state) {
    (void)state;
    static const char home[] = DML_BINARY_DIR "/weights_home";
    static const char cache[] = DML_BINARY_DIR "/weights_home/.cache/dml";
    static const char chosen[] = DML_BINARY_DIR "/weights_chosen";
    const struct dml_backbone *resnet50 = dml_backbone_find("resnet50_frozen");
    char *path;
    assert_ok(dml_make_folders(cache));
    assert_ok(dml_make_folders(chosen));
    setenv("HOME", home, 1);
    unsetenv("DML_WEIGHTS");
    assert_ok(dml_weights_find(resnet50, chosen, &path));
    assert_string_equal(path, chosen);
    free(path);
    assert_int_equal(dml_weights_find(resnet50, "gone.pth", &path), DML_ERROR_INPUT);
    assert_non_null(strstr(dml_error(), "gone.pth"));
    touch(cache, "resnet50.pth");
    found(resnet50, cache, "resnet50.pth");
    touch(cache, "resnet50-19c8e357.pth");
    found(resnet50, cache, "resnet50-19c8e357.pth");
    touch(cache, "resnet50.tv_in1k.safetensors"); /* timm's name */
    found(resnet50, cache, "resnet50.tv_in1k.safetensors");
    setenv("DML_WEIGHTS", chosen, 1);
    touch(cache, "resnet50.pth");
    touch(chosen, "resnet50.safetensors");
    found(resnet50, chosen, "resnet50.safetensors");
    found(resnet50, cache, "resnet50.pth");
    assert_int_equal(dml_weights_find(resnet50, "", &path), DML_ERROR_INPUT);
    static const char *const told[] = {"resnet50.pth",
                                       chosen,
                                       cache,
                                       "--not_pretrained",
                                       "resnet50.tv_in1k.safetensors",
                                       "https://download.pytorch.org/models/resnet50-19c8e357.pth"};
    for (size_t i = 0; i < sizeof told / sizeof told[0]; i++)
        assert_non_null(strstr(dml_error(), told[i]));
    unsetenv("DML_WEIGHTS");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checkpoints_of_all_backbones),
        cmocka_unit_test(test_pretrained_files),
        cmocka_unit_test(test_files_that_do_not_fit),
        cmocka_unit_test(test_where_weights_are_looked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
