#include "nn/graph.h"
#include "support/golden_network.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Names and shapes of all parameters, in order, against golden/architectures. */
static void names_and_shapes_are_pytorchs(void **state) {
    (void)state;
    size_t count, seen = 0;
    char **names = golden_names("architectures", &count);
    for (size_t i = 0; i < count; i++) {
        if (!dml_backbone_find(names[i]))
            continue;
        seen++;
        struct dml_graph *graph;
        assert_ok(dml_graph_build(names[i], 32, 0, &graph));
        cJSON *expected = golden_json("architectures/%s/state_dict.json", names[i]);
        golden_check_names(graph, expected);
        for (int p = 0; p < graph->param_count; p++) {
            const struct dml_graph_param *param = &graph->params[p];
            assert_int_equal(param->head, !strncmp(param->name, "last_linear.", 12) ||
                                              !strncmp(param->name, "fc.", 3));
        }
        cJSON_Delete(expected);
        dml_graph_free(graph);
    }
    assert_true(seen >= 2);
    golden_free_names(names, count);
}

static void options_of_arch(void **state) {
    (void)state;
    struct dml_graph *graph;
    assert_ok(dml_graph_build("resnet18_frozen_normalize", 128, 64, &graph));
    assert_true(graph->frozen && graph->normalize);
    assert_int_equal(graph->embed_dim, 128);
    assert_int_equal(graph->nodes[graph->output].op, DML_OP_L2_NORMALIZE);
    dml_graph_free(graph);
    assert_int_equal(dml_graph_build("resnet51_frozen", 128, 0, &graph), DML_ERROR_USAGE);
    assert_non_null(strstr(dml_error(), "resnet50"));
    assert_null(graph);
    assert_int_equal(dml_graph_build("resnet50_frozn", 128, 0, &graph), DML_ERROR_USAGE);
    assert_non_null(strstr(dml_error(), "_frozn"));
    assert_int_equal(dml_graph_build("resnet50_double_gem", 128, 0, &graph), DML_ERROR_USAGE);
    assert_non_null(strstr(dml_error(), "_double and _gem"));
    assert_int_equal(dml_graph_build("resnet50_affine", 128, 0, &graph), DML_ERROR_USAGE);
    assert_non_null(strstr(dml_error(), "_frozen_affine"));
    assert_int_equal(dml_graph_build("resnet50_", 128, 0, &graph), DML_ERROR_USAGE);
    assert_int_equal(dml_graph_build("resnet50", -1, 0, &graph), DML_ERROR_USAGE);
    static const char *const contradictions[][2] = {
        {"resnet18_he_orthogonal", "_he and _orthogonal are two values"},
        {"vits16_layernorm_plainnorm", "_layernorm and _plainnorm"},
        {"resnet18_mlp64_mlp", "_mlp64 and _mlp"},
        {"resnet18_mlp0", "no option '_mlp0'"},
        {"resnet18_mlp65537", "no option '_mlp65537'"},
        {"resnet18_mlp6x", "no option '_mlp6x'"},
    };
    for (size_t i = 0; i < sizeof contradictions / sizeof *contradictions; i++) {
        assert_int_equal(dml_graph_build(contradictions[i][0], 8, 64, &graph), DML_ERROR_USAGE);
        assert_non_null(strstr(dml_error(), contradictions[i][1]));
    }
    assert_int_equal(dml_graph_build("resnet18_mlp", 0, 64, &graph), DML_ERROR_USAGE);
    assert_non_null(strstr(dml_error(), "_mlp"));
    assert_ok(dml_graph_build("resnet50_normalize", 0, 64, &graph)); /* the feature itself */
    assert_int_equal(graph->embed_dim, 2048);
    assert_int_equal(graph->nodes[graph->output].op, DML_OP_L2_NORMALIZE);
    dml_graph_free(graph);
}

