#include "support/golden.h"
#include "support/networks.h"
#include "support/optimising.h"

#include "dml/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void open_graph(struct setting *s, struct dml_graph *graph, size_t n, size_t micro) {
    open_network(s, graph, n, (struct dml_network_options){.micro_batch = micro});
}

static void open_arch(struct setting *s, const char *arch, int size, size_t n, size_t micro) {
    open_graph(s, graph_of(arch, size), n, micro);
}

static void gradients_are_slopes(void **state) {
    (void)state;
    check_differences(unusual_graph(true));
    check_differences(unusual_graph(false));
    check_differences(sharing_graph(true));
}

/* A map of 5 x 3 pixels and 19 channels, some of them 0, pooled in every way. */
static struct dml_graph *pooled_graph(enum dml_pooling pool, bool frozen) {
    struct dml_graph *g = dml_graph_new();
    int x = dml_graph_input(g, 3, 9, 5);
    x = dml_graph_batch_norm(g, dml_graph_conv(g, x, "a", 19, 3, 2, 1, false), "bn", 1e-5f, 0.1f);
    const struct dml_convolutional_options o = {
        .head = {.normalize = true}, .frozen = frozen, .pool = pool};
    int out = dml_graph_pooled_head(g, dml_graph_relu(g, x), "last_linear", 6, &o);
    assert_ok(dml_graph_finish(g, out));
    return g;
}

static void poolings_have_slopes(void **state) {
    (void)state;
    for (int pool = DML_POOL_AVG; pool <= DML_POOL_GEM; pool++)
        for (int frozen = 0; frozen < 2; frozen++)
            check_differences(pooled_graph((enum dml_pooling)pool, frozen));
}

/* Whatever its power has become, a mean lies between the least and the largest pixel, and what is
 * not finite does not vanish in it. */
static void generalised_means_of_any_power(void **state) {
    (void)state;
    static const float powers[] = {0.25f, 1, 3, 40, 300, -2};
    struct setting s;
    struct dml_graph *g = dml_graph_new();
    int x = dml_graph_input(g, 3, 5, 7);
    assert_ok(dml_graph_finish(g, dml_graph_global_gem_pool(g, x, "pool")));
    open_graph(&s, g, 2, 0);
    float input[2 * 3 * 35];
    for (int i = 0; i < 2 * 3 * 35; i++)
        input[i] = 0.5f + 0.01f * (float)(i % 35);
    s.images = (struct dml_images){.n = 2, .height = 5, .width = 7, .input = input};
    for (size_t k = 0; k < sizeof powers / sizeof *powers; k++) {
        assert_ok(dml_network_write(s.network, 0, DML_SLOT_VALUE, &powers[k]));
        assert_ok(dml_network_embed(s.network, &s.images, s.embeddings));
        double mean = 0;
        for (int i = 0; i < 35; i++)
            mean += pow(0.5 + 0.01 * i, powers[k]) / 35;
        for (int c = 0; c < 6; c++)
            assert_true(fabs(s.embeddings[c] - pow(mean, 1 / powers[k])) < 2e-6);
    }
    input[40] = NAN;
    input[80] = INFINITY;
    assert_ok(dml_network_embed(s.network, &s.images, s.embeddings));
    for (int c = 0; c < 6; c++)
        assert_int_equal(isfinite(s.embeddings[c]), c != 1 && c != 2);
    close_network(&s);
}

/* Training and inference fold differently but mean the same. */
static void embed_is_frozen_forward(void **state) {
    (void)state;
    struct setting s;
    open_graph(&s, unusual_graph(true), 6, 0);
    loss_of(&s);
    float again[6 * 7];
    assert_ok(dml_network_embed(s.network, &s.images, again));
    for (size_t i = 0; i < 6 * 7; i++)
        assert_true(fabsf(again[i] - s.embeddings[i]) < 2e-6f);
    close_network(&s);
}

/* A batch in pieces of 4, 4 and 3 gives the gradients of the whole. */
static void micro_batches_are_exact(void **state) {
    (void)state;
    struct setting whole, pieces;
    open_arch(&whole, "resnet18_frozen_normalize", 32, 11, 0);
    open_arch(&pieces, "resnet18_frozen_normalize", 32, 11, 4);
    loss_of(&whole);
    loss_of(&pieces);
    close_to(pieces.embeddings, whole.embeddings, 11 * 16, 1e-5);
    assert_ok(dml_network_backward(whole.network, whole.grad));
    assert_ok(dml_network_backward(pieces.network, pieces.grad));
    for (int p = 0; p < whole.graph->param_count; p++) {
        if (!dml_param_learnable(&whole.graph->params[p]))
            continue;
        float *a = read_param(&pieces, p, DML_SLOT_GRAD), *b = read_param(&whole, p, DML_SLOT_GRAD);
        close_to(a, b, whole.graph->params[p].count, 1e-4);
        free(a);
        free(b);
    }
    close_network(&whole);
    close_network(&pieces);
}

