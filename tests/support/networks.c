#include "support/networks.h"

#include "backends/cpu/convolution.h"
#include "support/golden.h"
#include "support/optimising.h"

#include "dml/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void open_network(struct setting *s, struct dml_graph *graph, size_t n,
                  struct dml_network_options options) {
    *s = (struct setting){.graph = graph, .dim = (size_t)graph->embed_dim};
    options.batch_hint = n;
    assert_ok(dml_network_open(tested(), graph, &options, &s->network));
    struct dml_rng rng = dml_rng_make(5, DML_PURPOSE_OTHER, 0, 0);
    for (int p = 0; p < graph->param_count; p++) {
        const struct dml_graph_param *param = &graph->params[p];
        float *values = malloc(param->count * sizeof *values);
        dml_graph_init_param(graph, p, 3, values);
        /* Batch norms that do something. */
        for (size_t i = 0; i < param->count && param->role >= DML_ROLE_NORM_WEIGHT; i++)
            values[i] += (float)(0.6 * dml_rng_uniform(&rng) - 0.3);
        assert_ok(dml_network_write(s->network, p, DML_SLOT_VALUE, values));
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

struct dml_graph *graph_of(const char *arch, int size) {
    struct dml_graph *graph;
    assert_ok(dml_graph_build(arch, 16, size, &graph));
    return graph;
}

void close_network(struct setting *s) {
    dml_network_close(s->network);
    free(s->pixels);
    free(s->embeddings);
    free(s->grad);
}

float *read_param(const struct setting *s, int p, enum dml_slot slot) {
    float *values = malloc(s->graph->params[p].count * sizeof *values);
    assert_non_null(values);
    assert_ok(dml_network_read(s->network, p, slot, values));
    return values;
}

struct dml_graph *unusual_graph(bool frozen) {
    struct dml_graph *g = dml_graph_new();
    int x = dml_graph_input(g, 3, 13, 11);
    int a = dml_graph_conv_rect(g, x, "a", 12, 3, 5, 1, 1, 2, true);
    int b =
        dml_graph_batch_norm(g, dml_graph_conv(g, x, "b", 12, 1, 1, 0, true), "bn", 1e-3f, 0.2f);
    int sum = dml_graph_add(g, a, b); /* no relu after it */
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

struct dml_graph *sharing_graph(bool frozen) {
    struct dml_graph *g = dml_graph_new();
    int x = dml_graph_input(g, 3, 9, 9);
    int relu = dml_graph_relu(g, dml_graph_conv(g, x, "a", 16, 3, 1, 1, true));
    int max = dml_graph_max_pool(g, relu, 3, 2, 0, false); /* applies the relu's mask */
    int odd = dml_graph_conv(g, x, "odd", 5, 3, 2, 0, true);
    int whole = dml_graph_concat(g, (int[]){max, odd}, 2);
    int split = dml_graph_concat(g, (int[]){odd, whole}, 2); /* within groups of channels */
    int again = dml_graph_add(g, dml_graph_conv(g, split, "again", 5, 1, 1, 0, true), odd);
    int average = dml_graph_l2_normalize(g, dml_graph_global_avg_pool(g, again));
    int largest = dml_graph_l2_normalize(g, dml_graph_global_max_pool(g, again));
    int both = dml_graph_concat(g, (int[]){average, largest}, 2);
    assert_ok(dml_graph_finish(g, dml_graph_linear(g, both, "head", 7)));
    g->frozen = frozen;
    return g;
}

double loss_of(struct setting *s) {
    assert_ok(dml_network_forward(s->network, &s->images, s->embeddings));
    double loss = 0;
    for (size_t i = 0; i < s->images.n * s->dim; i++)
        loss += (double)s->embeddings[i] * s->grad[i];
    return loss;
}

void check_differences(struct dml_graph *graph) {
    struct setting s;
    open_network(&s, graph, 6, (struct dml_network_options){0});
    bool frozen = graph->frozen;
    loss_of(&s);
    assert_ok(dml_network_backward(s.network, s.grad));
    for (int p = 0; p < s.graph->param_count; p++) {
        const struct dml_graph_param *param = &s.graph->params[p];
        if (!dml_param_learnable(param))
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
            assert_ok(dml_network_write(s.network, p, DML_SLOT_VALUE, moved));
            losses[side] = loss_of(&s);
        }
        assert_ok(dml_network_write(s.network, p, DML_SLOT_VALUE, values));
        double slope = (losses[0] - losses[1]) / (2 * h);
        if (!(fabs(slope - norm2) <= 0.03 * norm2 + 0.01 * sqrt(norm2)))
            fail_msg("%s (%s): slope %g, gradient says %g", param->name,
                     frozen ? "frozen" : "batch statistics", slope, norm2);
        free(values);
        free(grad);
        free(moved);
    }
    close_network(&s);
}

void train_step(struct setting *s, int64_t index) {
    struct stepper adam;
    open_stepper(&adam, s->graph, "adam", NULL, 1e-3);
    adam.updates[0].step = adam.updates[1].step = (uint64_t)index - 1;
    loss_of(s);
    assert_ok(dml_network_backward(s->network, s->grad));
    take_step(&adam, s->network);
    close_stepper(&adam);
}

void copy_parameters(const struct setting *from, struct setting *to) {
    for (int p = 0; p < from->graph->param_count; p++)
        for (enum dml_slot slot = DML_SLOT_VALUE; slot < DML_SLOTS; slot++) {
            if (slot != DML_SLOT_VALUE && slot != DML_SLOT_AVERAGE &&
                !dml_param_learnable(&from->graph->params[p]))
                continue;
            float *values = read_param(from, p, slot);
            assert_ok(dml_network_write(to->network, p, slot, values));
            free(values);
        }
}

void close_to(const float *a, const float *b, size_t count, double tolerance) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < count; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        size += (double)b[i] * b[i];
    }
    if (!(sqrt(difference) <= tolerance * sqrt(size) + 1e-7))
        fail_msg("%zu values of length %g differ by %g", count, sqrt(size), sqrt(difference));
}

void need_bf16(void) {
    if (!tested()->abilities().gpu && cpu_engine_bf16() == CPU_BF16_NONE)
        setenv("DML_BF16", "emulate", 1);
}
