/* Networks with --precision bf16: natively where the processor can, else emulated (DML_BF16). */
#include "backends/cpu/convolution.h"
#include "support/golden.h"
#include "support/networks.h"
#include "support/optimising.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct dml_network_options bf16 = {.precision = DML_PRECISION_BF16};

/* bf16 is for processors that are faster with it, which take it; elsewhere the reason is given. */
static void needs_its_processor(void **state) {
    (void)state;
    unsetenv("DML_BF16");
    bool native = cpu_engine_bf16() == CPU_BF16_NATIVE;
    static const char *const values[] = {NULL, "", "yes", "1"}; /* none of them asks for it */
    for (size_t k = 0; k < sizeof values / sizeof *values; k++) {
        struct dml_graph *graph = graph_of("resnet18_frozen", 32);
        struct dml_network *network = NULL;
        if (values[k])
            setenv("DML_BF16", values[k], 1);
        enum dml_status status = dml_network_open(&dml_backend_cpu, graph, &bf16, &network);
        if (native) {
            assert_ok(status);
            dml_network_close(network);
            continue;
        }
        assert_int_equal(status, DML_ERROR_UNSUPPORTED);
        assert_null(network);
        dml_graph_free(graph);
        const char said[] = "--precision bf16: it would not be faster";
        assert_non_null(strstr(dml_error(), said));
        if (tested() != &dml_backend_cpu)
            continue; /* a card that takes its place */
        const struct dml_backend *backend;
        const char *note;
        const struct dml_backend_wishes wishes = {.precision = DML_PRECISION_BF16};
        assert_int_equal(dml_backend_select(&wishes, &backend, &note), DML_ERROR_UNSUPPORTED);
        assert_null(backend);
        assert_non_null(strstr(dml_error(), said));
    }
}

/* ||a - b|| / ||b|| over the gradients of all parameters. */
static double gradient_difference(const struct setting *a, const struct setting *b) {
    double difference = 0, size = 0;
    for (int p = 0; p < a->graph->param_count; p++) {
        if (!dml_param_learnable(&a->graph->params[p]))
            continue;
        float *x = read_param(a, p, DML_SLOT_GRAD), *y = read_param(b, p, DML_SLOT_GRAD);
        for (size_t i = 0; i < a->graph->params[p].count; i++) {
            difference += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
            size += (double)y[i] * y[i];
        }
        free(x);
        free(y);
    }
    return sqrt(difference / size);
}

static void check_near_float32(struct dml_graph *(*make)(bool), bool frozen) {
    struct setting f, b;
    open_network(&f, make(frozen), 6, (struct dml_network_options){0});
    open_network(&b, make(frozen), 6, bf16);
    loss_of(&f);
    loss_of(&b);
    close_to(b.embeddings, f.embeddings, 6 * f.dim, 2e-2);
    assert_memory_not_equal(b.embeddings, f.embeddings, 6 * f.dim * sizeof *f.embeddings);
    assert_ok(dml_network_backward(f.network, f.grad));
    assert_ok(dml_network_backward(b.network, b.grad));
    double difference = gradient_difference(&b, &f);
    printf("gradients differ by %.2g\n", difference);
    assert_true(difference <= (frozen ? 2e-2 : 0.1));
    if (frozen) { /* inference folds the same way */
        memcpy(f.embeddings, b.embeddings, 6 * f.dim * sizeof *f.embeddings);
        assert_ok(dml_network_embed(b.network, &b.images, b.embeddings));
        close_to(b.embeddings, f.embeddings, 6 * f.dim, 1e-2);
    }
    close_network(&f);
    close_network(&b);
}

static void is_near_float32(void **state) {
    (void)state;
    need_bf16();
    check_near_float32(unusual_graph, true);
    check_near_float32(unusual_graph, false);
    check_near_float32(sharing_graph, true);
}

/* Adds the gradients of images first..first+n-1 alone to those of `sums`, parameter by parameter.
 */
static void add_gradients(struct setting *s, size_t first, size_t n, float **sums) {
    const struct dml_node *input = &s->graph->nodes[0];
    struct dml_images images = s->images;
    images.n = n;
    images.pixels += first * 3 * (size_t)(input->height * input->width);
    assert_ok(dml_network_forward(s->network, &images, s->embeddings + first * s->dim));
    assert_ok(dml_network_backward(s->network, s->grad + first * s->dim));
    for (int p = 0; p < s->graph->param_count; p++) {
        if (!dml_param_learnable(&s->graph->params[p]))
            continue;
        float *grad = read_param(s, p, DML_SLOT_GRAD);
        for (size_t i = 0; i < s->graph->params[p].count; i++)
            sums[p][i] += grad[i];
        free(grad);
    }
}

/* A batch in pieces of 4, 4 and 3: what the pieces give alone, added up in float32; and the whole
 * batch's, but for activations whose float32 sums, taken in another order for another number of
 * images, round to the other of two bfloat16 neighbours. */
static void micro_batches_are_exact(void **state) {
    (void)state;
    need_bf16();
    struct setting whole, pieces;
    struct dml_network_options micro = bf16;
    micro.micro_batch = 4;
    open_network(&whole, graph_of("resnet18_frozen_normalize", 64), 11, bf16);
    open_network(&pieces, graph_of("resnet18_frozen_normalize", 64), 11, micro);
    loss_of(&whole);
    loss_of(&pieces);
    close_to(pieces.embeddings, whole.embeddings, 11 * 16, 1e-2);
    assert_ok(dml_network_backward(whole.network, whole.grad));
    assert_ok(dml_network_backward(pieces.network, pieces.grad));
    double difference = gradient_difference(&pieces, &whole);
    printf("gradients in pieces differ by %.2g\n", difference);
    assert_true(difference <= 2e-2);
    float **sums = malloc((size_t)whole.graph->param_count * sizeof *sums);
    for (int p = 0; p < whole.graph->param_count; p++)
        sums[p] = calloc(whole.graph->params[p].count, sizeof **sums);
    for (size_t first = 0; first < 11; first += 4)
        add_gradients(&whole, first, first == 8 ? 3 : 4, sums);
    for (int p = 0; p < whole.graph->param_count; p++) {
        if (dml_param_learnable(&whole.graph->params[p])) {
            float *grad = read_param(&pieces, p, DML_SLOT_GRAD);
            close_to(grad, sums[p], whole.graph->params[p].count, 1e-6);
            free(grad);
        }
        free(sums[p]);
    }
    free(sums);
    close_network(&whole);
    close_network(&pieces);
}