/* Any number of images, in any order of calls, gives each image its embedding. */
static void embed_takes_any_number(void **state) {
    (void)state;
    enum { MOST = 150 };
    struct setting s;
    open_arch(&s, "resnet18_frozen", 32, MOST, 0);
    assert_ok(dml_network_embed(s.network, &s.images, s.embeddings));
    static const size_t counts[] = {1, 7, 130, 3, 150, 0};
    float *some = malloc(MOST * s.dim * sizeof *some);
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        struct dml_images part = s.images;
        part.n = counts[k];
        assert_ok(dml_network_embed(s.network, &part, some));
        close_to(some, s.embeddings, counts[k] * s.dim, 1e-5);
    }
    free(some);
    close_network(&s);
}

/* What is erased of an image is 0 in the network's input, in pieces of a batch as well. */
static void erased_pixels_are_zero(void **state) {
    (void)state;
    enum { N = 5, SIDE = 32, PLANE = SIDE * SIDE };
    static const char *const archs[] = {"resnet18_frozen", "googlenet_frozen"};
    const struct dml_rect erased[N] = {
        {3, 4, 10, 20}, {0, 0, 0, 0}, {31, 0, 1, 32}, {0, 0, 32, 31}, {5, 5, 1, 1}};
    for (size_t k = 0; k < 2; k++) {
        struct setting s, pieces;
        open_arch(&s, archs[k], SIDE, N, 0);
        open_arch(&pieces, archs[k], SIDE, N, 2);
        const struct dml_input_transform *t = &s.graph->input;
        float *input = malloc(N * 3 * PLANE * sizeof *input), *expected = malloc(N * s.dim * 4);
        assert_true(input && expected);
        for (int i = 0; i < N; i++)
            for (int c = 0; c < 3; c++)
                for (int p = 0; p < PLANE; p++) {
                    const struct dml_rect *rect = &erased[i];
                    int x = p % SIDE - rect->left, y = p / SIDE - rect->top;
                    float v = (float)s.pixels[(i * PLANE + p) * 3 + c] / 255.0f;
                    bool inside = x >= 0 && x < rect->width && y >= 0 && y < rect->height;
                    input[(i * 3 + c) * PLANE + p] = inside ? 0 : (v - t->mean[c]) / t->std[c];
                }
        struct dml_images floats = {.n = N, .height = SIDE, .width = SIDE, .input = input};
        assert_ok(dml_network_embed(s.network, &floats, expected));
        s.images.erased = pieces.images.erased = erased;
        assert_ok(dml_network_embed(s.network, &s.images, s.embeddings));
        close_to(s.embeddings, expected, N * s.dim, 1e-6);
        loss_of(&pieces); /* the same parameters and pixels */
        close_to(pieces.embeddings, expected, N * s.dim, 1e-5);
        free(input);
        free(expected);
        close_network(&s);
        close_network(&pieces);
    }
}

/* 8-bit pixels and the floats that they stand for. */
static void pixels_are_normalised(void **state) {
    (void)state;
    static const char *const archs[] = {"resnet18_frozen", "bninception_frozen",
                                        "googlenet_frozen"};
    for (size_t k = 0; k < 3; k++) {
        if (!dml_backbone_find(archs[k]))
            continue;
        struct setting s;
        open_arch(&s, archs[k], 64, 2, 0);
        assert_ok(dml_network_embed(s.network, &s.images, s.embeddings));
        size_t plane = 64 * 64;
        float *input = malloc(2 * 3 * plane * sizeof *input), other[32];
        const struct dml_input_transform *t = &s.graph->input;
        for (size_t i = 0; i < 2; i++)
            for (size_t c = 0; c < 3; c++)
                for (size_t p = 0; p < plane; p++) {
                    size_t from = t->bgr ? 2 - c : c;
                    float v = (float)s.pixels[(i * plane + p) * 3 + from] / 255.0f;
                    input[(i * 3 + c) * plane + p] = (v - t->mean[from]) / t->std[from];
                }
        struct dml_images floats = {.n = 2, .height = 64, .width = 64, .input = input};
        assert_ok(dml_network_embed(s.network, &floats, other));
        close_to(other, s.embeddings, 32, 1e-5);
        free(input);
        close_network(&s);
    }
}

