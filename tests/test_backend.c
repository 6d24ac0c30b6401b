#include "backends/backend.h"
#include "support/golden.h"

#include "dml/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A network with random parameters and random pixels. */
struct setting {
    struct dml_graph *graph;
    struct dml_network *network;
    struct dml_images images;
    uint8_t *pixels;
    size_t dim;
    float *embeddings, *grad;
};

static const struct dml_backend *const cpu = &dml_backend_cpu;

static void open_graph(struct setting *s, struct dml_graph *graph, size_t n, size_t micro) {
    *s = (struct setting){.graph = graph, .dim = (size_t)graph->embed_dim};
    struct dml_network_options options = {.micro_batch = micro, .batch_hint = n};
    assert_ok(cpu->create(graph, &options, &s->network));
    struct dml_rng rng = dml_rng_make(5, DML_PURPOSE_OTHER, 0, 0);
    for (int p = 0; p < graph->param_count; p++) {
        const struct dml_graph_param *param = &graph->params[p];
        float *values = malloc(param->count * sizeof *values);
        dml_graph_init_param(graph, p, 3, values);
        /* Batch norms that do something. */
        for (size_t i = 0; i < param->count && param->role >= DML_ROLE_NORM_WEIGHT; i++)
            values[i] += (float)(0.6 * dml_rng_uniform(&rng) - 0.3);
        assert_ok(cpu->write(s->network, p, DML_SLOT_VALUE, values));
        free(values);
    }
    const struct dml_node *input = &graph->nodes[0];
    size_t bytes = n * 3 * (size_t)(input->height * input->width);
    s->pixels = malloc(bytes);
    s->embeddings = calloc(n * s->dim, sizeof *s->embeddings);
    s->grad = malloc(n * s->dim * sizeof *s->grad);
    for (size_t i = 0; i < bytes; i++)
        s->pixels[i] = (uint8_t)dml_rng_bits(&rng);
    for (size_t i = 0; i < n * s->dim; i++)
        s->grad[i] = (float)dml_rng_normal(&rng);
    s->images = (struct dml_images){
        .n = n, .height = input->height, .width = input->width, .pixels = s->pixels};
}

static void open_arch(struct setting *s, const char *arch, int size, size_t n, size_t micro) {
    struct dml_graph *graph;
    assert_ok(dml_graph_build(arch, 16, size, &graph));
    open_graph(s, graph, n, micro);
}

static void close_setting(struct setting *s) {
    cpu->destroy(s->network);
    dml_graph_free(s->graph);
    free(s->pixels);
    free(s->embeddings);
    free(s->grad);
}

static float *read_param(const struct setting *s, int p, enum dml_slot slot) {
    float *values = malloc(s->graph->params[p].count * sizeof *values);
    assert_non_null(values);
    assert_ok(cpu->read(s->network, p, slot, values));
    return values;
}

/* Every kind of node that the backbones do not use, odd channel counts, rectangular windows, pools
 * that overhang, tensors used more than once: gradients are compared with finite differences. */
static struct dml_graph *unusual_graph(bool frozen) {
    struct dml_graph *g = dml_graph_new();
    int x = dml_graph_input(g, 3, 13, 11);
    int a = dml_graph_conv_rect(g, x, "a", 12, 3, 5, 1, 1, 2, true);
    int b =
        dml_graph_batch_norm(g, dml_graph_conv(g, x, "b", 12, 1, 1, 0, true), "bn", 1e-3f, 0.2f);
    int sum = dml_graph_add(g, a, b); /* no relu behind it */
    float scale[12], shift[12];
    for (int c = 0; c < 12; c++) {
        scale[c] = 0.5f + 0.1f * (float)c;
        shift[c] = 0.3f - 0.05f * (float)c;
    }
    int affine = dml_graph_relu(g, dml_graph_affine(g, sum, scale, shift));
    int max = dml_graph_max_pool(g, affine, 3, 2, 0, true);
    int average = dml_graph_avg_pool(g, affine, 3, 2, 0, true, true);
    int odd = dml_graph_conv(g, max, "odd", 5, 3, 1, 1, false); /* 5 channels */
    int both = dml_graph_concat(g, (int[]){odd, average, max}, 3);
    int norm = dml_graph_relu(g, dml_graph_batch_norm(g, both, "bn2", 1e-5f, 0.1f));
    int inner = dml_graph_avg_pool(g, norm, 3, 1, 1, false, false);
    int wide = dml_graph_conv(g, inner, "wide", 29, 3, 2, 1, true);
    int pooled =
        dml_graph_add(g, dml_graph_global_avg_pool(g, wide), dml_graph_global_max_pool(g, wide));
    int out = dml_graph_l2_normalize(g, dml_graph_linear(g, pooled, "head", 7));
    assert_ok(dml_graph_finish(g, out));
    g->frozen = frozen;
    return g;
}

