/* Poolings and heads of convolutional backbones against golden/architectures2, which says in every
 * case's own file what it is. */
#include "support/golden_network.h"
#include "support/networks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *text(const cJSON *of, const char *name) {
    const cJSON *item = cJSON_GetObjectItem(of, name);
    if (!cJSON_IsString(item))
        fail_msg("case.json has no %s", name);
    return item->valuestring;
}

static int number(const cJSON *of, const char *name) {
    const cJSON *item = cJSON_GetObjectItem(of, name);
    if (!cJSON_IsNumber(item))
        fail_msg("case.json has no %s", name);
    return item->valueint;
}

static bool is_true(const cJSON *of, const char *name) {
    return cJSON_IsTrue(cJSON_GetObjectItem(of, name));
}

static bool frozen(const cJSON *settings) {
    return strcmp(text(settings, "batchnorm"), "frozen") == 0;
}

/* The option of --arch for what the case calls `name`. */
static const char *option(const cJSON *settings, const char *name, const char *const (*of)[2]) {
    const char *value = text(settings, name);
    for (int i = 0; of[i][0]; i++)
        if (strcmp(value, of[i][0]) == 0)
            return of[i][1];
    fail_msg("case.json: unknown %s '%s'", name, value);
    return NULL;
}

/* The case as --arch. */
static void arch_of(const cJSON *settings, char *out, size_t size) {
    static const char *const pools[][2] = {
        {"avg", "_avg"}, {"max", "_max"}, {"avgmax", "_double"}, {"gem", "_gem"}, {NULL, NULL}};
    static const char *const norms[][2] = {
        {"none", ""}, {"affine", "_layernorm"}, {"plain", "_plainnorm"}, {NULL, NULL}};
    snprintf(out, size, "%s%s%s%s%s%s", text(settings, "arch"), frozen(settings) ? "_frozen" : "",
             is_true(settings, "batchnorm_affine_frozen") ? "_affine" : "",
             is_true(settings, "normalize") ? "_normalize" : "", option(settings, "pool", pools),
             option(settings, "head_norm", norms));
}

/* What learns is exactly what has a gradient in the golden file. */
static void check_what_learns(const struct dml_graph *graph, const cJSON *norms) {
    for (int p = 0; p < graph->param_count; p++) {
        const struct dml_graph_param *param = &graph->params[p];
        bool learns = dml_param_learnable(param) && !param->fixed;
        if (learns != (cJSON_GetObjectItem(norms, param->name) != NULL))
            fail_msg("%s %s", param->name, learns ? "learns" : "does not learn");
    }
}

/* Forward, backward and inference of a case within tolerances: of a component of the embeddings,
 * and of gradient norms; in bfloat16 all of these as one vector. */
static void check(const char *name, const cJSON *settings, struct how how, double component,
                  double norms) {
    struct golden_case run;
    char arch[128];
    const double cosine = component;
    arch_of(settings, arch, sizeof arch);
    golden_case_open(&run, arch, number(settings, "embed_dim"), number(settings, "size"),
                     (size_t)number(settings, "batch"), how);
    const cJSON *expected_norms = cJSON_GetObjectItem(settings, "grad_norms");
    cJSON *names = golden_json("architectures2/%s/state_dict.json", name);
    golden_check_names(run.graph, names);
    check_what_learns(run.graph, expected_norms);
    size_t count;
    double *expected = golden_doubles(&count, "architectures2/%s/embeddings.npy", name);
    assert_int_equal(count, run.batch * run.dim);
    struct dml_images images = golden_case_images(&run);
    struct errors errors[2];
    assert_ok(dml_network_forward(run.network, &images, run.embeddings));
    errors[0] = golden_embedding_errors(&run, expected);
    golden_case_backward(&run);
    double off = how.precision == DML_PRECISION_BF16
                     ? golden_norms_error(&run, expected_norms)
                     : golden_check_norms(&run, expected_norms, norms);
    assert_ok(dml_network_embed(run.network, &images, run.embeddings));
    errors[1] = golden_embedding_errors(&run, expected);
    /* Embeddings that are not normalised may be large: PyTorch tells how far off it is. */
    const cJSON *pytorchs = cJSON_GetObjectItem(
        settings, how.precision == DML_PRECISION_BF16 ? "bfloat16_autocast" : "float32");
    const cJSON *off_by = cJSON_GetObjectItem(pytorchs, "embeddings");
    if (cJSON_IsNumber(off_by))
        component = fmax(component, 3 * off_by->valuedouble);
    printf("%s as %s: embeddings %.2g and %.2g (cosine %.6f), gradient norms %.2g\n", name, arch,
           errors[0].component, errors[1].component, errors[0].cosine, off);
    for (int i = 0; i < 2; i++)
        assert_true(errors[i].component <= component && errors[i].cosine >= 1 - cosine / 10);
    assert_true(how.precision != DML_PRECISION_BF16 || off <= norms);
    free(expected);
    cJSON_Delete(names);
    golden_case_close(&run);
}

/* Those that a slow backend computes: in float32 all, in pieces and in bfloat16 one of a kind. */
static bool is_among_few(const char *name, struct how how) {
    return (!how.micro && how.precision == DML_PRECISION_FP32) ||
           strcmp(name, "resnet18_gem") == 0 ||
           (!how.micro && strcmp(name, "resnet50_double") == 0);
}

static void check_all(struct how how, double component, double norms) {
    size_t count, seen = 0;
    char **names = golden_cases("architectures2", &count);
    for (size_t i = 0; i < count; i++) {
        cJSON *settings = golden_json("architectures2/%s/case.json", names[i]);
        /* Vision transformers are test_golden_vit's; batch norm with the batch's statistics ties
         * the images of a batch together. */
        bool wanted = strcmp(text(settings, "kind"), "vit") != 0 &&
                      (!how.micro || frozen(settings)) &&
                      (!tested_slowly() || is_among_few(names[i], how));
        if (wanted)
            check(names[i], settings, how, component, norms);
        seen += wanted;
        cJSON_Delete(settings);
    }
    assert_true(seen > 0 || how.micro || how.precision == DML_PRECISION_BF16);
    golden_free_names(names, count);
}

static void float32(void **state) {
    (void)state;
    check_all((struct how){0}, 2e-6, 3e-3);
}

static void micro_batches(void **state) {
    (void)state;
    check_all((struct how){.micro = 2}, 2e-6, 3e-3);
}

/* Natively, or emulated where the processor has none. */
static void bfloat16(void **state) {
    (void)state;
    need_bf16();
    check_all((struct how){.precision = DML_PRECISION_BF16}, 2e-2, 4.5e-2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(float32),
        cmocka_unit_test(micro_batches),
        cmocka_unit_test(bfloat16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