/* Two runs give the same bits, and training goes down the slope. */
static void repeats_to_the_bit(void **state) {
    (void)state;
    struct setting a, b;
    open_arch(&a, "resnet18_normalize", 32, 12, 0);
    open_arch(&b, "resnet18_normalize", 32, 12, 0);
    double first = loss_of(&a);
    for (int i = 1; i <= 3; i++) {
        train_step(&a, i);
        train_step(&b, i);
    }
    double last = loss_of(&a);
    assert_true(last < first - 1.0);
    loss_of(&b);
    /* `a` has seen one more forward pass, which moves running statistics alone. */
    assert_memory_equal(a.embeddings, b.embeddings, 12 * 16 * sizeof *a.embeddings);
    close_network(&a);
    close_network(&b);
}

/* Moments written back continue an optimiser exactly. */
static void optimiser_can_be_restored(void **state) {
    (void)state;
    struct setting a, b;
    open_arch(&a, "resnet18_frozen", 32, 4, 0);
    open_arch(&b, "resnet18_frozen", 32, 4, 0);
    train_step(&a, 1);
    copy_parameters(&a, &b);
    train_step(&a, 2);
    train_step(&b, 2);
    for (int p = 0; p < a.graph->param_count; p++) {
        float *x = read_param(&a, p, DML_SLOT_VALUE), *y = read_param(&b, p, DML_SLOT_VALUE);
        assert_memory_equal(x, y, a.graph->params[p].count * sizeof *x);
        free(x);
        free(y);
    }
    close_network(&a);
    close_network(&b);
}

/* The head's own rate: with rate 0 for everything else, only the head moves. */
static void head_has_its_rate(void **state) {
    (void)state;
    struct setting s;
    open_arch(&s, "resnet18_frozen", 32, 4, 0);
    loss_of(&s);
    assert_ok(dml_network_backward(s.network, s.grad));
    float **before = malloc((size_t)s.graph->param_count * sizeof *before);
    for (int p = 0; p < s.graph->param_count; p++)
        before[p] = read_param(&s, p, DML_SLOT_VALUE);
    struct stepper sgd;
    open_stepper(&sgd, s.graph, "sgd", NULL, 0);
    sgd.updates[1].lr = 0.1;
    take_step(&sgd, s.network);
    close_stepper(&sgd);
    for (int p = 0; p < s.graph->param_count; p++) {
        float *after = read_param(&s, p, DML_SLOT_VALUE);
        size_t bytes = s.graph->params[p].count * sizeof *after;
        assert_int_equal(memcmp(before[p], after, bytes) != 0, s.graph->params[p].head);
        free(before[p]);
        free(after);
    }
    free(before);
    close_network(&s);
}

static void gradient_size_is_reported(void **state) {
    (void)state;
    struct setting s;
    open_arch(&s, "resnet18_frozen_normalize", 32, 4, 0);
    loss_of(&s);
    assert_ok(dml_network_backward(s.network, s.grad));
    double squares = 0, largest = 0, count = 0;
    struct dml_gradient_size size;
    for (int p = 0; p < s.graph->param_count; p++) {
        if (!dml_param_learnable(&s.graph->params[p]))
            continue;
        float *grad = read_param(&s, p, DML_SLOT_GRAD);
        for (size_t i = 0; i < s.graph->params[p].count; i++) {
            squares += (double)grad[i] * grad[i];
            largest = fmax(largest, fabsf(grad[i]));
        }
        count += (double)s.graph->params[p].count;
        free(grad);
    }
    assert_ok(dml_network_gradient_size(s.network, NULL, &size));
    assert_true(fabs(size.rms - sqrt(squares / count)) < 1e-9 + 1e-6 * size.rms);
    assert_true(fabs(size.norm - sqrt(squares)) < 1e-9 + 1e-6 * size.norm);
    assert_true(size.max == largest);
    s.grad[0] = NAN;
    loss_of(&s);
    assert_ok(dml_network_backward(s.network, s.grad));
    assert_ok(dml_network_gradient_size(s.network, NULL, &size));
    assert_true(isnan(size.rms) && isnan(size.norm) && isnan(size.max));
    close_network(&s);
}

