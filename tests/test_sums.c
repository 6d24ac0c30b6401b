/* Sums of criteria, and cross-batch memory: what the golden sequences do not show. */
#include "dml/dml.h"

#include "support/golden.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 12, DIM = 6, CLASSES = 4 };

static const struct dml_criterion_context context = {
    .dim = DIM, .classes = CLASSES, .lr = 0.01, .seed = 3};
static float x[N * DIM];
static int32_t labels[N];
static const struct dml_batch batch = {.n = N, .dim = DIM, .embeddings = x, .labels = labels};

static int draw(void **state) {
    (void)state;
    struct dml_rng rng = dml_rng_make(8, DML_PURPOSE_OTHER, 0, 0);
    for (int i = 0; i < N * DIM; i++)
        x[i] = (float)dml_rng_normal(&rng);
    for (int i = 0; i < N; i++)
        labels[i] = i % CLASSES;
    return 0;
}

static struct dml_objective *open_objective(const char *criterion) {
    struct dml_objective *objective;
    assert_ok(dml_objective_open(criterion, NULL, &context, &objective));
    return objective;
}

static void refused(enum dml_status status, enum dml_status expected, const char *part) {
    assert_int_equal(status, expected);
    if (!strstr(dml_error(), part))
        fail_msg("'%s' is not in the message: %s", part, dml_error());
}

static void mine(const char *miner, struct dml_tuples *out) {
    struct dml_miner_context mining_context = {.dim = DIM, .margin = 0.2};
    struct dml_rng rng = dml_rng_make(1, DML_PURPOSE_MINER, 0, 0);
    struct dml_mining *mining;
    assert_ok(dml_mining_open(miner, NULL, &mining_context, &mining));
    assert_ok(dml_mining_compute(mining, &batch, &rng, out, NULL));
    dml_mining_free(mining);
}

/* The same but for the rounding of a sum. */
static void assert_near(const float *values, const float *expected, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!(fabsf(values[i] - expected[i]) <= 1e-6f * (1 + fabsf(expected[i]))))
            fail_msg("value %zu is %g instead of %g", i, (double)values[i], (double)expected[i]);
}

static void loss_and_gradients_add_up(void **state) {
    (void)state;
    static const char *const names[3] = {"triplet", "softmax", "arcface"};
    const double weights[3] = {1, 0.5, 3};
    struct dml_tuples triplets = {0};
    mine("random", &triplets);
    const struct dml_tuples *tuples[3] = {&triplets, NULL, NULL};
    struct dml_objective *terms[3], *sum;
    struct dml_criterion_parameter own[3], parameters[8];
    float grad[N * DIM], expected[N * DIM] = {0}, map[2][CLASSES * DIM];
    double value = 0;
    struct dml_loss loss;
    for (int t = 0; t < 3; t++) {
        terms[t] = open_objective(names[t]);
        assert_ok(dml_objective_compute(terms[t], &batch, tuples[t], NULL, grad, &loss));
        value += weights[t] * loss.value;
        for (int i = 0; i < N * DIM; i++)
            expected[i] += (float)weights[t] * grad[i];
        if (dml_objective_parameters(terms[t], &own[t], 1))
            for (int i = 0; i < CLASSES * DIM; i++)
                map[t - 1][i] = (float)weights[t] * own[t].grad[i];
    }
    assert_ok(dml_objective_sum(terms, weights, 3, &sum));
    assert_ok(dml_objective_compute_sum(sum, &batch, tuples, NULL, grad, &loss));
    assert_true(fabs(loss.value - value) <= 1e-12 * value);
    assert_near(grad, expected, N * DIM);
    assert_int_equal(dml_objective_parameters(sum, parameters, 8), 2);
    assert_string_equal(parameters[0].name, "softmax.class_map");
    assert_string_equal(parameters[1].name, "arcface.class_map");
    for (int t = 0; t < 2; t++)
        assert_near(parameters[t].grad, map[t], CLASSES * DIM);
    assert_string_equal(dml_objective_term(sum, 2)->method.name, "arcface");
    assert_null(dml_objective_term(sum, 3));
    refused(dml_objective_compute(sum, &batch, NULL, NULL, grad, &loss), DML_ERROR_INPUT,
            "triplet takes triplets");
    dml_objective_free(sum);
    dml_tuples_free(&triplets);
}