/* Steps smaller than what bfloat16 tells apart are kept. */
static void weights_are_float32(void **state) {
    (void)state;
    need_bf16();
    struct setting s;
    open_network(&s, graph_of("resnet18_frozen", 32), 4, bf16);
    loss_of(&s);
    assert_ok(dml_network_backward(s.network, s.grad));
    float *grad = read_param(&s, 0, DML_SLOT_GRAD), *before = read_param(&s, 0, DML_SLOT_VALUE);
    struct stepper sgd;
    open_stepper(&sgd, s.graph, "sgd", NULL, 1e-6);
    take_step(&sgd, s.network);
    close_stepper(&sgd);
    float *after = read_param(&s, 0, DML_SLOT_VALUE);
    size_t count = s.graph->params[0].count, moved = 0;
    for (size_t i = 0; i < count; i++) {
        float right = before[i] - 1e-6f * grad[i];
        assert_true(fabsf(after[i] - right) <= 1e-6f * fabsf(right) + 1e-12f);
        moved += after[i] != before[i];
    }
    assert_true(moved > count / 2);
    free(grad);
    free(before);
    free(after);
    close_network(&s);
}

/* What checkpoints hold, float32 weights and moments, continues a run to the bit. */
static void is_restored_exactly(void **state) {
    (void)state;
    need_bf16();
    struct setting a, b;
    open_network(&a, graph_of("resnet18_normalize", 32), 6, bf16);
    open_network(&b, graph_of("resnet18_normalize", 32), 6, bf16);
    train_step(&a, 1);
    copy_parameters(&a, &b);
    train_step(&a, 2);
    train_step(&b, 2);
    assert_ok(dml_network_embed(a.network, &a.images, a.embeddings));
    assert_ok(dml_network_embed(b.network, &b.images, b.embeddings));
    assert_memory_equal(a.embeddings, b.embeddings, 6 * 16 * sizeof *a.embeddings);
    close_network(&a);
    close_network(&b);
}

/* Training and inference in turns: each reads its own form of the weights. */
static void weights_follow_the_pass(void **state) {
    (void)state;
    need_bf16();
    struct setting s;
    open_network(&s, graph_of("resnet18_normalize", 32), 6, bf16);
    float first[6 * 16], second[6 * 16];
    loss_of(&s);
    assert_ok(dml_network_embed(s.network, &s.images, first));
    float *trained = malloc(sizeof first);
    memcpy(trained, s.embeddings, sizeof first);
    double again = loss_of(&s);
    assert_true(isfinite(again));
    assert_memory_equal(trained, s.embeddings, sizeof first); /* statistics are the batch's */
    struct stepper sgd;
    open_stepper(&sgd, s.graph, "sgd", NULL, 1e-2);
    assert_ok(dml_network_backward(s.network, s.grad));
    take_step(&sgd, s.network);
    close_stepper(&sgd);
    assert_true(loss_of(&s) < again);
    assert_ok(dml_network_embed(s.network, &s.images, second));
    assert_memory_not_equal(first, second, sizeof first);
    free(trained);
    close_network(&s);
}

static struct dml_graph *pooled_and_convolved(void) {
    struct dml_graph *g = dml_graph_new();
    int x = dml_graph_conv(g, dml_graph_input(g, 3, 8, 8), "a", 16, 3, 1, 1, true);
    int pooled = dml_graph_conv(g, dml_graph_global_avg_pool(g, x), "b", 16, 1, 1, 0, true);
    assert_ok(dml_graph_finish(g, dml_graph_linear(g, pooled, "head", 7)));
    return g;
}

static struct dml_graph *without_a_head(void) {
    struct dml_graph *g = dml_graph_new();
    int x = dml_graph_conv(g, dml_graph_input(g, 3, 8, 8), "a", 7, 8, 1, 0, true);
    assert_ok(dml_graph_finish(g, x));
    return g;
}

/* Graphs whose maps and vectors meet are refused, by node. */
static void refuses_mixed_graphs(void **state) {
    (void)state;
    need_bf16();
    struct dml_graph *(*const makers[])(void) = {pooled_and_convolved, without_a_head};
    for (size_t k = 0; k < 2; k++) {
        struct setting f, b;
        open_network(&f, makers[k](), 2, (struct dml_network_options){0});
        open_network(&b, makers[k](), 2, bf16);
        loss_of(&f);
        assert_int_equal(dml_network_forward(b.network, &b.images, b.embeddings),
                         DML_ERROR_UNSUPPORTED);
        assert_non_null(strstr(dml_error(), k ? "(node 1)" : "node 3"));
        close_network(&f);
        close_network(&b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(needs_its_processor),     cmocka_unit_test(is_near_float32),
        cmocka_unit_test(micro_batches_are_exact), cmocka_unit_test(weights_are_float32),
        cmocka_unit_test(is_restored_exactly),     cmocka_unit_test(weights_follow_the_pass),
        cmocka_unit_test(refuses_mixed_graphs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
