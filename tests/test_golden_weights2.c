#include "backends/network.h"
#include "nn/weights/weights.h"
#include "support/fill.h"
#include "support/networks.h"
#include "support/scratch.h"
#include "support/vit_case.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

/* Files of tiny vision transformers in every naming that they are published in, golden/weights2:
 * all files of a family give the same features. */

/* The settings of a file: the object whose name it begins with, the longest one. */
static const cJSON *family_of(const cJSON *cases, const char *file) {
    const cJSON *entry, *best = NULL;
    cJSON_ArrayForEach(entry, cases) {
        size_t length = strlen(entry->string);
        if (cJSON_IsObject(entry) && strncmp(entry->string, file, length) == 0 &&
            (!best || length > strlen(best->string)))
            best = entry;
    }
    if (!best)
        fail_msg("%s is of no family", file);
    return best;
}

static enum dml_status load(struct dml_network *network, const struct dml_tensors *tensors,
                            const char *file) {
    return dml_network_load(network, tensors, file, false);
}

/* Features of the golden input at `size` pixels, against an array. */
static void check_features(const struct vit_case *c, int size, const char *file,
                           const char *features, double tolerance) {
    enum { N = 2 };
    struct dml_graph *graph = vit_case_graph(c, size);
    struct dml_network *network;
    const struct dml_network_options options = {.batch_hint = N};
    assert_ok(dml_network_open(&dml_backend_cpu, graph, &options, &network));
    struct dml_tensors tensors;
    assert_ok(dml_tensors_read(golden_path("weights2/%s", file), &tensors));
    assert_ok(load(network, &tensors, file));
    size_t count, pixels = N * 3 * (size_t)(size * size), dim = (size_t)graph->embed_dim;
    double *expected = golden_doubles(&count, "weights2/%s", features), error = 0;
    assert_int_equal(count, N * dim);
    float *input = malloc(pixels * sizeof *input), *made = malloc(N * dim * sizeof *made);
    assert_true(input && made);
    fill_signed("input", 2.0, input, pixels);
    const struct dml_images images = {.n = N, .height = size, .width = size, .input = input};
    assert_ok(dml_network_embed(network, &images, made));
    for (size_t i = 0; i < count; i++)
        error = fmax(error, fabs(made[i] - expected[i]));
    printf("%s at %d: %.2g\n", file, size, error);
    if (!(error <= tolerance))
        fail_msg("%s: features are off by %g", file, error);
    free(expected);
    free(input);
    free(made);
    dml_tensors_free(&tensors);
    dml_network_close(network);
}

/* That each tensor of the file that is not to be ignored is missed. */
static void check_missing(const struct vit_case *c, int size, const char *file) {
    struct dml_graph *graph = vit_case_graph(c, size);
    struct dml_network *network;
    const struct dml_network_options options = {.batch_hint = 2};
    assert_ok(dml_network_open(&dml_backend_cpu, graph, &options, &network));
    struct dml_tensors tensors;
    assert_ok(dml_tensors_read(golden_path("weights2/%s", file), &tensors));
    size_t refused = 0;
    for (size_t i = 0; i < tensors.count; i++) {
        char *name = tensors.items[i].name;
        char hidden[] = "something.else";
        tensors.items[i].name = hidden;
        enum dml_status status = load(network, &tensors, file);
        assert_true(!status || status == DML_ERROR_INPUT);
        assert_true(!status || (strstr(dml_error(), file) && !strchr(dml_error(), '\n')));
        refused += status != DML_OK;
        tensors.items[i].name = name;
    }
    /* Classifiers, text towers and the like are not missed. */
    assert_true(refused >= (size_t)graph->param_count);
    dml_tensors_free(&tensors);
    dml_network_close(network);
}

static void every_naming(void **state) {
    (void)state;
    cJSON *cases = golden_json("weights2/cases.json");
    const cJSON *entry, *files = cJSON_GetObjectItem(cases, "files");
    print_message("weights2: %d cases\n", cJSON_GetArraySize(files));
    assert_true(cJSON_GetArraySize(files) > 0);
    cJSON_ArrayForEach(entry, files) {
        const char *file = json_text(entry, "file");
        struct vit_case c = vit_case_read(family_of(cases, file));
        c.options.head.normalize = false; /* the features are as they come, some 4 long */
        const cJSON *tolerance = cJSON_GetObjectItem(entry, "tolerance");
        int size = c.vit.patch * (int)c.stored_grid;
        check_features(&c, size, file, json_text(entry, "features"),
                       tolerance ? tolerance->valuedouble : 4e-6);
        check_missing(&c, size, file);
        if (strncmp(file, "vit_", 4) == 0 && golden_exists("weights2/vit_features_96.npy"))
            check_features(&c, 96, file, "vit_features_96.npy", 4e-6);
    }
    cJSON_Delete(cases);
}

