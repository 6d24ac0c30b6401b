/* Every optimiser that there is: what it promises to backends (dml/optimisers.h), and lion's steps,
 * for which there are no golden trajectories. */
#include "support/golden_network.h"

#include "dml/dml.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 40000, PART = 17000 }; /* enough for several threads */

/* Values and states of so many parameters under an optimiser. */
struct trained {
    float *values, *states[DML_OPTIMISER_STATES];
};

static struct trained start(size_t n) {
    struct trained t = {calloc(n, sizeof(float)), {NULL}};
    for (size_t s = 0; s < DML_OPTIMISER_STATES; s++)
        t.states[s] = calloc(n, sizeof(float));
    for (size_t i = 0; i < n; i++)
        t.values[i] = i % 5 ? (float)sin((double)i) : 0;
    return t;
}

static void end(struct trained *t) {
    free(t->values);
    for (size_t s = 0; s < DML_OPTIMISER_STATES; s++)
        free(t->states[s]);
}

/* Steps number `from` to `to` of the parameters `first` to `last`. */
static void step(const struct dml_optimiser *optimiser, const void *options, struct trained *t,
                 size_t first, size_t last, int from, int to) {
    float *grad = malloc((last - first) * sizeof *grad), *states[DML_OPTIMISER_STATES];
    for (size_t s = 0; s < DML_OPTIMISER_STATES; s++)
        states[s] = t->states[s] + first;
    for (int k = from; k <= to; k++) {
        const struct dml_update update = {0.01, 0.1, NAN, (uint64_t)k};
        for (size_t i = first; i < last; i++)
            grad[i - first] = i % 5 ? (float)cos((double)i * k) : 0;
        optimiser->update(options, &update, t->values + first, grad, states, last - first);
    }
    free(grad);
}

static void same(const struct dml_optimiser *optimiser, const struct trained *a,
                 const struct trained *b) {
    assert_memory_equal(a->values, b->values, N * sizeof(float));
    for (size_t s = 0; s < optimiser->states; s++)
        assert_memory_equal(a->states[s], b->states[s], N * sizeof(float));
}

/* In parts and with interruptions as in one go, to the bit; and zeros stay zeros. */
static void parameters_are_independent(void **state) {
    (void)state;
    const struct dml_method *method;
    for (size_t i = 0; (method = dml_method_at(DML_OPTIMISER, i)); i++) {
        const struct dml_optimiser *optimiser = (const struct dml_optimiser *)method;
        struct dml_params *params;
        assert_ok(dml_params_new(&params));
        assert_ok(dml_params_add(params, method->params));
        const void *options = dml_params_options(params, method->params);
        struct trained whole = start(N), parts = start(N), before = start(N);
        step(optimiser, options, &whole, 0, N, 1, 5);
        step(optimiser, options, &parts, PART, N, 1, 3);
        step(optimiser, options, &parts, 0, PART, 1, 5);
        step(optimiser, options, &parts, PART, N, 4, 5);
        same(optimiser, &whole, &parts);
        assert_memory_not_equal(whole.values, before.values, N * sizeof(float));
        for (size_t k = 0; k < N; k += 5)
            if (whole.values[k] != 0)
                fail_msg("%s: value %zu is %g and was 0", method->name, k, whole.values[k]);
        end(&whole), end(&parts), end(&before);
        dml_params_free(params);
    }
}

/* Against the paper's algorithm 2 in float64, with betas of its own and a schedule's momentum. */
static void lion_is_the_papers(void **state) {
    (void)state;
    const struct dml_method *method = dml_method_find(DML_OPTIMISER, "lion");
    struct dml_params *params;
    assert_ok(dml_params_new(&params));
    assert_ok(dml_params_add(params, method->params));
    assert_ok(dml_params_parse_text(params, "--lion_beta1 0.8 --lion_beta2 0.95"));
    float value = 0.5f, mean = 0;
    float *const states[] = {&mean};
    double p = 0.5, m = 0;
    static const float grads[] = {1, 0.5f, -4, -0.01f, 3, 0};
    for (int k = 0; k < 6; k++) {
        double beta1 = k == 3 ? 0.1 : 0.8;
        const struct dml_update update = {0.01, 2, k == 3 ? 0.1 : NAN, (uint64_t)k + 1};
        ((const struct dml_optimiser *)method)
            ->update(dml_params_options(params, method->params), &update, &value, &grads[k], states,
                     1);
        double direction = beta1 * m + (1 - beta1) * grads[k];
        p = p * (1 - 0.01 * 2) - 0.01 * ((direction > 0) - (direction < 0));
        m = 0.95 * m + 0.05 * grads[k];
        assert_true(fabs(value - p) < 1e-6 && fabs(mean - m) < 1e-6);
    }
    dml_params_free(params);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_are_independent),
        cmocka_unit_test(lion_is_the_papers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
