#include "support/fill.h"
#include "support/golden.h"
#include "support/tested.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Shape of the last node of a kind. */
static const struct dml_node *last_of(const struct dml_graph *graph, enum dml_op op) {
    for (int i = graph->node_count; i-- > 0;)
        if (graph->nodes[i].op == op)
            return &graph->nodes[i];
    fail_msg("no such node");
    return NULL;
}

static const struct dml_node *named(const struct dml_graph *graph, const char *name) {
    for (int i = 0; i < graph->node_count; i++)
        if (strcmp(graph->nodes[i].name, name) == 0)
            return &graph->nodes[i];
    fail_msg("no node %s", name);
    return NULL;
}

static void check_node(const struct dml_graph *graph, const char *name, int channels, int size) {
    const struct dml_node *node = named(graph, name);
    assert_int_equal(node->channels, channels);
    assert_int_equal(node->height, size);
    assert_int_equal(node->width, size);
}

/* Output sizes of the papers' tables: Szegedy 2015, table 1 (at the study's crop), and Ioffe 2015,
 * figure 5. */
static void test_sizes_of_the_papers(void **state) {
    (void)state;
    struct dml_graph *graph;
    assert_ok(dml_graph_build("googlenet", 128, 0, &graph));
    check_node(graph, "conv1.conv", 64, 114);
    check_node(graph, "conv3.conv", 192, 57);
    check_node(graph, "inception3a.branch1.conv", 64, 28);
    check_node(graph, "inception4e.branch2.1.conv", 320, 14);
    check_node(graph, "inception5b.branch1.conv", 384, 7);
    assert_int_equal(last_of(graph, DML_OP_CONCAT)->channels, 1024);
    dml_graph_free(graph);

    assert_ok(dml_graph_build("bninception", 128, 0, &graph));
    check_node(graph, "conv1_7x7_s2", 64, 112);
    check_node(graph, "conv2_3x3", 192, 56);
    check_node(graph, "inception_3a_1x1", 64, 28);
    check_node(graph, "inception_3c_3x3", 160, 14);
    check_node(graph, "inception_4e_double_3x3_2", 256, 7);
    check_node(graph, "inception_5b_pool_proj", 128, 7);
    assert_int_equal(last_of(graph, DML_OP_CONCAT)->channels, 1024);
    dml_graph_free(graph);
}

/* _double adds the maximum to the mean; _he is of the head's initial values. */
static void test_options_of_bninception(void **state) {
    (void)state;
    enum { DIM = 128, FEATURES = 1024 };
    struct dml_graph *graph;
    assert_ok(dml_graph_build("bninception_double_he_frozen_normalize", DIM, 0, &graph));
    assert_true(graph->frozen && graph->normalize);
    const struct dml_node *head = named(graph, "last_linear");
    const struct dml_node *sum = &graph->nodes[head->inputs[0]];
    assert_int_equal(sum->op, DML_OP_ADD);
    assert_int_equal(graph->nodes[sum->inputs[0]].op, DML_OP_GLOBAL_AVG_POOL);
    assert_int_equal(graph->nodes[sum->inputs[1]].op, DML_OP_GLOBAL_MAX_POOL);
    static float weight[DIM * FEATURES], bias[DIM];
    dml_graph_init_param(graph, head->first_param, 1, weight);
    dml_graph_init_param(graph, head->first_param + 1, 1, bias);
    double squares = 0;
    for (int i = 0; i < DIM * FEATURES; i++)
        squares += (double)weight[i] * weight[i];
    /* Kaiming, fan out: variance 2 / outputs */
    assert_true(fabs(squares / (DIM * FEATURES) / (2.0 / DIM) - 1) < 0.02);
    for (int i = 0; i < DIM; i++)
        assert_true(bias[i] == 0);
    dml_graph_free(graph);

    assert_ok(dml_graph_build("bninception", DIM, 0, &graph));
    head = named(graph, "last_linear");
    assert_int_equal(graph->nodes[head->inputs[0]].op, DML_OP_GLOBAL_AVG_POOL);
    dml_graph_free(graph);
    assert_int_equal(dml_graph_build("googlenet_duoble", DIM, 0, &graph), DML_ERROR_USAGE);
    assert_non_null(strstr(dml_error(), "_duoble"));
}

/* Caffe's convention: BGR from about -128 to 128. */
static void test_input_conventions(void **state) {
    (void)state;
    struct dml_graph *graph;
    assert_ok(dml_graph_build("bninception", 128, 0, &graph));
    assert_true(graph->input.bgr);
    static const double caffe_means[] = {128, 117, 104}; /* RGB */
    for (int c = 0; c < 3; c++) {
        double zero_at = graph->input.mean[c] * 255;
        assert_true(fabs(zero_at - caffe_means[c]) < 0.1);
        assert_true(fabs(1 / (255 * graph->input.std[c]) - 1) < 0.01);
    }
    dml_graph_free(graph);
    assert_ok(dml_graph_build("googlenet", 128, 0, &graph));
    const struct dml_node *affine = last_of(graph, DML_OP_AFFINE);
    for (int c = 0; c < 3; c++)
        for (int pixel = 0; pixel < 256; pixel += 51) {
            float x = (pixel / 255.f - graph->input.mean[c]) / graph->input.std[c];
            float expected = (pixel / 255.f - 0.5f) / 0.5f;
            assert_true(fabsf(affine->scale[c] * x + affine->shift[c] - expected) < 1e-6f);
        }
    dml_graph_free(graph);
}

