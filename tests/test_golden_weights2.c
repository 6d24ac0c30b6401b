#include "backends/network.h"
#include "nn/weights/weights.h"
#include "support/fill.h"
#include "support/networks.h"
#include "support/scratch.h"
#include "support/vit_case.h"

#include <math.h>
#include <stdarg.h>
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

/* Names that begin with `from` begin with `to` instead. */
static void rename_all(struct dml_tensors *tensors, const char *from, const char *to) {
    const size_t length = strlen(from);
    size_t changed = 0;
    for (size_t i = 0; i < tensors->count; i++) {
        struct dml_tensor *tensor = &tensors->items[i];
        if (strncmp(tensor->name, from, length) != 0)
            continue;
        size_t size = strlen(tensor->name) + strlen(to) + 1;
        char *name = malloc(size);
        assert_non_null(name);
        snprintf(name, size, "%s%s", to, tensor->name + length);
        free(tensor->name);
        tensor->name = name;
        changed++;
    }
    assert_true(changed > 0);
}

/* Features of the golden input at `size` pixels, against an array. With `from`, names in the file
 * are changed before. */
static void check_features(const struct vit_case *c, int size, const char *file,
                           const char *features, double tolerance, const char *from,
                           const char *to) {
    enum { N = 2 };
    struct dml_graph *graph = vit_case_graph(c, size);
    struct dml_network *network;
    const struct dml_network_options options = {.batch_hint = N};
    assert_ok(dml_network_open(&dml_backend_cpu, graph, &options, &network));
    struct dml_tensors tensors;
    assert_ok(dml_tensors_read(golden_path("weights2/%s", file), &tensors));
    if (from)
        rename_all(&tensors, from, to);
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
                       tolerance ? tolerance->valuedouble : 4e-6, NULL, NULL);
        check_missing(&c, size, file);
        if (strncmp(file, "vit_", 4) == 0 && golden_exists("weights2/vit_features_96.npy"))
            check_features(&c, 96, file, "vit_features_96.npy",
                           tolerance ? tolerance->valuedouble : 4e-6, NULL, NULL);
    }
    cJSON_Delete(cases);
}

/* Names that differ from those of a golden file in what they begin with. */
static void namings_of_the_same_files(void **state) {
    (void)state;
    static const struct {
        const char *file, *from, *to;
    } files[] = {
        {"dinov2_own.pth", "blocks.", "teacher.backbone.blocks.0."}, /* as DINOv2 trains */
        {"clip_hf.safetensors", "vision_model.", ""}, /* CLIP's tower alone, transformers 5 */
        {"clip_hf.safetensors", "vision_model.", "clip.vision_model."},
        {"vit_hf.safetensors", "vit.", "deit."},
    };
    cJSON *cases = golden_json("weights2/cases.json");
    const cJSON *entry;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        cJSON_ArrayForEach(entry, cJSON_GetObjectItem(cases, "files")) {
            if (strcmp(json_text(entry, "file"), files[i].file) != 0)
                continue;
            struct vit_case c = vit_case_read(family_of(cases, files[i].file));
            c.options.head.normalize = false;
            check_features(&c, c.vit.patch * (int)c.stored_grid, files[i].file,
                           json_text(entry, "features"), 4e-6, files[i].from, files[i].to);
        }
    cJSON_Delete(cases);
}

/* Loads a file of one family, where it is there, into a network of another setting. */
static void refused(const char *file, const struct vit_case *c, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void refused(const char *file, const struct vit_case *c, const char *format, ...) {
    char path[200], message[200];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    snprintf(path, sizeof path, "weights2/%s", file);
    if (!golden_exists(path))
        return;
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
    const struct vit_case vit = case_of(cases, "vit");
    const int width = vit.vit.width, depth = vit.vit.depth, patch = vit.vit.patch;
    struct vit_case c = vit;
    c.vit.width += 8 * vit.vit.heads;
    refused("vit_timm.safetensors", &c, "cls_token is (1, 1, %d) and not (1, 1, %d)", width,
            c.vit.width);
    c = vit;
    c.vit.depth = depth + 1;
    refused("vit_hf.safetensors", &c, "has %d blocks; vit has %d", depth, depth + 1);
    c.vit.depth = depth - 1;
    if (depth > 1)
        refused("vit_dino.pth", &c, "has %d blocks; vit has %d", depth, depth - 1);
    c = vit;
    c.vit.patch = patch / 2;
    refused("vit_timm.safetensors", &c, "patch_embed.proj.weight is (%d, 3, %d, %d)", width, patch,
            patch);
    c = vit;
    c.vit.distilled = true;
    refused("vit_timm.safetensors", &c, "position embeddings have %zu rows",
            vit.stored_grid * vit.stored_grid + 1);
    refused("dinov2_own.pth", &vit, "has blocks.0.ls1.gamma");
    refused("clip_hf.safetensors", &vit, "has norm_pre.weight");
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
    struct dml_graph *graph = vit_case_graph(&c, c.vit.patch * 4);
    struct dml_network *network;
    assert_ok(
        dml_network_open(&dml_backend_cpu, graph, &(struct dml_network_options){0}, &network));
    static const char *const files[] = {"clip_hf.safetensors", "clip_openai.pth",
                                        "clip_open_clip.safetensors"};
    for (size_t f = 0; f < 3; f++) {
        char path[200];
        snprintf(path, sizeof path, "weights2/%s", files[f]);
        if (!golden_exists(path))
            continue;
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
        cmocka_unit_test(namings_of_the_same_files),
        cmocka_unit_test(other_networks_are_refused),
        cmocka_unit_test(text_tower_is_refused),
        cmocka_unit_test(torchscript_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