static void refusals(void **state) {
    (void)state;
    struct dml_graph *graph;
    struct dml_network *network = NULL;
    assert_ok(dml_graph_build("resnet18", 16, 32, &graph));
    struct dml_network_options micro = {.micro_batch = 4};
    assert_int_equal(dml_network_open(tested(), graph, &micro, &network), DML_ERROR_UNSUPPORTED);
    assert_null(network);
    assert_non_null(strstr(dml_error(), "_frozen"));
    dml_graph_free(graph);

    struct setting s;
    open_arch(&s, "resnet18", 32, 2, 0);
    assert_int_equal(dml_network_backward(s.network, s.grad), DML_ERROR_USAGE);
    struct dml_images wrong = s.images;
    wrong.height = 31;
    assert_int_equal(dml_network_embed(s.network, &wrong, s.embeddings), DML_ERROR_INPUT);
    wrong = s.images;
    wrong.pixels = NULL;
    assert_int_equal(dml_network_forward(s.network, &wrong, s.embeddings), DML_ERROR_USAGE);
    wrong = s.images;
    wrong.n = 0;
    assert_int_equal(dml_network_forward(s.network, &wrong, s.embeddings), DML_ERROR_INPUT);
    wrong.n = 1; /* the last stage has one pixel: no statistics of one value */
    assert_int_equal(dml_network_forward(s.network, &wrong, s.embeddings), DML_ERROR_INPUT);
    assert_non_null(strstr(dml_error(), "batch statistics"));
    float value;
    assert_int_equal(dml_network_read(s.network, -1, DML_SLOT_VALUE, &value), DML_ERROR_USAGE);
    assert_int_equal(dml_network_read(s.network, 3, DML_SLOT_GRAD, &value), DML_ERROR_USAGE);
    /* What a forward pass kept is gone after embed. */
    loss_of(&s);
    assert_ok(dml_network_embed(s.network, &s.images, s.embeddings));
    assert_int_equal(dml_network_backward(s.network, s.grad), DML_ERROR_USAGE);
    close_network(&s);
}

/* A batch that was announced, as one that was not: whole and in pieces, before and after others. */
static void announced_batches_are_those_that_come(void **state) {
    (void)state;
    enum { MOST = 11 };
    for (size_t micro = 0; micro <= 4; micro += 4) {
        struct setting s;
        open_arch(&s, "resnet18_frozen_normalize", 32, MOST, micro);
        size_t image = 3 * 32 * 32, count = MOST * s.dim;
        uint8_t *turned = malloc(MOST * image);
        float *expected[2] = {malloc(count * sizeof(float)), malloc(count * sizeof(float))};
        for (size_t i = 0; i < MOST * image; i++)
            turned[i] = s.pixels[MOST * image - 1 - i];
        struct dml_images both[2] = {s.images, s.images};
        both[1].pixels = turned;
        for (int k = 0; k < 2; k++)
            assert_ok(dml_network_forward(s.network, &both[k], expected[k]));
        for (int k = 0; k < 6; k++) {
            dml_network_announce(s.network, &both[(k + 1) % 2]);
            assert_ok(dml_network_forward(s.network, &both[k % 2], s.embeddings));
            assert_memory_equal(s.embeddings, expected[k % 2], count * sizeof(float));
            assert_ok(dml_network_backward(s.network, s.grad));
        }
        dml_network_announce(s.network, NULL);
        for (int k = 0; k < 2; k++)
            assert_ok(dml_network_embed(s.network, &both[k], expected[k]));
        for (int k = 0; k < 6; k++) {
            dml_network_announce(s.network, &both[(k + 1) % 2]);
            assert_ok(dml_network_embed(s.network, &both[k % 2], s.embeddings));
            assert_memory_equal(s.embeddings, expected[k % 2], count * sizeof(float));
        }
        dml_network_announce(s.network, NULL);
        for (int k = 0; k < 2; k++)
            free(expected[k]);
        free(turned);
        close_network(&s);
    }
}

/* A tensor with more users than a plan adds up the gradients of. */
static void too_many_users_are_refused(void **state) {
    (void)state;
    struct dml_graph *g = dml_graph_new();
    int x = dml_graph_conv(g, dml_graph_input(g, 3, 8, 8), "conv", 8, 3, 1, 1, true), sum = x;
    for (int k = 0; k < 13; k++)
        sum = dml_graph_relu(g, dml_graph_add(g, sum, x));
    assert_ok(dml_graph_finish(g, dml_graph_global_avg_pool(g, sum)));
    struct setting s;
    open_graph(&s, g, 2, 0);
    assert_int_equal(dml_network_forward(s.network, &s.images, s.embeddings),
                     DML_ERROR_UNSUPPORTED);
    assert_non_null(strstr(dml_error(), "node 1 is used by more than 12 others"));
    assert_ok(dml_network_embed(s.network, &s.images, s.embeddings)); /* which needs no gradients */
    close_network(&s);
}