static double loss_of(struct setting *s) {
    assert_ok(cpu->forward(s->network, &s->images, s->embeddings));
    double loss = 0;
    for (size_t i = 0; i < s->images.n * s->dim; i++)
        loss += (double)s->embeddings[i] * s->grad[i];
    return loss;
}

/* Along the gradient itself, for each parameter: loss(w + h g) - loss(w - h g) = 2 h ||g||^2. */
static void check_differences(bool frozen) {
    struct setting s;
    open_graph(&s, unusual_graph(frozen), 6, 0);
    loss_of(&s);
    assert_ok(cpu->backward(s.network, s.grad));
    for (int p = 0; p < s.graph->param_count; p++) {
        const struct dml_graph_param *param = &s.graph->params[p];
        if (param->role == DML_ROLE_RUNNING_MEAN || param->role == DML_ROLE_RUNNING_VAR)
            continue;
        float *values = read_param(&s, p, DML_SLOT_VALUE), *grad = read_param(&s, p, DML_SLOT_GRAD);
        float *moved = malloc(param->count * sizeof *moved);
        double norm2 = 0, losses[2];
        for (size_t i = 0; i < param->count; i++)
            norm2 += (double)grad[i] * grad[i];
        double h = 2e-3 / sqrt(norm2 + 1e-12);
        for (int side = 0; side < 2; side++) {
            for (size_t i = 0; i < param->count; i++)
                moved[i] = values[i] + (float)((side ? -h : h) * grad[i]);
            assert_ok(cpu->write(s.network, p, DML_SLOT_VALUE, moved));
            losses[side] = loss_of(&s);
        }
        assert_ok(cpu->write(s.network, p, DML_SLOT_VALUE, values));
        double slope = (losses[0] - losses[1]) / (2 * h);
        if (!(fabs(slope - norm2) <= 0.03 * norm2 + 0.01 * sqrt(norm2)))
            fail_msg("%s (%s): slope %g, gradient says %g", param->name,
                     frozen ? "frozen" : "batch statistics", slope, norm2);
        free(values);
        free(grad);
        free(moved);
    }
    close_setting(&s);
}

static void gradients_are_slopes(void **state) {
    (void)state;
    check_differences(true);
    check_differences(false);
}

/* Training and inference fold differently but mean the same. */
static void embed_is_frozen_forward(void **state) {
    (void)state;
    struct setting s;
    open_graph(&s, unusual_graph(true), 6, 0);
    loss_of(&s);
    float again[6 * 7];
    assert_ok(cpu->embed(s.network, &s.images, again));
    for (size_t i = 0; i < 6 * 7; i++)
        assert_true(fabsf(again[i] - s.embeddings[i]) < 2e-6f);
    close_setting(&s);
}

static void close_to(const float *a, const float *b, size_t count, double tolerance) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < count; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        size += (double)b[i] * b[i];
    }
    assert_true(sqrt(difference) <= tolerance * sqrt(size) + 1e-7);
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
    assert_ok(cpu->backward(whole.network, whole.grad));
    assert_ok(cpu->backward(pieces.network, pieces.grad));
    for (int p = 0; p < whole.graph->param_count; p++) {
        if (whole.graph->params[p].role >= DML_ROLE_RUNNING_MEAN)
            continue;
        float *a = read_param(&pieces, p, DML_SLOT_GRAD), *b = read_param(&whole, p, DML_SLOT_GRAD);
        close_to(a, b, whole.graph->params[p].count, 1e-4);
        free(a);
        free(b);
    }
    close_setting(&whole);
    close_setting(&pieces);
}