/* Names that others publish a network under, with options after them. */
static void other_names(void **state) {
    (void)state;
    static const char *const names[][2] = {
        {"vit_small_patch16_224_normalize", "vits16"},
        {"vit_small_patch16_224.dino_normalize", "dinos16"},
        {"vit_small_patch14_reg4_dinov2.lvd142m", "dinov2s14_reg"},
        {"dinov2b14_reg_clsavg_normalize", "dinov2b14_reg"},
        {"dinov2b14_avg", "dinov2b14"},
        {"vit_base_patch16_clip_224.openai_noprojection", "clipb16"},
        {"deit_small_distilled_patch16_224", "deits16"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct dml_backbone *found = dml_backbone_find(names[i][0]);
        assert_non_null(found);
        assert_string_equal(found->method.name, names[i][1]);
        struct dml_graph *graph;
        assert_ok(dml_graph_build(names[i][0], 8, 112, &graph));
        dml_graph_free(graph);
    }
    assert_null(dml_backbone_find("vit_small_patch16"));
    struct dml_graph *graph;
    assert_int_equal(dml_graph_build("vits16", 8, 100, &graph), DML_ERROR_USAGE);
    assert_non_null(strstr(dml_error(), "96 would fit"));
    assert_int_equal(dml_graph_build("vits16_droppath1", 8, 96, &graph), DML_ERROR_USAGE);
    assert_non_null(strstr(dml_error(), "no option '_droppath1'"));
}

static void check_pool(int height, int width, int kernel, int stride, int pad, bool ceil_mode,
                       int out_height, int out_width) {
    struct dml_graph *g = dml_graph_new();
    int x = dml_graph_input(g, 4, height, width);
    x = dml_graph_max_pool(g, x, kernel, stride, pad, ceil_mode);
    assert_true(x > 0);
    assert_int_equal(g->nodes[x].height, out_height);
    assert_int_equal(g->nodes[x].width, out_width);
    dml_graph_free(g);
}

static void pools_round_as_pytorch(void **state) {
    (void)state;
    check_pool(6, 7, 3, 2, 0, false, 2, 3);
    check_pool(6, 7, 3, 2, 0, true, 3, 3);
    check_pool(5, 6, 2, 3, 1, false, 2, 3);
    /* A last window that would begin in the right padding does not count: 5 has none. */
    check_pool(5, 6, 2, 3, 1, true, 2, 3);
    check_pool(3, 3, 2, 3, 1, true, 2, 2);
}

static void misuse_is_refused(void **state) {
    (void)state;
    struct dml_graph *g = dml_graph_new();
    int x = dml_graph_input(g, 3, 8, 8);
    int y = dml_graph_conv(g, x, "conv", 4, 3, 1, 1, false);
    assert_int_equal(dml_graph_add(g, x, y), -1);
    assert_int_equal(dml_graph_relu(g, y), -1); /* failed from now on */
    assert_int_equal(dml_graph_finish(g, y), DML_ERROR_USAGE);
    assert_non_null(strstr(dml_error(), "node 2 add: the two inputs differ in shape"));
    dml_graph_free(g);
    g = dml_graph_new();
    x = dml_graph_input(g, 3, 4, 4);
    assert_int_equal(dml_graph_conv(g, x, "conv", 4, 7, 1, 1, false), -1);
    assert_int_equal(dml_graph_finish(g, x), DML_ERROR_USAGE);
    dml_graph_free(g);
}

/* Sizes whose products would overflow. */
static void sizes_are_bounded(void **state) {
    (void)state;
    enum { HUGE_SIZE = 1 << 30 };
    for (int k = 0; k < 9; k++) {
        struct dml_graph *g = dml_graph_new();
        int x = dml_graph_input(g, 3, k == 0 ? HUGE_SIZE : 16, k == 1 ? HUGE_SIZE : 16);
        x = dml_graph_conv_rect(g, x, "conv", k == 2 ? HUGE_SIZE : 1 << 18, k == 3 ? HUGE_SIZE : 1,
                                k == 4 ? HUGE_SIZE : 1, k == 5 ? HUGE_SIZE : 1,
                                k == 6 ? INT_MAX : 0, k == 7 ? INT_MAX : 0, false);
        x = dml_graph_concat(g, (int[]){x, x, x, x, x}, k == 8 ? 5 : 4);
        x = dml_graph_global_avg_pool(g, x);
        assert_int_equal(x, -1);
        assert_int_equal(dml_graph_finish(g, x), DML_ERROR_USAGE);
        assert_non_null(strstr(dml_error(), k == 8 ? "too many channels" : "out of range"));
        dml_graph_free(g);
    }
}

/* Mean and variance of the initial values, and that they depend on the seed. */
static void init_has_pytorchs_moments(void **state) {
    (void)state;
    struct dml_graph *graph;
    assert_ok(dml_graph_build("resnet18", 128, 0, &graph));
    for (int p = 0; p < graph->param_count; p++) {
        const struct dml_graph_param *param = &graph->params[p];
        float *values = malloc(2 * param->count * sizeof *values);
        dml_graph_init_param(graph, p, 7, values);
        dml_graph_init_param(graph, p, 8, values + param->count);
        double sum = 0, squares = 0;
        for (size_t i = 0; i < param->count; i++) {
            sum += values[i];
            squares += (double)values[i] * values[i];
        }
        double n = (double)param->count;
        if (param->role == DML_ROLE_WEIGHT) {
            double variance =
                param->head ? 1.0 / 3.0 / 512.0
                            : 2.0 / ((double)param->dims[0] * param->dims[2] * param->dims[3]);
            assert_true(fabs(squares / n / variance - 1.0) < 6.0 * sqrt(2.0 / n));
            assert_true(fabs(sum / n) < 5.0 * sqrt(variance / n));
            assert_true(memcmp(values, values + param->count, param->count * sizeof *values));
        } else if (param->role == DML_ROLE_NORM_WEIGHT || param->role == DML_ROLE_RUNNING_VAR) {
            assert_true(sum == n && squares == n);
        } else if (!param->head) {
            assert_true(squares == 0);
        }
        free(values);
    }
    dml_graph_free(graph);
}

/* Rows of the head's matrices, or their columns where they are fewer, are orthonormal, and biases
 * 0; a hidden layer is as wide as asked. */
static void check_orthogonal_head(const char *arch, int dim, int hidden) {
    struct dml_graph *graph;
    int matrices = 0;
    assert_ok(dml_graph_build(arch, dim, 64, &graph));
    for (int p = 0; p < graph->param_count; p++) {
        const struct dml_graph_param *param = &graph->params[p];
        if (!param->head)
            continue;
        float *values = malloc(param->count * sizeof *values);
        assert_non_null(values);
        dml_graph_init_param(graph, p, 7, values);
        if (param->dim_count == 1)
            for (size_t i = 0; i < param->count; i++)
                assert_true(values[i] == 0);
        if (param->dim_count == 1) {
            free(values);
            continue;
        }
        int rows = param->dims[0], columns = param->dims[1];
        int count = rows < columns ? rows : columns, length = rows < columns ? columns : rows;
        int stride = rows < columns ? columns : 1, step = rows < columns ? 1 : columns;
        for (int i = 0; i < count; i++)
            for (int j = 0; j <= i; j++) {
                double product = 0;
                for (int k = 0; k < length; k++)
                    product +=
                        (double)values[i * stride + k * step] * values[j * stride + k * step];
                assert_true(fabs(product - (i == j)) < 1e-6);
            }
        assert_int_equal(rows, !strcmp(param->name, "last_linear.weight") ? dim : hidden);
        matrices++;
        free(values);
    }
    assert_int_equal(matrices, hidden ? 2 : 1);
    dml_graph_free(graph);
}

static void heads_start_orthogonal(void **state) {
    (void)state;
    check_orthogonal_head("resnet18_orthogonal", 48, 0);
    check_orthogonal_head("resnet18_orthogonal", 520, 0); /* more rows than columns */
    check_orthogonal_head("resnet18_mlp_orthogonal", 64, 512);
    check_orthogonal_head("vitt16_mlp96_orthogonal", 128, 96);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_shapes_are_pytorchs),
        cmocka_unit_test(options_of_arch),
        cmocka_unit_test(other_names),
        cmocka_unit_test(pools_round_as_pytorch),
        cmocka_unit_test(misuse_is_refused),
        cmocka_unit_test(sizes_are_bounded),
        cmocka_unit_test(init_has_pytorchs_moments),
        cmocka_unit_test(heads_start_orthogonal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