/* Loads a file of one family into a network of another setting. */
static void refused(const char *file, const struct vit_case *c, const char *message) {
    struct dml_graph *graph = vit_case_graph(c, c->vit.patch * 4);
    struct dml_network *network;
    const struct dml_network_options options = {.batch_hint = 2};
    assert_ok(dml_network_open(&dml_backend_cpu, graph, &options, &network));
    struct dml_tensors tensors;
    assert_ok(dml_tensors_read(golden_path("weights2/%s", file), &tensors));
    assert_int_equal(load(network, &tensors, file), DML_ERROR_INPUT);
    printf("%s\n", dml_error());
    if (!strstr(dml_error(), message) || !strstr(dml_error(), file) || strchr(dml_error(), '\n'))
        fail_msg("%s", dml_error());
    dml_tensors_free(&tensors);
    dml_network_close(network);
}

static struct vit_case case_of(const cJSON *cases, const char *family) {
    return vit_case_read(cJSON_GetObjectItem(cases, family));
}

static void other_networks_are_refused(void **state) {
    (void)state;
    cJSON *cases = golden_json("weights2/cases.json");
    struct vit_case c = case_of(cases, "vit");
    c.vit.width = 24;
    refused("vit_timm.safetensors", &c, "cls_token is (1, 1, 16) and not (1, 1, 24)");
    c = case_of(cases, "vit");
    c.vit.depth = 3;
    refused("vit_hf.safetensors", &c, "has 2 blocks; vit has 3");
    c.vit.depth = 1;
    refused("vit_dino.pth", &c, "has 2 blocks; vit has 1");
    c = case_of(cases, "vit");
    c.vit.patch = 8;
    refused("vit_timm.safetensors", &c, "patch_embed.proj.weight is (16, 3, 16, 16)");
    c = case_of(cases, "vit");
    c.vit.distilled = true;
    refused("vit_timm.safetensors", &c, "position embeddings have 17 rows");
    c = case_of(cases, "vit");
    refused("dinov2_own.pth", &c, "has blocks.0.ls1.gamma");
    refused("clip_hf.safetensors", &c, "has norm_pre.weight");
    c = case_of(cases, "dinov2");
    refused("dinov2_reg_own.pth", &c, "has reg_token");
    c = case_of(cases, "dinov2_reg");
    refused("dinov2_hf.safetensors", &c, "reg_token");
    cJSON_Delete(cases);
}

/* CLIP's file without its image tower. */
static void text_tower_is_refused(void **state) {
    (void)state;
    cJSON *cases = golden_json("weights2/cases.json");
    const struct vit_case c = case_of(cases, "clip");
    struct dml_graph *graph = vit_case_graph(&c, 64);
    struct dml_network *network;
    assert_ok(
        dml_network_open(&dml_backend_cpu, graph, &(struct dml_network_options){0}, &network));
    static const char *const files[] = {"clip_hf.safetensors", "clip_openai.pth",
                                        "clip_open_clip.safetensors"};
    for (size_t f = 0; f < 3; f++) {
        struct dml_tensors tensors, text = {0};
        assert_ok(dml_tensors_read(golden_path("weights2/%s", files[f]), &tensors));
        for (size_t i = 0; i < tensors.count; i++) {
            const struct dml_tensor *tensor = &tensors.items[i];
            if (strncmp(tensor->name, "vis", 3) != 0)
                assert_ok(dml_tensors_add_view(&text, tensor->name, tensor->dtype, tensor->dims,
                                               tensor->dim_count, tensor->data));
        }
        if (text.count) {
            assert_int_equal(load(network, &text, files[f]), DML_ERROR_INPUT);
            printf("%s\n", dml_error());
            assert_non_null(strstr(dml_error(), "text tower of CLIP alone"));
        }
        dml_tensors_free(&text);
        dml_tensors_free(&tensors);
    }
    dml_network_close(network);
    cJSON_Delete(cases);
}

/* What torch.jit.save writes: a zip archive with a program beside the tensors. */
static void torchscript_is_refused(void **state) {
    (void)state;
    scratch_open();
    const char *path = scratch_path("ViT-B-16.pt");
    static const char *const entries[] = {"ViT-B-16/data.pkl", "ViT-B-16/code/model.py",
                                          "ViT-B-16/constants.pkl"};
    int error;
    zip_t *zip = zip_open(path, ZIP_CREATE, &error);
    assert_non_null(zip);
    for (size_t i = 0; i < 3; i++) {
        zip_source_t *source = zip_source_buffer(zip, "\x80\x02}.", 4, 0);
        zip_int64_t index = zip_file_add(zip, entries[i], source, 0);
        assert_true(index >= 0);
        zip_set_file_compression(zip, (zip_uint64_t)index, ZIP_CM_STORE, 0);
    }
    assert_int_equal(zip_close(zip), 0);
    struct dml_tensors tensors;
    assert_int_equal(dml_tensors_read(path, &tensors), DML_ERROR_INPUT);
    printf("%s\n", dml_error());
    assert_non_null(strstr(dml_error(), "ViT-B-16.pt: is a TorchScript archive"));
    assert_null(strchr(dml_error(), '\n'));
    scratch_close();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_naming),
        cmocka_unit_test(other_networks_are_refused),
        cmocka_unit_test(text_tower_is_refused),
        cmocka_unit_test(torchscript_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
