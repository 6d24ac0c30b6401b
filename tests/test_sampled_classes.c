/* Criteria with class weights that look at some of the classes: what a step leaves is what one over
 * those classes alone leaves, and which they are. */
#include "dml/dml.h"

#include "support/golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 24, DIM = 7, CLASSES = 300, STEPS = 400 };

static const char *const criteria[] = {"softmax", "arcface", "cosface", "sphereface",
                                       "large_margin_softmax"};
static float x[N * DIM], grad[N * DIM], expected[N * DIM];
static int32_t labels[N];

static void fill(void) {
    struct dml_rng rng = dml_rng_make(5, DML_PURPOSE_OTHER, 0, 0);
    for (size_t i = 0; i < N * DIM; i++)
        x[i] = (float)dml_rng_normal(&rng) * 0.3f;
    for (size_t i = 0; i < N; i++) /* the first and the last class, too */
        labels[i] = i < 2 ? 0 : i < 4 ? CLASSES - 1 : (int32_t)(i / 2 * 17 % CLASSES);
}

static struct dml_objective *open_one(const char *criterion, double share, size_t classes,
                                      struct dml_criterion_parameter *w) {
    char flags[100];
    struct dml_criterion_context context = {.dim = DIM, .classes = classes, .lr = 1e-5};
    struct dml_objective *objective;
    snprintf(flags, sizeof flags, "--loss_%s_class_share %g", criterion, share);
    assert_ok(dml_objective_open(criterion, flags, &context, &objective));
    assert_int_equal(dml_objective_parameters(objective, w, 1), 1);
    return objective;
}

static double step(struct dml_objective *objective, const int32_t *of, uint64_t seed, float *out) {
    struct dml_batch batch = {.n = N, .dim = DIM, .embeddings = x, .labels = of};
    struct dml_rng rng = dml_rng_make(seed, DML_PURPOSE_CRITERION, 0, 0);
    struct dml_loss loss;
    assert_ok(dml_objective_compute(objective, &batch, NULL, &rng, out, &loss));
    return loss.value;
}

static bool is_zero(const float *row) {
    for (size_t k = 0; k < DIM; k++)
        if (row[k] != 0)
            return false;
    return true;
}

static bool is_own(size_t c) {
    for (size_t i = 0; i < N; i++)
        if ((size_t)labels[i] == c)
            return true;
    return false;
}

/* The batch's classes first, as they are numbered in both. */
static size_t looked_at(const float *class_grads, size_t *out) {
    size_t count = 0;
    for (int own = 1; own >= 0; own--)
        for (size_t c = 0; c < CLASSES; c++)
            if (is_own(c) == own && (own || !is_zero(class_grads + c * DIM)))
                out[count++] = c;
    return count;
}

static void check_criterion(const char *criterion) {
    struct dml_criterion_parameter w, part;
    struct dml_objective *objective = open_one(criterion, 0.25, CLASSES, &w);
    size_t classes[CLASSES];
    int32_t renumbered[N];
    double loss = step(objective, labels, 1, grad);
    size_t count = looked_at(w.grad, classes);
    assert_int_equal(count, CLASSES / 4);
    struct dml_objective *alone = open_one(criterion, 1, count, &part);
    for (size_t s = 0; s < count; s++) {
        memcpy(part.values + s * DIM, w.values + classes[s] * DIM, DIM * sizeof(float));
        for (size_t i = 0; i < N; i++)
            if ((size_t)labels[i] == classes[s])
                renumbered[i] = (int32_t)s;
    }
    double wanted = step(alone, renumbered, 1, expected);
    assert_true(fabs(loss - wanted) <= 1e-6 * fabs(wanted));
    for (size_t i = 0; i < N * DIM; i++)
        assert_true(fabsf(grad[i] - expected[i]) <= 1e-6f + 1e-4f * fabsf(expected[i]));
    for (size_t s = 0; s < count; s++)
        for (size_t k = 0; k < DIM; k++)
            assert_true(fabsf(w.grad[classes[s] * DIM + k] - part.grad[s * DIM + k]) <=
                        1e-6f + 1e-4f * fabsf(part.grad[s * DIM + k]));
    dml_objective_free(alone);
    dml_objective_free(objective);
}

static void test_a_step_is_one_over_the_classes_that_it_looks_at(void **state) {
    (void)state;
    for (size_t c = 0; c < sizeof criteria / sizeof *criteria; c++)
        check_criterion(criteria[c]);
}

/* Each other class as often as the next: counts of STEPS draws, within five deviations. */
static void test_others_are_drawn_evenly(void **state) {
    (void)state;
    struct dml_criterion_parameter w;
    struct dml_objective *objective = open_one("softmax", 0.25, CLASSES, &w);
    size_t classes[CLASSES], seen[CLASSES] = {0}, own = 0;
    for (size_t s = 0; s < STEPS; s++) {
        step(objective, labels, s, grad);
        size_t count = looked_at(w.grad, classes);
        for (size_t i = 0; i < count; i++)
            seen[classes[i]]++;
    }
    for (size_t c = 0; c < CLASSES; c++)
        own += is_own(c);
    double share = (CLASSES / 4.0 - (double)own) / (double)(CLASSES - own);
    double deviation = sqrt(STEPS * share * (1 - share));
    for (size_t c = 0; c < CLASSES; c++)
        if (is_own(c))
            assert_int_equal(seen[c], STEPS);
        else
            assert_true(fabs((double)seen[c] - STEPS * share) < 5 * deviation);
    dml_objective_free(objective);
}

/* A share that the batch's own classes exceed: these alone. */
static void test_a_small_share_leaves_the_classes_of_the_batch(void **state) {
    (void)state;
    struct dml_criterion_parameter w;
    struct dml_objective *objective = open_one("softmax", 0.001, CLASSES, &w);
    size_t classes[CLASSES];
    step(objective, labels, 1, grad);
    size_t count = looked_at(w.grad, classes);
    for (size_t i = 0; i < count; i++)
        assert_true(is_own(classes[i]));
    dml_objective_free(objective);
}

static void test_bounds(void **state) {
    (void)state;
    struct dml_criterion_context context = {.dim = DIM, .classes = CLASSES, .lr = 1e-5};
    struct dml_objective *objective;
    assert_int_equal(
        dml_objective_open("softmax", "--loss_softmax_class_share 0", &context, &objective),
        DML_ERROR_USAGE);
    assert_int_equal(
        dml_objective_open("arcface", "--loss_arcface_class_share 1.5", &context, &objective),
        DML_ERROR_USAGE);
}

int main(void) {
    fill();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_step_is_one_over_the_classes_that_it_looks_at),
        cmocka_unit_test(test_others_are_drawn_evenly),
        cmocka_unit_test(test_a_small_share_leaves_the_classes_of_the_batch),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
