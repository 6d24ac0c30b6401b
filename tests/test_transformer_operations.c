#include "backends/cpu/convolution.h"
#include "backends/cpu/operations/erf.h"
#include "support/golden.h"
#include "support/networks.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* The operations of transformers on shapes that fit no vector: finite differences of all their
 * gradients, and what they must give besides. */

enum { CHANNELS = 21, HEADS = 3, GRID_H = 3, GRID_W = 2 };

struct tokens {
    struct dml_graph *graph;
    int x;
};

/* Patches of 5 x 5 pixels as tokens, after `registers` registers and one or two others. */
static struct tokens start(bool distilled, int registers) {
    struct dml_graph *g = dml_graph_new();
    assert_non_null(g);
    int x = dml_graph_input(g, 3, 5 * GRID_H, 5 * GRID_W);
    x = dml_graph_conv(g, x, "patches", CHANNELS, 5, 5, 0, true);
    const struct dml_token_settings settings = {
        .distilled = distilled, .registers = registers, .deviation = 0.02f};
    return (struct tokens){g, dml_graph_tokens(g, x, &settings)};
}

/* Pools, and ends with a linear layer to 7 dimensions. */
static struct dml_graph *finish(struct tokens t, enum dml_token_pool pool) {
    int x = dml_graph_token_pool(t.graph, t.x, pool);
    assert_ok(dml_graph_finish(t.graph, dml_graph_linear(t.graph, x, "head", 7)));
    return t.graph;
}

static void tokens_and_pools(void **state) {
    (void)state;
    check_differences(finish(start(false, 0), DML_TOKENS_CLS));
    check_differences(finish(start(false, 3), DML_TOKENS_AVG));
    check_differences(finish(start(false, 1), DML_TOKENS_CLS_AVG));
    check_differences(finish(start(true, 0), DML_TOKENS_DISTILLED));
    check_differences(finish(start(true, 2), DML_TOKENS_CLS_AVG));
}

/* Of a feature map whose windows overlap, and of one that something else needs, too. */
static void tokens_of_feature_maps(void **state) {
    (void)state;
    for (int shared = 0; shared < 2; shared++) {
        struct tokens t = {.graph = dml_graph_new()};
        struct dml_graph *g = t.graph;
        int map = dml_graph_conv(g, dml_graph_input(g, 3, 9, 6), "conv", CHANNELS, 3,
                                 shared ? 3 : 2, 0, true);
        const struct dml_token_settings settings = {.registers = 1, .deviation = 0.02f};
        int x = dml_graph_token_pool(g, dml_graph_tokens(g, map, &settings), DML_TOKENS_AVG);
        if (shared)
            x = dml_graph_concat(g, (int[]){x, dml_graph_global_avg_pool(g, map)}, 2);
        assert_ok(dml_graph_finish(g, dml_graph_linear(g, x, "head", 7)));
        check_differences(g);
    }
}

static void layer_norm(void **state) {
    (void)state;
    for (int affine = 0; affine < 2; affine++) {
        struct tokens t = start(false, 2);
        t.x = dml_graph_layer_norm(t.graph, t.x, "norm", 1e-6f, affine);
        check_differences(finish(t, DML_TOKENS_CLS_AVG));
        /* Of vectors with padding after them, and after a convolutional network. */
        t = start(false, 0);
        t.x = dml_graph_token_pool(t.graph, t.x, DML_TOKENS_AVG);
        t.x = dml_graph_layer_norm(t.graph, t.x, "norm", 1e-5f, affine);
        assert_ok(dml_graph_finish(t.graph, dml_graph_l2_normalize(t.graph, t.x)));
        check_differences(t.graph);
        struct dml_graph *g = dml_graph_new();
        int x = dml_graph_conv(g, dml_graph_input(g, 3, 7, 9), "conv", 11, 3, 2, 1, true);
        x = dml_graph_layer_norm(g, dml_graph_global_avg_pool(g, x), "norm", 1e-5f, affine);
        assert_ok(dml_graph_finish(g, dml_graph_linear(g, x, "head", 7)));
        check_differences(g);
    }
}

static void linear(void **state) {
    (void)state;
    struct tokens t = start(false, 0);
    int hidden = dml_graph_linear(t.graph, t.x, "one", 37);
    hidden = dml_graph_linear_bare(t.graph, dml_graph_relu(t.graph, hidden), "two", CHANNELS);
    t.x = dml_graph_add(t.graph, t.x, hidden);
    check_differences(finish(t, DML_TOKENS_CLS_AVG));
    /* After an addition that a linear layer makes, and one that none does. */
    t = start(false, 0);
    int first = dml_graph_linear(t.graph, t.x, "one", CHANNELS);
    int sum = dml_graph_add(t.graph, first, t.x);
    t.x = dml_graph_add(t.graph, sum, dml_graph_relu(t.graph, t.x));
    check_differences(finish(t, DML_TOKENS_AVG));
}