struct running {
    struct dml_graph *graph;
    struct dml_network *network;
};

static struct running start(const char *arch, int embed_dim, int size) {
    struct running run;
    const struct dml_network_options options = {0};
    assert_ok(dml_graph_build(arch, embed_dim, size, &run.graph));
    assert_ok(dml_network_open(tested(), run.graph, &options, &run.network));
    fill_network(run.network);
    return run;
}

static void stop(struct running *run) {
    dml_network_close(run->network);
}

/* The loader's 8-bit images become the input that the graph describes. */
static void test_pixels_become_the_input(void **state) {
    (void)state;
    enum { N = 2, SIZE = 64, PLANE = SIZE * SIZE, DIM = 16 };
    static uint8_t pixels[N * PLANE * 3];
    static float input[N * 3 * PLANE];
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(fill_uniform("pixels", i) * 256);
    static const char *const archs[] = {"bninception_frozen_normalize", "googlenet_normalize"};
    for (int a = 0; a < 2; a++) {
        struct running run = start(archs[a], DIM, SIZE);
        const struct dml_input_transform *t = &run.graph->input;
        for (size_t i = 0; i < N * PLANE; i++)
            for (int c = 0; c < 3; c++) {
                int plane = t->bgr ? 2 - c : c;
                input[(i / PLANE * 3 + (size_t)plane) * PLANE + i % PLANE] =
                    (pixels[3 * i + (size_t)c] / 255.f - t->mean[c]) / t->std[c];
            }
        float from_pixels[N * DIM], from_input[N * DIM];
        struct dml_images images = {.n = N, .height = SIZE, .width = SIZE, .pixels = pixels};
        assert_ok(dml_network_embed(run.network, &images, from_pixels));
        images = (struct dml_images){.n = N, .height = SIZE, .width = SIZE, .input = input};
        assert_ok(dml_network_embed(run.network, &images, from_input));
        for (int i = 0; i < N * DIM; i++)
            assert_true(fabsf(from_pixels[i] - from_input[i]) < 2e-6f);
        stop(&run);
    }
}

/* sum(embedding * weight) with `step` added to one bias of the last module. */
static double loss_at(struct running *run, int param, float step, const struct dml_images *images,
                      const float *weight) {
    enum { CHANNEL = 5, MAX = 512 };
    float values[MAX], embeddings[64];
    size_t count = images->n * (size_t)run->graph->embed_dim;
    assert_true(count <= 64 && run->graph->params[param].count <= MAX);
    assert_ok(dml_network_read(run->network, param, DML_SLOT_VALUE, values));
    values[CHANNEL] += step;
    assert_ok(dml_network_write(run->network, param, DML_SLOT_VALUE, values));
    assert_ok(dml_network_embed(run->network, images, embeddings));
    values[CHANNEL] -= step;
    assert_ok(dml_network_write(run->network, param, DML_SLOT_VALUE, values));
    double loss = 0;
    for (size_t i = 0; i < count; i++)
        loss += (double)embeddings[i] * weight[i];
    return loss;
}

/* The golden files have no _double: its gradient against a difference quotient. */
static void test_gradient_of_double_pooling(void **state) {
    (void)state;
    enum { N = 2, SIZE = 64, DIM = 16, CHANNEL = 5 };
    static float input[N * 3 * SIZE * SIZE];
    float weight[N * DIM], embeddings[N * DIM], grad[512];
    struct running run = start("bninception_double_frozen", DIM, SIZE);
    fill_signed("input", 2, input, sizeof input / sizeof *input);
    fill_signed("output_weight", 1, weight, N * DIM);
    struct dml_images images = {.n = N, .height = SIZE, .width = SIZE, .input = input};
    assert_ok(dml_network_forward(run.network, &images, embeddings));
    assert_ok(dml_network_backward(run.network, weight));
    static const char *const names[] = {"inception_5b_1x1_bn.bias", "inception_5b_3x3_bn.bias",
                                        "inception_5a_pool_proj_bn.bias"};
    for (int k = 0; k < 3; k++) {
        int param = 0;
        while (strcmp(run.graph->params[param].name, names[k]) != 0)
            param++;
        assert_ok(dml_network_read(run.network, param, DML_SLOT_GRAD, grad));
        const float step = 1e-3f;
        double quotient = (loss_at(&run, param, step, &images, weight) -
                           loss_at(&run, param, -step, &images, weight)) /
                          (2 * step);
        if (fabs(quotient - grad[CHANNEL]) > 0.02 * fabs(quotient) + 1e-3)
            fail_msg("%s: gradient %g, difference quotient %g", names[k], (double)grad[CHANNEL],
                     quotient);
    }
    stop(&run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_of_the_papers),
        cmocka_unit_test(test_options_of_bninception),
        cmocka_unit_test(test_input_conventions),
        cmocka_unit_test(test_pixels_become_the_input),
        cmocka_unit_test(test_gradient_of_double_pooling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
