#include "nn/weights/positions.h"
#include "support/fill.h"
#include "support/golden.h"
#include "support/networks.h"
#include "support/vit_case.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Vision transformers of golden/architectures2, and golden/posembed. */

/* One case's network with golden weights, and its input. */
struct running {
    struct vit_case settings;
    struct dml_graph *graph;
    struct dml_network *network;
    cJSON *json;
    enum dml_precision precision;
    size_t batch, dim;
    float *input, *embeddings, *grad;
};

static void open_case(struct running *r, const char *name, size_t micro) {
    r->settings = vit_case_read(r->json);
    r->batch = (size_t)json_int(r->json, "batch");
    int size = json_int(r->json, "size");
    r->graph = vit_case_graph(&r->settings, size);
    r->dim = (size_t)r->graph->embed_dim;
    const struct dml_network_options options = {
        .precision = r->precision, .micro_batch = micro, .batch_hint = r->batch};
    assert_ok(dml_network_open(tested(), r->graph, &options, &r->network));
    fill_network_stored(r->network, r->settings.stored_grid);
    size_t count = r->batch * 3 * (size_t)(size * size);
    r->input = malloc(count * sizeof *r->input);
    r->embeddings = malloc(r->batch * r->dim * sizeof *r->embeddings);
    r->grad = malloc(r->batch * r->dim * sizeof *r->grad);
    assert_true(r->input && r->embeddings && r->grad);
    fill_signed("input", 2.0, r->input, count);
    fill_signed("output_weight", 1.0, r->grad, r->batch * r->dim);
    printf("%s", name);
}

static void close_case(struct running *r) {
    dml_network_close(r->network);
    free(r->input);
    free(r->embeddings);
    free(r->grad);
    puts("");
}

/* What PyTorch is off by in that precision. */
static double pytorchs(const struct running *r, const char *what) {
    bool narrow = r->precision == DML_PRECISION_BF16;
    return json_number(cJSON_GetObjectItem(r->json, narrow ? "bfloat16_autocast" : "float32"),
                       what);
}

static void check_embeddings(const struct running *r, const char *name) {
    size_t count;
    double *expected = golden_doubles(&count, "architectures2/%s/embeddings.npy", name), error = 0;
    assert_int_equal(count, r->batch * r->dim);
    for (size_t i = 0; i < count; i++)
        error = fmax(error, fabs(r->embeddings[i] - expected[i]));
    free(expected);
    printf(" embeddings %.2g", error);
    double least = r->precision == DML_PRECISION_BF16 ? 2e-2 : 1e-6;
    if (!(error <= fmax(least, 3 * pytorchs(r, "embeddings"))))
        fail_msg("%s: embeddings are off by %g", name, error);
}

static bool is_frozen(const struct running *r, const char *param) {
    const cJSON *prefix;
    cJSON_ArrayForEach(prefix, cJSON_GetObjectItem(r->json, "frozen")) {
        size_t length = strlen(prefix->valuestring);
        if (strncmp(param, prefix->valuestring, length) == 0 && param[length] == '.')
            return true;
    }
    return false;
}

/* Of every parameter that learns, and of no other, relative to the larger of the norm itself and a
 * thousandth of the largest; in bfloat16 all of them as one vector. */
static void check_norms(const struct running *r, const char *name) {
    const cJSON *norms = cJSON_GetObjectItem(r->json, "grad_norms"), *entry;
    double largest = 0, worst = 0, squares = 0, differences = 0;
    int seen = 0;
    cJSON_ArrayForEach(entry, norms) largest = fmax(largest, entry->valuedouble);
    for (int p = 0; p < r->graph->param_count; p++) {
        const struct dml_graph_param *param = &r->graph->params[p];
        const cJSON *expected = cJSON_GetObjectItemCaseSensitive(norms, param->name);
        if (is_frozen(r, param->name))
            continue;
        if (!expected)
            fail_msg("%s: no gradient is expected of %s", name, param->name);
        seen++;
        float *grad = malloc(param->count * sizeof *grad);
        assert_non_null(grad);
        assert_ok(dml_network_read(r->network, p, DML_SLOT_GRAD, grad));
        double sum = 0;
        for (size_t i = 0; i < param->count; i++)
            sum += (double)grad[i] * grad[i];
        free(grad);
        double error = fabs(sqrt(sum) - expected->valuedouble);
        differences += error * error;
        squares += expected->valuedouble * expected->valuedouble;
        if (r->precision == DML_PRECISION_BF16)
            continue;
        error /= fmax(expected->valuedouble, largest / 1000);
        worst = fmax(worst, error);
        if (!(error <= fmax(3e-5, 10 * pytorchs(r, "grad_norms"))))
            fail_msg("%s: gradient of %s has norm %g, not %g", name, param->name, sqrt(sum),
                     expected->valuedouble);
    }
    assert_int_equal(seen, cJSON_GetArraySize(norms));
    if (r->precision == DML_PRECISION_BF16) {
        worst = sqrt(differences / squares);
        assert_true(worst <= 2e-2);
    }
    printf(", gradient norms %.2g", worst);
}