static void attention(void **state) {
    (void)state;
    struct tokens t = start(false, 1);
    int qkv = dml_graph_linear(t.graph, t.x, "qkv", 3 * CHANNELS);
    t.x = dml_graph_attention(t.graph, qkv, HEADS);
    check_differences(finish(t, DML_TOKENS_CLS_AVG));
    t = start(true, 0);
    qkv = dml_graph_linear(t.graph, t.x, "qkv", 3 * CHANNELS);
    t.x = dml_graph_add(t.graph, t.x, dml_graph_attention(t.graph, qkv, 1));
    check_differences(finish(t, DML_TOKENS_DISTILLED));
}

static void gelu(void **state) {
    (void)state;
    for (int quick = 0; quick < 2; quick++) {
        struct tokens t = start(false, 1);
        t.x = dml_graph_gelu(t.graph, dml_graph_linear(t.graph, t.x, "fc", 13), quick);
        check_differences(finish(t, DML_TOKENS_CLS_AVG));
    }
}

static void layer_scale(void **state) {
    (void)state;
    for (int add = 0; add < 2; add++) {
        struct tokens t = start(false, 1);
        int y =
            dml_graph_layer_scale(t.graph, dml_graph_linear(t.graph, t.x, "fc", CHANNELS), "ls");
        t.x = add ? dml_graph_add(t.graph, t.x, y) : y;
        check_differences(finish(t, DML_TOKENS_CLS_AVG));
    }
}

static void drop_path(void **state) {
    (void)state;
    for (int add = 0; add < 2; add++) {
        struct tokens t = start(false, 1);
        int y = dml_graph_linear(t.graph, t.x, "fc", CHANNELS);
        y = dml_graph_drop_path(t.graph, y, 0.5f);
        t.x = add ? dml_graph_add(t.graph, t.x, y) : y;
        check_differences(finish(t, DML_TOKENS_CLS_AVG));
    }
}

/* Everything at once, in pre-norm blocks. */
static struct dml_graph *transformer(float drop) {
    struct tokens t = start(true, 2);
    struct dml_graph *g = t.graph;
    char name[32];
    for (int block = 0; block < 2; block++) {
        snprintf(name, sizeof name, "%d", block);
        int y = dml_graph_layer_norm(g, t.x, name, 1e-6f, true);
        y = dml_graph_attention(g, dml_graph_linear(g, y, "qkv", 3 * CHANNELS), HEADS);
        y = dml_graph_layer_scale(g, dml_graph_linear(g, y, "proj", CHANNELS), "ls1");
        t.x = dml_graph_add(g, t.x, drop > 0 ? dml_graph_drop_path(g, y, drop) : y);
        y = dml_graph_layer_norm(g, t.x, "norm2", 1e-6f, true);
        y = dml_graph_gelu(g, dml_graph_linear(g, y, "fc1", 50), block);
        t.x = dml_graph_add(g, t.x, dml_graph_linear(g, y, "fc2", CHANNELS));
    }
    return finish(t, DML_TOKENS_CLS_AVG);
}

static void whole_blocks(void **state) {
    (void)state;
    check_differences(transformer(0));
    check_differences(transformer(0.3f));
}

/* Pieces give the gradients of the whole batch, dropped images included. */
static void pieces_are_exact(void **state) {
    (void)state;
    for (int drop = 0; drop < 2; drop++) {
        struct setting whole, pieces;
        open_network(&whole, transformer(drop ? 0.4f : 0), 7, (struct dml_network_options){0});
        open_network(&pieces, transformer(drop ? 0.4f : 0), 7,
                     (struct dml_network_options){.micro_batch = 3});
        loss_of(&whole);
        loss_of(&pieces);
        close_to(pieces.embeddings, whole.embeddings, 7 * whole.dim, 1e-6);
        assert_ok(dml_network_backward(whole.network, whole.grad));
        assert_ok(dml_network_backward(pieces.network, pieces.grad));
        for (int p = 0; p < whole.graph->param_count; p++) {
            float *a = read_param(&whole, p, DML_SLOT_GRAD);
            float *b = read_param(&pieces, p, DML_SLOT_GRAD);
            close_to(b, a, whole.graph->params[p].count, 1e-5);
            free(a);
            free(b);
        }
        close_network(&whole);
        close_network(&pieces);
    }
}