static void bad_sums(void **state) {
    (void)state;
    struct dml_objective *terms[2] = {open_objective("softmax"), open_objective("softmax")}, *sum;
    double weights[2] = {1, 1};
    refused(dml_objective_sum(terms, weights, 2, &sum), DML_ERROR_USAGE,
            "'softmax' is listed twice");
    weights[0] = -1;
    refused(dml_objective_sum(terms, weights, 1, &sum), DML_ERROR_USAGE, "softmax: a weight of -1");
    weights[0] = NAN;
    refused(dml_objective_sum(terms, weights, 1, &sum), DML_ERROR_USAGE, "softmax: a weight of");
    refused(dml_objective_sum(terms, weights, 0, &sum), DML_ERROR_USAGE, "a sum of 0 criteria");
    dml_objective_free(terms[0]);
    dml_objective_free(terms[1]);
}

/* A memory that holds just the batch: the loss is that of the batch alone, but for its float32
 * cosines. */
static void memory_of_a_batch(void **state) {
    (void)state;
    struct dml_objective *alone = open_objective("supcon"), *with = open_objective("supcon");
    float grad[N * DIM], of_memory[N * DIM];
    struct dml_loss loss, remembered;
    assert_ok(dml_objective_remember(with, N));
    for (int step = 0; step < 2; step++) {
        assert_ok(dml_objective_compute(alone, &batch, NULL, NULL, grad, &loss));
        assert_ok(dml_objective_compute(with, &batch, NULL, NULL, of_memory, &remembered));
        assert_true(fabs(loss.value - remembered.value) <= 1e-6 * loss.value);
    }
    dml_objective_free(alone);
    dml_objective_free(with);
}

static void bad_memories(void **state) {
    (void)state;
    float grad[N * DIM];
    struct dml_loss loss;
    struct dml_objective *none = open_objective("histogram"), *small = open_objective("circle");
    refused(dml_objective_remember(none, N), DML_ERROR_USAGE,
            "the criterion 'histogram' cannot compare a batch with a memory: use one of: "
            "contrastive");
    refused(dml_objective_remember(small, 0), DML_ERROR_USAGE, "a memory of 0 embeddings");
    assert_ok(dml_objective_remember(small, N - 1));
    refused(dml_objective_compute(small, &batch, NULL, NULL, grad, &loss), DML_ERROR_INPUT,
            "circle: a batch of 12 does not fit into a memory of 11");
    struct dml_tuples lists = {0};
    mine("pair_margin", &lists);
    refused(dml_objective_compute(small, &batch, &lists, NULL, grad, &loss), DML_ERROR_INPUT,
            "circle: tuples given with a reference");
    struct dml_reference reference = {.n = N, .embeddings = x, .labels = labels};
    struct dml_batch compared = batch;
    compared.reference = &reference;
    refused(dml_objective_compute(none, &compared, NULL, NULL, grad, &loss), DML_ERROR_USAGE,
            "the criterion 'histogram' cannot compare");
    dml_objective_free(small);
    small = open_objective("circle");
    const int32_t own[N] = {N};
    reference.own = own;
    refused(dml_objective_compute(small, &compared, NULL, NULL, grad, &loss), DML_ERROR_INPUT,
            "circle: copy 12 of sample 0 is not in the reference");
    float broken[N * DIM] = {[DIM] = INFINITY};
    reference = (struct dml_reference){.n = N, .embeddings = broken, .labels = labels};
    refused(dml_objective_compute(small, &compared, NULL, NULL, grad, &loss), DML_ERROR_INPUT,
            "circle, reference: embedding 1 is not finite");
    dml_tuples_free(&lists);
    dml_objective_free(none);
    dml_objective_free(small);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loss_and_gradients_add_up), cmocka_unit_test(bad_sums),
        cmocka_unit_test(memory_of_a_batch), cmocka_unit_test(bad_memories)};
    return cmocka_run_group_tests(tests, draw, NULL);
}
