/* Convolutions in groups: against their definition, dense convolutions with zeros between groups,
 * and finite differences; groups of whole blocks of channels and of less. */
#include "support/golden.h"
#include "support/networks.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Channels in and out, groups, kernel, stride. Blocks have 8 or 16 channels. */
static const int cases[][5] = {
    {128, 128, 32, 3, 1}, /* 4 channels a group: resnext50_32x4d's first stage */
    {64, 64, 4, 3, 2},    /* whole blocks */
    {32, 64, 8, 3, 2},    /* 4 inputs, 8 outputs a group */
    {12, 18, 3, 3, 1},    /* 3 groups of 4 and 6, that fill no blocks */
    {24, 24, 24, 3, 1},   /* a group for each channel */
    {16, 16, 4, 1, 1},    /* all groups in one block */
    {10, 10, 5, 5, 2},
};
enum { CASES = sizeof cases / sizeof *cases, HEIGHT = 7, WIDTH = 6, N = 3 };

/* A convolution of 1 x 1 makes the channels, then comes the one in question. */
static struct dml_graph *graph_of_case(const int *c, int groups, bool frozen) {
    struct dml_graph *g = dml_graph_new();
    int x = dml_graph_conv(g, dml_graph_input(g, 3, HEIGHT, WIDTH), "in", c[0], 1, 1, 0, true);
    x = dml_graph_conv_grouped(g, x, "grouped", c[1], c[3], c[4], c[3] / 2, groups, !frozen);
    x = dml_graph_relu(g, dml_graph_batch_norm(g, x, "bn", 1e-5f, 0.1f));
    x = dml_graph_linear(g, dml_graph_global_avg_pool(g, x), "last_linear", 5);
    assert_ok(dml_graph_finish(g, x));
    g->frozen = frozen;
    return g;
}

static int param_of(const struct dml_graph *graph, const char *name) {
    for (int p = 0; p < graph->param_count; p++)
        if (strcmp(graph->params[p].name, name) == 0)
            return p;
    fail_msg("no parameter %s", name);
    return -1;
}

/* The dense weights (out, in, k, k) of grouped ones (out, in / groups, k, k). */
static float *spread(const int *c, const float *grouped) {
    size_t taps = (size_t)(c[3] * c[3]), inputs = (size_t)(c[0] / c[2]);
    float *dense = calloc((size_t)(c[0] * c[1]) * taps, sizeof *dense);
    assert_non_null(dense);
    for (size_t o = 0; o < (size_t)c[1]; o++) {
        size_t group = o / (size_t)(c[1] / c[2]);
        memcpy(dense + (o * (size_t)c[0] + group * inputs) * taps, grouped + o * inputs * taps,
               inputs * taps * sizeof *dense);
    }
    return dense;
}

/* Copies all parameters of a grouped network to a dense one. */
static void copy_spread(const struct setting *from, const struct setting *to, const int *c) {
    int grouped = param_of(from->graph, "grouped.weight");
    for (int p = 0; p < from->graph->param_count; p++) {
        float *values = read_param(from, p, DML_SLOT_VALUE), *dense = NULL;
        if (p == grouped)
            dense = spread(c, values);
        assert_ok(dml_network_write(to->network, p, DML_SLOT_VALUE, dense ? dense : values));
        free(values);
        free(dense);
    }
}

/* Of the dense weights' gradient, the part that the groups have. */
static void check_weights(const int *c, const float *grouped, const float *dense,
                          double tolerance) {
    size_t taps = (size_t)(c[3] * c[3]), inputs = (size_t)(c[0] / c[2]);
    for (size_t o = 0; o < (size_t)c[1]; o++) {
        size_t group = o / (size_t)(c[1] / c[2]);
        close_to(grouped + o * inputs * taps, dense + (o * (size_t)c[0] + group * inputs) * taps,
                 inputs * taps, tolerance);
    }
}

/* A bias that a norm of the batch takes away, itself or what a kernel of 1 x 1 makes of it: its
 * gradient is 0 but for rounding. */
static bool vanishes(const struct setting *s, int param, const int *c) {
    const char *name = s->graph->params[param].name;
    return !s->graph->frozen &&
           (strcmp(name, "grouped.bias") == 0 || (c[3] == 1 && strcmp(name, "in.bias") == 0));
}

static void compare(const int *c, bool frozen, enum dml_precision precision, double tolerance) {
    struct setting a, b;
    const struct dml_network_options options = {.precision = precision};
    open_network(&a, graph_of_case(c, c[2], frozen), N, options);
    open_network(&b, graph_of_case(c, 1, frozen), N, options);
    copy_spread(&a, &b, c);
    memcpy(b.pixels, a.pixels, N * 3 * HEIGHT * WIDTH);
    memcpy(b.grad, a.grad, N * a.dim * sizeof *a.grad);
    loss_of(&a);
    loss_of(&b);
    close_to(a.embeddings, b.embeddings, N * a.dim, tolerance);
    assert_ok(dml_network_backward(a.network, a.grad));
    assert_ok(dml_network_backward(b.network, b.grad));
    int grouped = param_of(a.graph, "grouped.weight");
    double squares = 0;
    for (int p = 0; p < a.graph->param_count; p++) {
        if (!dml_param_learnable(&a.graph->params[p]))
            continue;
        float *x = read_param(&a, p, DML_SLOT_GRAD), *y = read_param(&b, p, DML_SLOT_GRAD);
        for (size_t i = 0; i < a.graph->params[p].count; i++)
            squares += (double)x[i] * x[i];
        if (p == grouped)
            check_weights(c, x, y, 3 * tolerance);
        else if (!vanishes(&a, p, c))
            close_to(x, y, a.graph->params[p].count, 3 * tolerance);
        free(x);
        free(y);
    }
    /* What lies between joined groups does not count. */
    struct dml_gradient_size size;
    assert_ok(dml_network_gradient_size(a.network, NULL, &size));
    assert_true(fabs(size.norm - sqrt(squares)) <= 1e-5 * size.norm);
    close_network(&a);
    close_network(&b);
}