/* Blocks that are computed once more give the same bits in less memory, in pieces too. */
static void recomputation_changes_no_bit(void **state) {
    (void)state;
    static const char *const archs[] = {"vitt16_droppath0.3_normalize", "dinov2s14_reg_clsavg",
                                        "clipb16_layernorm"};
    for (size_t k = 0; k < 2 * sizeof archs / sizeof *archs; k++) {
        struct setting kept, anew;
        struct dml_network_options options = {.micro_batch = k % 2 ? 2 : 0};
        int size = k / 2 == 1 ? 42 : 48;
        open_network(&kept, graph_of(archs[k / 2], size), 4, options);
        options.recompute = true;
        open_network(&anew, graph_of(archs[k / 2], size), 4, options);
        loss_of(&kept);
        loss_of(&anew);
        assert_memory_equal(anew.embeddings, kept.embeddings, 4 * kept.dim * sizeof(float));
        assert_ok(dml_network_backward(kept.network, kept.grad));
        assert_ok(dml_network_backward(anew.network, anew.grad));
        for (int p = 0; p < kept.graph->param_count; p++) {
            float *a = read_param(&kept, p, DML_SLOT_GRAD);
            float *b = read_param(&anew, p, DML_SLOT_GRAD);
            assert_memory_equal(a, b, kept.graph->params[p].count * sizeof *a);
            free(a);
            free(b);
        }
        /* Other backends have more scratch memory, which counts in networks this small. */
        size_t share = tested() == &dml_backend_cpu ? 2 : 1;
        assert_true(dml_network_memory(anew.network) < dml_network_memory(kept.network) / share);
        close_network(&kept);
        close_network(&anew);
    }
    struct dml_graph *resnet = graph_of("resnet18_frozen", 32);
    struct dml_network *network;
    const struct dml_network_options options = {.recompute = true};
    assert_int_equal(dml_network_open(&dml_backend_cpu, resnet, &options, &network),
                     DML_ERROR_UNSUPPORTED);
    assert_non_null(strstr(dml_error(), "--recompute: --arch resnet18_frozen"));
    dml_graph_free(resnet);
}

/* Products of bfloat16 operands: the same bits whatever the number of threads, recomputed or not;
 * near those of float32; and as emulated, where tokens are not float32 for the sake of AMX. */
static void products_of_bfloat16(void **state) {
    (void)state;
    enum { N = 5, RUNS = 5 };
    struct setting s[RUNS];
    need_bf16();
    for (int k = 0; k < RUNS; k++) {
        struct dml_network_options options = {
            .precision = k < 4 ? DML_PRECISION_BF16 : DML_PRECISION_FP32, .recompute = k == 2};
        if (k == 3)
            setenv("DML_BF16", "emulate", 1);
        omp_set_num_threads(k == 1 ? 1 : 3);
        open_network(&s[k], graph_of("vitt16_clsavg_normalize", 64), N, options);
        loss_of(&s[k]);
        assert_ok(dml_network_backward(s[k].network, s[k].grad));
    }
    close_to(s[0].embeddings, s[4].embeddings, N * s[0].dim, 2e-2);
    close_to(s[0].embeddings, s[3].embeddings, N * s[0].dim, cpu_engine_tiles() ? 2e-2 : 5e-3);
    assert_memory_not_equal(s[0].embeddings, s[4].embeddings, N * s[0].dim * sizeof(float));
    for (int p = 0; p < s[0].graph->param_count; p++) {
        size_t count = s[0].graph->params[p].count;
        float *grads[RUNS];
        for (int k = 0; k < RUNS; k++)
            grads[k] = read_param(&s[k], p, DML_SLOT_GRAD);
        assert_memory_equal(grads[1], grads[0], count * sizeof(float));
        assert_memory_equal(grads[2], grads[0], count * sizeof(float));
        close_to(grads[0], grads[4], count, 5e-2);
        for (int k = 0; k < RUNS; k++)
            free(grads[k]);
    }
    for (int k = 0; k < RUNS; k++)
        close_network(&s[k]);
    unsetenv("DML_BF16");
}