/* Two processes with the same part of a batch each, of which the other one's gradients are there as
 * soon as they are asked for. */
static enum dml_status gather_twice(void *data, const void *mine, size_t bytes, void *all) {
    (void)data;
    memcpy(all, mine, bytes);
    memcpy((char *)all + bytes, mine, bytes);
    return DML_OK;
}

static enum dml_status double_at_once(void *sums, float *values, size_t count) {
    *(size_t *)sums += 1;
    for (size_t i = 0; i < count; i++)
        values[i] *= 2;
    return DML_OK;
}

static enum dml_status nothing_is_left(void *sums, bool wait) {
    (void)sums;
    (void)wait;
    return DML_OK;
}

/* Takes both graphs, of the same network, over. How often sums began. */
static size_t check_doubled(struct dml_graph *graph, struct dml_graph *same, size_t micro,
                            bool recompute) {
    size_t sums = 0;
    const struct dml_batch_parts parts = {.count = 2,
                                          .gather = gather_twice,
                                          .start_sum = double_at_once,
                                          .advance_sums = nothing_is_left,
                                          .sum_piece = 300,
                                          .data = &sums};
    struct dml_network_options options = {.micro_batch = micro, .recompute = recompute};
    struct setting plain, shared;
    open_network(&plain, graph, 11, options);
    options.parts = &parts;
    options.own_statistics = true;
    open_network(&shared, same, 11, options);
    copy_parameters(&plain, &shared);
    for (int step = 0; step < 2; step++) {
        loss_of(&plain);
        loss_of(&shared);
        assert_ok(dml_network_backward(plain.network, plain.grad));
        assert_ok(dml_network_backward(shared.network, shared.grad));
    }
    for (int p = 0; p < plain.graph->param_count; p++) {
        size_t count = plain.graph->params[p].count;
        if (!dml_param_learnable(&plain.graph->params[p]))
            continue;
        float *a = read_param(&plain, p, DML_SLOT_GRAD), *b = read_param(&shared, p, DML_SLOT_GRAD);
        for (size_t i = 0; i < count; i++)
            assert_true(2 * a[i] == b[i]);
        free(a);
        free(b);
    }
    close_network(&plain);
    close_network(&shared);
    return sums;
}

/* Sums over processes begin before the backward pass is over, each with gradients that it does not
 * change any more, and each gradient is in one of them. */
static void sums_are_of_complete_gradients(void **state) {
    (void)state;
    size_t sums = 0;
    for (int frozen = 0; frozen < 2; frozen++) {
        sums += check_doubled(unusual_graph(frozen), unusual_graph(frozen), 0, false);
        sums += check_doubled(sharing_graph(frozen), sharing_graph(frozen), 0, false);
    }
    static const char *const archs[] = {"resnet18_frozen_normalize", "resnet18_gem",
                                        "vitt16_normalize"};
    for (int k = 0; k < 3; k++) {
        const char *arch = archs[k];
        bool vit = k == 2, pieces = k != 1;
        sums += check_doubled(graph_of(arch, 32), graph_of(arch, 32), 0, vit);
        if (pieces) /* of 4, 4 and 3 images */
            sums += check_doubled(graph_of(arch, 32), graph_of(arch, 32), 4, false);
    }
    bool early = strcmp(tested()->name, "cpu") == 0;
    assert_true(early ? sums > 200 : sums == 2 * 9);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_slopes),
        cmocka_unit_test(poolings_have_slopes),
        cmocka_unit_test(generalised_means_of_any_power),
        cmocka_unit_test(embed_is_frozen_forward),
        cmocka_unit_test(micro_batches_are_exact),
        cmocka_unit_test(embed_takes_any_number),
        cmocka_unit_test(announced_batches_are_those_that_come),
        cmocka_unit_test(erased_pixels_are_zero),
        cmocka_unit_test(pixels_are_normalised),
        cmocka_unit_test(repeats_to_the_bit),
        cmocka_unit_test(optimiser_can_be_restored),
        cmocka_unit_test(head_has_its_rate),
        cmocka_unit_test(gradient_size_is_reported),
        cmocka_unit_test(refusals),
        cmocka_unit_test(too_many_users_are_refused),
        cmocka_unit_test(sums_are_of_complete_gradients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