static void equal_dense_ones_with_zeros(void **state) {
    (void)state;
    for (int k = 0; k < CASES; k++) {
        compare(cases[k], true, DML_PRECISION_FP32, 1e-5);
        compare(cases[k], false, DML_PRECISION_FP32, 1e-4);
    }
}

static void in_bfloat16(void **state) {
    (void)state;
    need_bf16();
    for (int k = 0; k < CASES; k++)
        compare(cases[k], true, DML_PRECISION_BF16, 2e-2);
}

/* Of the first convolution's weights and of its own, through a step: what is 0 between joined
 * groups stays so, so the network keeps computing what its weights say. */
static void stay_apart_in_training(void **state) {
    (void)state;
    for (int k = 0; k < CASES; k++) {
        struct setting a, b;
        open_network(&a, graph_of_case(cases[k], cases[k][2], true), N,
                     (struct dml_network_options){0});
        for (int step = 1; step < 4; step++)
            train_step(&a, step);
        loss_of(&a);
        open_network(&b, graph_of_case(cases[k], cases[k][2], true), N,
                     (struct dml_network_options){0});
        for (int p = 0; p < a.graph->param_count; p++) {
            float *values = read_param(&a, p, DML_SLOT_VALUE);
            assert_ok(dml_network_write(b.network, p, DML_SLOT_VALUE, values));
            free(values);
        }
        loss_of(&b);
        assert_memory_equal(a.embeddings, b.embeddings, N * a.dim * sizeof(float));
        close_network(&a);
        close_network(&b);
    }
}

static void refusals(void **state) {
    (void)state;
    struct dml_graph *g = dml_graph_new();
    int x = dml_graph_conv(g, dml_graph_input(g, 3, 4, 4), "in", 12, 1, 1, 0, true);
    assert_int_equal(dml_graph_conv_grouped(g, x, "bad", 12, 3, 1, 1, 5, false), -1);
    assert_int_equal(dml_graph_finish(g, x), DML_ERROR_USAGE);
    assert_non_null(strstr(dml_error(), "bad"));
    dml_graph_free(g);
}

/* With the published classifier's 1000 outputs the networks have the published numbers of
 * parameters. */
static void variants_have_the_published_sizes(void **state) {
    (void)state;
    static const struct {
        const char *arch;
        size_t parameters;
    } published[] = {
        {"resnet18", 11689512},          {"resnet34", 21797672},
        {"resnet50", 25557032},          {"resnet101", 44549160},
        {"resnet152", 60192808},         {"wide_resnet50_2", 68883240},
        {"wide_resnet101_2", 126886696}, {"resnext50_32x4d", 25028904},
        {"resnext101_32x8d", 88791336},
    };
    for (size_t k = 0; k < sizeof published / sizeof *published; k++) {
        struct dml_graph *graph;
        char arch[64];
        size_t count = 0;
        snprintf(arch, sizeof arch, "%s_frozen_gem", published[k].arch);
        assert_ok(dml_graph_build(arch, 1000, 0, &graph));
        for (int p = 0; p < graph->param_count; p++)
            count += dml_param_learnable(&graph->params[p]) ? graph->params[p].count : 0;
        assert_int_equal(count - 1, published[k].parameters); /* and the power of the mean */
        dml_graph_free(graph);
    }
    struct dml_graph *none;
    assert_int_equal(dml_graph_build("wide_resnet50_frozen", 8, 0, &none), DML_ERROR_USAGE);
    assert_non_null(strstr(dml_error(), "did you mean 'wide_resnet50_2'"));
}

/* A whole network of each new kind computes and learns. */
static void variants_compute(void **state) {
    (void)state;
    static const char *const archs[] = {"resnext50_32x4d_frozen_normalize",
                                        "wide_resnet50_2_normalize", "resnet34_frozen_max"};
    for (size_t k = 0; k < sizeof archs / sizeof *archs; k++) {
        struct setting s;
        open_network(&s, graph_of(archs[k], 32), 2, (struct dml_network_options){0});
        loss_of(&s);
        assert_ok(dml_network_backward(s.network, s.grad));
        struct dml_gradient_size size;
        assert_ok(dml_network_gradient_size(s.network, NULL, &size));
        assert_true(isfinite(size.norm) && size.norm > 0);
        close_network(&s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_dense_ones_with_zeros),
        cmocka_unit_test(in_bfloat16),
        cmocka_unit_test(stay_apart_in_training),
        cmocka_unit_test(refusals),
        cmocka_unit_test(variants_have_the_published_sizes),
        cmocka_unit_test(variants_compute),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