/* Embeddings of 200 images whose only branch is dropped with probability 0.25. */
static void branches_are_dropped_per_image(void **state) {
    (void)state;
    enum { N = 200 };
    struct tokens t = start(false, 0);
    t.x = dml_graph_drop_path(t.graph, t.x, 0.25f);
    t.x = dml_graph_token_pool(t.graph, t.x, DML_TOKENS_AVG);
    assert_ok(dml_graph_finish(t.graph, t.x));
    struct setting s;
    open_network(&s, t.graph, N, (struct dml_network_options){0});
    float *inference = malloc(N * s.dim * sizeof *inference);
    float *first = malloc(N * s.dim * sizeof *first);
    assert_non_null(inference);
    assert_non_null(first);
    assert_ok(dml_network_embed(s.network, &s.images, inference));
    loss_of(&s);
    size_t dropped = 0;
    for (size_t i = 0; i < N; i++) {
        bool zero = s.embeddings[i * s.dim] == 0;
        dropped += zero;
        for (size_t c = i * s.dim; c < (i + 1) * s.dim; c++)
            assert_true(fabsf(s.embeddings[c] - (zero ? 0 : inference[c] / 0.75f)) < 1e-6f);
    }
    assert_true(dropped > 25 && dropped < 75);
    memcpy(first, s.embeddings, N * s.dim * sizeof *first);
    loss_of(&s); /* the same step drops the same images */
    assert_memory_equal(first, s.embeddings, N * s.dim * sizeof *first);
    /* and a part of the batch, which knows its place, the same of its own */
    const struct dml_node *input = &s.graph->nodes[0];
    struct dml_images part = s.images;
    part.n = part.first = N / 2;
    part.pixels += N / 2 * 3 * (size_t)(input->height * input->width);
    assert_ok(dml_network_forward(s.network, &part, s.embeddings));
    for (size_t i = 0; i < N / 2 * s.dim; i++)
        assert_int_equal(s.embeddings[i] == 0, first[N / 2 * s.dim + i] == 0);
    s.images.step = 1;
    loss_of(&s);
    assert_memory_not_equal(first, s.embeddings, N * s.dim * sizeof *first);
    free(inference);
    free(first);
    close_network(&s);
}

static void error_function(void **state) {
    (void)state;
    double worst = 0;
    for (double x = -6; x <= 6; x += 1e-4)
        worst = fmax(worst, fabs(cpu_erf((float)x) - erf((float)x)));
    printf("erf is off by %.2g at most\n", worst);
    assert_true(worst < 5e-7);
}

static void refused(struct dml_graph *g, const char *message) {
    assert_int_equal(dml_graph_finish(g, 0), DML_ERROR_USAGE);
    if (!strstr(dml_error(), message))
        fail_msg("%s", dml_error());
    dml_graph_free(g);
}

static void misuse_is_refused(void **state) {
    (void)state;
    struct tokens t = start(false, 0);
    dml_graph_max_pool(t.graph, t.x, 2, 2, 0, false);
    refused(t.graph, "takes a feature map, not tokens");
    t = start(false, 0);
    dml_graph_attention(t.graph, t.x, 4);
    refused(t.graph, "3 times a multiple of the heads");
    t = start(false, 0);
    dml_graph_token_pool(t.graph, t.x, DML_TOKENS_DISTILLED);
    refused(t.graph, "does not have the tokens");
    t = start(false, 0);
    dml_graph_drop_path(t.graph, t.x, 1);
    refused(t.graph, "below 1");
    struct dml_graph *g = dml_graph_new();
    dml_graph_gelu(g, dml_graph_input(g, 3, 8, 8), false);
    refused(g, "takes tokens");
    g = dml_graph_new();
    dml_graph_layer_norm(g, dml_graph_input(g, 3, 8, 8), "norm", 1e-6f, true);
    refused(g, "one pixel, or tokens");
    t = start(false, 0);
    assert_int_equal(dml_graph_finish(t.graph, t.x), DML_ERROR_USAGE);
    assert_non_null(strstr(dml_error(), "is not a vector"));
    dml_graph_free(t.graph);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_and_pools),
        cmocka_unit_test(tokens_of_feature_maps),
        cmocka_unit_test(layer_norm),
        cmocka_unit_test(linear),
        cmocka_unit_test(attention),
        cmocka_unit_test(gelu),
        cmocka_unit_test(layer_scale),
        cmocka_unit_test(drop_path),
        cmocka_unit_test(whole_blocks),
        cmocka_unit_test(pieces_are_exact),
        cmocka_unit_test(recomputation_changes_no_bit),
        cmocka_unit_test(products_of_bfloat16),
        cmocka_unit_test(branches_are_dropped_per_image),
        cmocka_unit_test(error_function),
        cmocka_unit_test(misuse_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