/* Any number of images, in any order of calls, gives each image its embedding. */
static void embed_takes_any_number(void **state) {
    (void)state;
    enum { MOST = 150 };
    struct setting s;
    open_arch(&s, "resnet18_frozen", 32, MOST, 0);
    assert_ok(cpu->embed(s.network, &s.images, s.embeddings));
    static const size_t counts[] = {1, 7, 130, 3, 150, 0};
    float *some = malloc(MOST * s.dim * sizeof *some);
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        struct dml_images part = s.images;
        part.n = counts[k];
        assert_ok(cpu->embed(s.network, &part, some));
        close_to(some, s.embeddings, counts[k] * s.dim, 1e-5);
    }
    free(some);
    close_setting(&s);
}

/* 8-bit pixels and the floats that they stand for. */
static void pixels_are_normalised(void **state) {
    (void)state;
    static const char *const archs[] = {"resnet18_frozen", "bninception_frozen",
                                        "googlenet_frozen"};
    for (size_t k = 0; k < 3; k++) {
        if (!dml_architecture_find(archs[k]))
            continue;
        struct setting s;
        open_arch(&s, archs[k], 64, 2, 0);
        assert_ok(cpu->embed(s.network, &s.images, s.embeddings));
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
        assert_ok(cpu->embed(s.network, &floats, other));
        close_to(other, s.embeddings, 32, 1e-5);
        free(input);
        close_setting(&s);
    }
}

static void train_step(struct setting *s, int64_t index) {
    struct dml_optimiser_step step = {.kind = DML_ADAM,
                                      .lr = 1e-3,
                                      .head_lr = -1,
                                      .beta1 = 0.9,
                                      .beta2 = 0.999,
                                      .epsilon = 1e-8,
                                      .step = index};
    loss_of(s);
    assert_ok(cpu->backward(s->network, s->grad));
    assert_ok(cpu->step(s->network, &step));
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
    close_setting(&a);
    close_setting(&b);
}

/* Moments written back continue an optimiser exactly. */
static void optimiser_can_be_restored(void **state) {
    (void)state;
    struct setting a, b;
    open_arch(&a, "resnet18_frozen", 32, 4, 0);
    open_arch(&b, "resnet18_frozen", 32, 4, 0);
    train_step(&a, 1);
    for (int p = 0; p < a.graph->param_count; p++)
        for (enum dml_slot slot = DML_SLOT_VALUE; slot <= DML_SLOT_MOMENT2; slot++) {
            if (slot != DML_SLOT_VALUE && a.graph->params[p].role >= DML_ROLE_RUNNING_MEAN)
                continue;
            float *values = read_param(&a, p, slot);
            assert_ok(cpu->write(b.network, p, slot, values));
            free(values);
        }
    train_step(&a, 2);
    train_step(&b, 2);
    for (int p = 0; p < a.graph->param_count; p++) {
        float *x = read_param(&a, p, DML_SLOT_VALUE), *y = read_param(&b, p, DML_SLOT_VALUE);
        assert_memory_equal(x, y, a.graph->params[p].count * sizeof *x);
        free(x);
        free(y);
    }
    close_setting(&a);
    close_setting(&b);
}

/* The head's own rate: with rate 0 for everything else, only the head moves. */
static void head_has_its_rate(void **state) {
    (void)state;
    struct setting s;
    open_arch(&s, "resnet18_frozen", 32, 4, 0);
    loss_of(&s);
    assert_ok(cpu->backward(s.network, s.grad));
    float **before = malloc((size_t)s.graph->param_count * sizeof *before);
    for (int p = 0; p < s.graph->param_count; p++)
        before[p] = read_param(&s, p, DML_SLOT_VALUE);
    struct dml_optimiser_step step = {
        .kind = DML_SGD, .lr = 0, .head_lr = 0.1, .momentum = 0.9, .step = 1};
    assert_ok(cpu->step(s.network, &step));
    for (int p = 0; p < s.graph->param_count; p++) {
        float *after = read_param(&s, p, DML_SLOT_VALUE);
        size_t bytes = s.graph->params[p].count * sizeof *after;
        assert_int_equal(memcmp(before[p], after, bytes) != 0, s.graph->params[p].head);
        free(before[p]);
        free(after);
    }
    free(before);
    close_setting(&s);
}

