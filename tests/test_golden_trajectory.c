#include "dml/criteria.h"
#include "support/fill.h"
#include "support/golden.h"
#include "support/optimising.h"
#include "support/tested.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The loss of some training steps with margin loss on given triplets, against PyTorch's: forward,
 * backward, both optimisers, weight decay, a learnable criterion parameter and a milestone. */
struct trajectory {
    size_t batch, size, dim, classes;
    struct dml_graph *graph;
    struct dml_network *network;
    struct dml_objective *objective;
    struct dml_criterion_parameter beta;
    float *beta_states[2]; /* (classes) each */
    struct stepper stepper;
    double lr, beta_lr, gamma;
    int milestone;
};

static double number(const cJSON *json, const char *name) {
    const cJSON *entry = cJSON_GetObjectItem(json, name);
    assert_true(cJSON_IsNumber(entry));
    return entry->valuedouble;
}

static void open_trajectory(struct trajectory *t, const char *name, size_t classes) {
    cJSON *json = golden_json("trajectory/%s/case.json", name);
    t->batch = (size_t)number(json, "batch");
    t->size = (size_t)number(json, "size");
    t->dim = (size_t)number(json, "embed_dim");
    t->classes = classes;
    bool adam = !strcmp(cJSON_GetObjectItem(json, "optimizer")->valuestring, "adam");
    char flags[64];
    snprintf(flags, sizeof flags, "--sgd_momentum %g", adam ? 0 : number(json, "momentum"));
    t->lr = number(json, "lr");
    t->beta_lr = number(json, "beta_lr");
    t->gamma = number(json, "gamma");
    t->milestone = (int)number(json, "milestone_step");
    char arch[64];
    snprintf(arch, sizeof arch, "%s_frozen_normalize",
             cJSON_GetObjectItem(json, "arch")->valuestring);
    assert_ok(dml_graph_build(arch, (int)t->dim, (int)t->size, &t->graph));
    struct dml_network_options options = {.batch_hint = t->batch};
    assert_ok(dml_network_open(tested(), t->graph, &options, &t->network));
    fill_network(t->network);
    struct dml_criterion_context context = {.dim = t->dim, .classes = classes, .lr = t->lr};
    assert_ok(dml_objective_open("margin", NULL, &context, &t->objective));
    assert_int_equal(dml_objective_parameters(t->objective, &t->beta, 1), 1);
    assert_int_equal(t->beta.dims[0], classes);
    for (int i = 0; i < 2; i++)
        assert_non_null(t->beta_states[i] = calloc(classes, sizeof(float)));
    open_stepper(&t->stepper, t->graph, adam ? "adam" : "sgd", adam ? NULL : flags, t->lr);
    for (int g = 0; g < 2; g++)
        t->stepper.updates[g].decay = number(json, "weight_decay");
    cJSON_Delete(json);
}

static void close_trajectory(struct trajectory *t) {
    dml_network_close(t->network);
    dml_objective_free(t->objective);
    close_stepper(&t->stepper);
    for (int i = 0; i < 2; i++)
        free(t->beta_states[i]);
}

/* One step on input `index`; returns its loss. */
static double train(struct trajectory *t, int index, const float *input, const int32_t *labels,
                    const int32_t *triplets) {
    size_t n = t->batch;
    float embeddings[n * t->dim], grad[n * t->dim];
    struct dml_images images = {
        .n = n, .height = (int)t->size, .width = (int)t->size, .input = input};
    assert_ok(dml_network_forward(t->network, &images, embeddings));
    struct dml_batch batch = {n, t->dim, embeddings, labels, NULL};
    struct dml_tuples tuples = {.kind = DML_TUPLES_TRIPLETS,
                                .count = n,
                                .capacity = n,
                                .anchors = (int32_t *)triplets,
                                .positives = (int32_t *)triplets + n,
                                .negatives = (int32_t *)triplets + 2 * n};
    struct dml_rng rng = dml_rng_make(0, DML_PURPOSE_CRITERION, 0, 0);
    struct dml_loss loss;
    assert_ok(dml_objective_compute(t->objective, &batch, &tuples, &rng, grad, &loss));
    assert_ok(dml_network_backward(t->network, grad));
    double factor = index >= t->milestone ? t->gamma : 1.0;
    for (int g = 0; g < 2; g++)
        t->stepper.updates[g].lr = t->lr * factor;
    take_step(&t->stepper, t->network);
    const struct dml_update own = {
        .lr = t->beta_lr * factor, .momentum = NAN, .step = (uint64_t)index + 1};
    t->stepper.step.optimiser->update(t->stepper.step.options, &own, t->beta.values, t->beta.grad,
                                      t->beta_states, t->classes);
    return loss.value;
}

static void check_trajectory(const char *name) {
    struct trajectory t;
    size_t steps, classes;
    double *expected = golden_doubles(&steps, "trajectory/%s/losses.npy", name);
    double *final_beta = golden_doubles(&classes, "trajectory/%s/final_beta.npy", name);
    open_trajectory(&t, name, classes);
    int32_t *labels = golden_ints(NULL, "trajectory/%s/labels.npy", name);
    size_t count;
    int32_t *triplets = golden_ints(&count, "trajectory/%s/triplets.npy", name);
    assert_int_equal(count, steps * 3 * t.batch);
    size_t pixels = t.batch * 3 * t.size * t.size;
    float *input = malloc(pixels * sizeof *input);
    assert_non_null(input);
    double worst = 0;
    for (size_t s = 0; s < steps; s++) {
        char source[16];
        snprintf(source, sizeof source, "input%zu", s % 3);
        fill_signed(source, 2.0, input, pixels);
        double loss = train(&t, (int)s, input, labels, triplets + s * 3 * t.batch);
        double error = fabs(loss - expected[s]) / fabs(expected[s]);
        worst = fmax(worst, error);
        if (!(error <= 1e-4))
            fail_msg("%s, step %zu: loss %.9g, expected %.9g", name, s, loss, expected[s]);
    }
    printf("%s: losses %.2g\n", name, worst);
    for (size_t c = 0; c < classes; c++)
        assert_true(fabs(t.beta.values[c] - final_beta[c]) < 1e-5);
    free(expected);
    free(final_beta);
    free(labels);
    free(triplets);
    free(input);
    close_trajectory(&t);
}

static void trajectories(void **state) {
    (void)state;
    size_t count;
    char **names = golden_cases("trajectory", &count);
    for (size_t i = 0; i < count; i++)
        check_trajectory(names[i]);
    golden_free_names(names, count);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(trajectories)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