/* Names and shapes, but for the position embeddings' grid. */
static void check_state_dict(const struct running *r, const char *name) {
    cJSON *expected = golden_json("architectures2/%s/state_dict.json", name);
    const cJSON *entry;
    assert_int_equal(cJSON_GetArraySize(expected), r->graph->param_count);
    cJSON_ArrayForEach(entry, expected) {
        const char *wanted = cJSON_GetArrayItem(entry, 0)->valuestring;
        const cJSON *dims = cJSON_GetArrayItem(entry, 1);
        int p = 0;
        while (p < r->graph->param_count && strcmp(r->graph->params[p].name, wanted) != 0)
            p++;
        if (p == r->graph->param_count)
            fail_msg("%s: there is no parameter %s", name, wanted);
        const struct dml_graph_param *param = &r->graph->params[p];
        assert_int_equal(param->dim_count, cJSON_GetArraySize(dims));
        for (int d = 0; d < param->dim_count; d++)
            if (param->role != DML_ROLE_POSITIONS || d != 1)
                assert_int_equal(param->dims[d], cJSON_GetArrayItem(dims, d)->valueint);
    }
    cJSON_Delete(expected);
}

static void check_case(struct running *r, const char *name, size_t micro) {
    open_case(r, name, micro);
    check_state_dict(r, name);
    const struct dml_node *input = &r->graph->nodes[0];
    const struct dml_images images = {
        .n = r->batch, .height = input->height, .width = input->width, .input = r->input};
    assert_ok(dml_network_forward(r->network, &images, r->embeddings));
    check_embeddings(r, name);
    assert_ok(dml_network_backward(r->network, r->grad));
    check_norms(r, name);
    assert_ok(dml_network_embed(r->network, &images, r->embeddings));
    check_embeddings(r, name);
    close_case(r);
}

/* Those that a slow backend computes: in float32 all but the largest, else one of a kind. */
static bool is_among_few(const char *name, size_t micro, enum dml_precision precision) {
    static const char *const few[] = {"vits16_native", "vits16_frozen_block", "deits16_distilled",
                                      "clipb16", "dinov2s14_reg"};
    if (!micro && precision == DML_PRECISION_FP32)
        return strcmp(name, "vits16_full_224") != 0;
    for (size_t i = 0; i < (micro ? 2 : sizeof few / sizeof *few); i++)
        if (strcmp(name, few[i]) == 0)
            return true;
    return false;
}

static void check_cases(size_t micro, enum dml_precision precision) {
    size_t count, seen = 0;
    char **names = golden_cases("architectures2", &count);
    for (size_t i = 0; i < count; i++) {
        struct running r = {.json = golden_json("architectures2/%s/case.json", names[i]),
                            .precision = precision};
        bool wanted = strcmp(json_text(r.json, "kind"), "vit") == 0 &&
                      (!tested_slowly() || is_among_few(names[i], micro, precision));
        if (wanted &&
            (!micro || json_int(r.json, "depth") <= 3)) { /* pieces of deep ones take long */
            check_case(&r, names[i], micro);
            seen++;
        }
        cJSON_Delete(r.json);
    }
    assert_true(seen > 0 || micro || precision != DML_PRECISION_FP32);
    golden_free_names(names, count);
}

static void transformers(void **state) {
    (void)state;
    check_cases(0, DML_PRECISION_FP32);
}

static void transformers_in_pieces(void **state) {
    (void)state;
    check_cases(2, DML_PRECISION_FP32);
}

/* Natively, or emulated where the processor has none. */
static void transformers_in_bfloat16(void **state) {
    (void)state;
    need_bf16();
    check_cases(0, DML_PRECISION_BF16);
}

static void transformers_emulated(void **state) {
    (void)state;
    setenv("DML_BF16", "emulate", 1);
    check_cases(2, DML_PRECISION_BF16);
    unsetenv("DML_BF16");
}

static void position_embeddings(void **state) {
    (void)state;
    static const char *const rules[] = {[DML_POSITIONS_TIMM] = "timm",
                                        [DML_POSITIONS_DINO] = "dino",
                                        [DML_POSITIONS_PLAIN] = "plain"};
    cJSON *json = golden_json("posembed/cases.json");
    const cJSON *entry, *cases = cJSON_GetObjectItem(json, "cases");
    print_message("posembed: %d cases\n", cJSON_GetArraySize(cases));
    assert_true(cJSON_GetArraySize(cases) > 0);
    cJSON_ArrayForEach(entry, cases) {
        size_t side = (size_t)json_int(entry, "stored"), rows = (size_t)json_int(entry, "rows");
        size_t columns = (size_t)json_int(entry, "columns");
        size_t channels = (size_t)json_int(entry, "channels"), count;
        const char *file = json_text(entry, "file"), *name = json_text(entry, "rule");
        int rule = 0;
        while (rule < 3 && strcmp(rules[rule], name) != 0)
            rule++;
        assert_true(rule < 3);
        double *expected = golden_doubles(&count, "posembed/%s", file), error = 0;
        assert_int_equal(count, rows * columns * channels);
        float *stored = malloc(side * side * channels * sizeof *stored);
        float *made = malloc(count * sizeof *made);
        assert_true(stored && made);
        fill_signed("pos_embed", 1.0, stored, side * side * channels);
        assert_ok(dml_positions_resample((enum dml_position_rule)rule, 0, side, channels, stored,
                                         rows, columns, made));
        for (size_t i = 0; i < count; i++)
            error = fmax(error, fabs(made[i] - expected[i]));
        printf("%s: %.2g\n", file, error);
        assert_true(error <= 1e-6);
        free(expected);
        free(stored);
        free(made);
    }
    cJSON_Delete(json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(position_embeddings),
        cmocka_unit_test(transformers),
        cmocka_unit_test(transformers_in_pieces),
        cmocka_unit_test(transformers_in_bfloat16),
    };
    /* Emulation is the CPU backend's. */
    const struct CMUnitTest processor[] = {cmocka_unit_test(transformers_emulated)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return tested()->abilities().gpu ? failed
                                     : failed + cmocka_run_group_tests(processor, NULL, NULL);
}