static void gradient_size_is_reported(void **state) {
    (void)state;
    struct setting s;
    open_arch(&s, "resnet18_frozen_normalize", 32, 4, 0);
    loss_of(&s);
    assert_ok(cpu->backward(s.network, s.grad));
    double squares = 0, largest = 0, count = 0, rms, max;
    for (int p = 0; p < s.graph->param_count; p++) {
        if (s.graph->params[p].role >= DML_ROLE_RUNNING_MEAN)
            continue;
        float *grad = read_param(&s, p, DML_SLOT_GRAD);
        for (size_t i = 0; i < s.graph->params[p].count; i++) {
            squares += (double)grad[i] * grad[i];
            largest = fmax(largest, fabsf(grad[i]));
        }
        count += (double)s.graph->params[p].count;
        free(grad);
    }
    assert_ok(cpu->gradient_size(s.network, &rms, &max));
    assert_true(fabs(rms - sqrt(squares / count)) < 1e-9 + 1e-6 * rms && max == largest);
    s.grad[0] = NAN;
    loss_of(&s);
    assert_ok(cpu->backward(s.network, s.grad));
    assert_ok(cpu->gradient_size(s.network, &rms, &max));
    assert_true(isnan(rms) && isnan(max));
    close_setting(&s);
}

static void refusals(void **state) {
    (void)state;
    struct dml_graph *graph;
    struct dml_network *network = NULL;
    assert_ok(dml_graph_build("resnet18", 16, 32, &graph));
    struct dml_network_options micro = {.micro_batch = 4};
    assert_int_equal(cpu->create(graph, &micro, &network), DML_ERROR_UNSUPPORTED);
    assert_null(network);
    assert_non_null(strstr(dml_error(), "_frozen"));
    dml_graph_free(graph);

    struct setting s;
    open_arch(&s, "resnet18", 32, 2, 0);
    assert_int_equal(cpu->backward(s.network, s.grad), DML_ERROR_USAGE);
    struct dml_images wrong = s.images;
    wrong.height = 31;
    assert_int_equal(cpu->embed(s.network, &wrong, s.embeddings), DML_ERROR_INPUT);
    wrong = s.images;
    wrong.pixels = NULL;
    assert_int_equal(cpu->forward(s.network, &wrong, s.embeddings), DML_ERROR_USAGE);
    wrong = s.images;
    wrong.n = 0;
    assert_int_equal(cpu->forward(s.network, &wrong, s.embeddings), DML_ERROR_INPUT);
    wrong.n = 1; /* the last stage has one pixel: no statistics of one value */
    assert_int_equal(cpu->forward(s.network, &wrong, s.embeddings), DML_ERROR_INPUT);
    assert_non_null(strstr(dml_error(), "batch statistics"));
    float value;
    assert_int_equal(cpu->read(s.network, -1, DML_SLOT_VALUE, &value), DML_ERROR_USAGE);
    assert_int_equal(cpu->read(s.network, 3, DML_SLOT_GRAD, &value), DML_ERROR_USAGE);
    /* What a forward pass kept is gone after embed. */
    loss_of(&s);
    assert_ok(cpu->embed(s.network, &s.images, s.embeddings));
    assert_int_equal(cpu->backward(s.network, s.grad), DML_ERROR_USAGE);
    close_setting(&s);
}

/* bf16 is for processors that are faster with it; elsewhere the reason is given. */
static void bf16_needs_its_processor(void **state) {
    (void)state;
    struct dml_graph *graph;
    struct dml_network *network;
    assert_ok(dml_graph_build("resnet18_frozen", 16, 32, &graph));
    struct dml_network_options options = {.precision = DML_PRECISION_BF16};
    assert_int_equal(cpu->create(graph, &options, &network), DML_ERROR_UNSUPPORTED);
    assert_non_null(strstr(dml_error(), "bf16"));
    dml_graph_free(graph);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_slopes),      cmocka_unit_test(embed_is_frozen_forward),
        cmocka_unit_test(micro_batches_are_exact),   cmocka_unit_test(embed_takes_any_number),
        cmocka_unit_test(pixels_are_normalised),     cmocka_unit_test(repeats_to_the_bit),
        cmocka_unit_test(optimiser_can_be_restored), cmocka_unit_test(head_has_its_rate),
        cmocka_unit_test(gradient_size_is_reported), cmocka_unit_test(refusals),
        cmocka_unit_test(bf16_needs_its_processor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
