#include "backends/cuda/classes.h"
#include "backends/cuda/cuda.h"
#include "cuda_host/device_host.h"
#include "dml/dml.h"
#include "dml/messages.h"
#include "support/golden.h"
#include "train/criterion_optimiser.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Class weights and proxies on a card in plain C beside the processor's: losses, gradients, updated
 * values, with classes in several tiles; and what happens when the card fails. */

enum { N = 17, DIM = 20, CLASSES = 260, TILE = 100 };

static float x[N * DIM];
static int32_t labels[N];

static void fill(void) {
    struct dml_rng rng = dml_rng_make(5, DML_PURPOSE_OTHER, 0, 0);
    for (size_t i = 0; i < N; i++) {
        double length = 0;
        for (size_t k = 0; k < DIM; k++) {
            x[i * DIM + k] = (float)dml_rng_normal(&rng);
            length += (double)x[i * DIM + k] * x[i * DIM + k];
        }
        for (size_t k = 0; k < DIM; k++)
            x[i * DIM + k] /= (float)sqrt(length);
        /* classes at both ends of tiles, and pairs of a class */
        labels[i] = (int32_t)(i / 2 * 50 % CLASSES) - (i / 2 % 2 && i > 2);
    }
    labels[0] = 0;
    labels[1] = CLASSES - 1;
}

/* A criterion with what the run's optimiser keeps for it. */
struct learner {
    struct dml_objective *objective;
    struct dml_criterion_optimiser optimiser;
    float grad[N * DIM];
    struct dml_loss loss;
};

static const struct dml_optimiser *optimiser_by(const char *name) {
    return (const struct dml_optimiser *)dml_method_find(DML_OPTIMISER, name);
}

static void open_learner(struct learner *l, const char *criterion, const char *flags,
                         const struct cuda_banks *banks, const char *optimiser) {
    const struct dml_criterion_context context = {.dim = DIM,
                                                  .classes = CLASSES,
                                                  .lr = 1e-5,
                                                  .seed = 3,
                                                  .banks = banks ? &banks->banks : NULL};
    assert_ok(dml_objective_open(criterion, flags, &context, &l->objective));
    assert_ok(
        dml_criterion_optimiser_open(l->objective, optimiser_by(optimiser)->states, &l->optimiser));
    assert_int_equal(l->optimiser.count, 1);
}

static void close_learner(struct learner *l) {
    dml_criterion_optimiser_close(&l->optimiser);
    dml_objective_free(l->objective);
}

static enum dml_status compute(struct learner *l) {
    const struct dml_batch batch = {N, DIM, x, labels, NULL};
    return dml_objective_compute(l->objective, &batch, NULL, NULL, l->grad, &l->loss);
}

static enum dml_status update(struct learner *l, const char *optimiser, uint64_t step) {
    const struct dml_optimiser *method = optimiser_by(optimiser);
    const struct dml_update update = {.lr = 1e-2, .decay = 1e-4, .momentum = NAN, .step = step};
    const size_t group = 0;
    struct dml_params *params;
    assert_ok(dml_params_new(&params));
    assert_ok(dml_params_add(params, method->method.params));
    enum dml_status status = dml_criterion_optimiser_step(
        &l->optimiser, method, dml_params_options(params, method->method.params), &update, &group);
    dml_params_free(params);
    return status;
}

/* The largest difference, relative to the largest value. */
static void near(const char *what, const float *a, const float *b, size_t count, double bound) {
    double off = 0, largest = 1e-30;
    for (size_t i = 0; i < count; i++) {
        off = fmax(off, fabs((double)a[i] - b[i]));
        largest = fmax(largest, fabs(b[i]));
        assert_false(isnan(a[i]));
    }
    if (off > bound * largest)
        fail_msg("%s: %g off, where values are up to %g", what, off, largest);
}

static const struct {
    const char *criterion, *flags;
} cases[] = {
    {"softmax", NULL},
    {"softmax", "--loss_softmax_temperature 0.01"}, /* no bound: the largest is looked for */
    {"arcface", NULL},
    {"arcface", "--loss_arcface_feature_scale 120"},
    {"cosface", NULL},
    {"sphereface", NULL},
    {"large_margin_softmax", NULL}, /* inner products, slopes along norms */
    {"instance", NULL},
    {"proxynca", NULL}, /* the sum leaves out the own class */
    {"proxynca_pp", NULL},
    {"proxyanchor", NULL},
};
enum { CASES = sizeof cases / sizeof *cases };

/* Two steps on both; cosines kept or not. */
static void both(size_t c, size_t most_kept, const char *optimiser) {
    struct learner host, card;
    struct cuda_banks banks;
    cuda_banks_make(0, 1, 1, &banks);
    banks.tile = TILE;
    banks.most_kept = most_kept;
    open_learner(&host, cases[c].criterion, cases[c].flags, NULL, optimiser);
    open_learner(&card, cases[c].criterion, cases[c].flags, &banks, optimiser);
    const struct dml_criterion_parameter *p = &host.optimiser.parameters[0],
                                         *q = &card.optimiser.parameters[0];
    assert_null(p->bank);
    assert_non_null(q->bank);
    for (uint64_t step = 1; step <= 2; step++) {
        assert_ok(compute(&host));
        assert_ok(compute(&card));
        assert_ok(q->bank->ops->read(q->bank, DML_BANK_GRAD, q->grad));
        double bound = step == 1 ? 1e-5 : 1e-3; /* Adam divides by roots of rounding */
        if (fabs(card.loss.value - host.loss.value) > bound * fabs(host.loss.value))
            fail_msg("%s: a loss of %.9g, not %.9g", cases[c].criterion, card.loss.value,
                     host.loss.value);
        near(cases[c].criterion, card.grad, host.grad, N * DIM, bound);
        near(cases[c].criterion, q->grad, p->grad, CLASSES * DIM, bound);
        assert_ok(dml_criterion_optimiser_clip(&host.optimiser, 0.05));
        assert_ok(dml_criterion_optimiser_clip(&card.optimiser, 0.05));
        assert_ok(update(&host, optimiser, step));
        assert_ok(update(&card, optimiser, step));
    }
    assert_ok(dml_criterion_optimiser_fetch(&card.optimiser));
    near("values", q->values, p->values, CLASSES * DIM, 1e-2);
    near("states", card.optimiser.states[0][0], host.optimiser.states[0][0], CLASSES * DIM, 1e-2);

    /* What is put back is what a step begins from. */
    double loss = card.loss.value;
    assert_ok(dml_criterion_optimiser_put(&card.optimiser));
    assert_ok(compute(&card));
    double after = card.loss.value;
    memset(q->values, 0, CLASSES * DIM * sizeof *q->values);
    assert_ok(dml_criterion_optimiser_fetch(&card.optimiser));
    assert_ok(dml_criterion_optimiser_put(&card.optimiser));
    assert_ok(compute(&card));
    assert_true(card.loss.value == after && after != loss);
    close_learner(&host);
    close_learner(&card);
    assert_int_equal(cuda_host_pieces(), 0);
}

static void equals_the_processor(void **state) {
    (void)state;
    for (size_t c = 0; c < CASES; c++) {
        both(c, 0, "adam");
        if (c < 4)
            both(c, (size_t)1 << 28, "adam");
    }
    both(0, 0, "lion"); /* without a kernel: on the host */
}

/* A cosine that float32 cannot tell from the clamp's bound: only float64 knows whether the class
 * has a gradient. */
static void clamp_is_decided_exactly(void **state) {
    (void)state;
    struct learner host, card;
    struct cuda_banks banks;
    cuda_banks_make(0, 1, 0, &banks);
    open_learner(&host, "arcface", NULL, NULL, "sgd");
    open_learner(&card, "arcface", NULL, &banks, "sgd");
    float *w = host.optimiser.parameters[0].values, *v = card.optimiser.parameters[0].values;
    for (size_t c = 0; c < CLASSES; c++) { /* orthogonal to sample c % N but for rounding */
        double along = 0;
        const float *e = x + c % N * DIM;
        for (size_t k = 0; k < DIM; k++)
            along += (double)e[k] * w[c * DIM + k];
        for (size_t k = 0; k < DIM; k++)
            w[c * DIM + k] -= (float)along * e[k];
    }
    memcpy(v, w, CLASSES * DIM * sizeof *v);
    assert_ok(dml_criterion_optimiser_put(&card.optimiser));
    assert_ok(compute(&host));
    assert_ok(compute(&card));
    near("arcface", card.grad, host.grad, N * DIM, 1e-5);
    const struct dml_criterion_parameter *q = &card.optimiser.parameters[0];
    assert_ok(q->bank->ops->read(q->bank, DML_BANK_GRAD, q->grad));
    near("arcface", q->grad, host.optimiser.parameters[0].grad, CLASSES * DIM, 1e-5);
    close_learner(&host);
    close_learner(&card);
}

static void sums_are_weighted(void **state) {
    (void)state;
    struct learner host, card;
    struct cuda_banks banks;
    struct learner *const all[] = {&host, &card};
    cuda_banks_make(0, 1, 0, &banks);
    for (int k = 0; k < 2; k++) {
        const struct dml_criterion_context context = {
            .dim = DIM, .classes = CLASSES, .lr = 1e-5, .banks = k ? &banks.banks : NULL};
        struct dml_objective *terms[2];
        assert_ok(dml_objective_open("softmax", NULL, &context, &terms[0]));
        assert_ok(dml_objective_open("proxyanchor", NULL, &context, &terms[1]));
        const double weights[] = {0.5, 2};
        assert_ok(dml_objective_sum(terms, weights, 2, &all[k]->objective));
        assert_ok(dml_criterion_optimiser_open(all[k]->objective, 1, &all[k]->optimiser));
        const struct dml_batch batch = {N, DIM, x, labels, NULL};
        const struct dml_tuples *const none[2] = {NULL, NULL};
        assert_ok(dml_objective_compute_sum(all[k]->objective, &batch, none, NULL, all[k]->grad,
                                            &all[k]->loss));
    }
    near("a sum", card.grad, host.grad, N * DIM, 1e-5);
    for (int i = 0; i < 2; i++) {
        const struct dml_criterion_parameter *q = &card.optimiser.parameters[i];
        assert_ok(q->bank->ops->read(q->bank, DML_BANK_GRAD, q->grad));
        near(q->name, q->grad, host.optimiser.parameters[i].grad, CLASSES * DIM, 1e-5);
    }
    close_learner(&host);
    close_learner(&card);
}

/* Few classes, and a share of them in each step, are the processor's. */
static void others_stay(void **state) {
    (void)state;
    struct learner l;
    struct cuda_banks banks;
    cuda_banks_make(0, CLASSES + 1, 0, &banks);
    open_learner(&l, "softmax", NULL, &banks, "adam");
    assert_null(l.optimiser.parameters[0].bank);
    close_learner(&l);
    cuda_banks_make(0, CLASSES, 0, &banks);
    open_learner(&l, "softmax", "--loss_softmax_class_share 0.5", &banks, "adam");
    assert_null(l.optimiser.parameters[0].bank);
    close_learner(&l);
}

static char said[300];
static void listen(void *data, enum dml_message_kind kind, const char *text) {
    (void)data, (void)kind;
    snprintf(said, sizeof said, "%s", text);
}

static void little_memory_is_the_processor_s(void **state) {
    (void)state;
    struct learner l;
    struct cuda_banks banks;
    cuda_banks_make(0, 1, 0, &banks);
    cuda_host_memory(CLASSES * DIM * sizeof(float) + 1000);
    static const struct dml_listener listener = {.message = listen};
    dml_listen(&listener);
    open_learner(&l, "softmax", NULL, &banks, "adam");
    dml_listen(NULL);
    cuda_host_memory(0);
    assert_null(l.optimiser.parameters[0].bank);
    assert_non_null(strstr(said, "class weights need 0.00 GB"));
    assert_non_null(strstr(said, "; the processor holds them"));
    assert_ok(compute(&l));
    close_learner(&l);
    assert_int_equal(cuda_host_pieces(), 0);
}

/* Whatever call fails, one line says so, and nothing is left behind. */
static void every_call_may_fail(void **state) {
    (void)state;
    static const size_t tried[] = {0, 1, 10};
    for (size_t k = 0; k < 3; k++) {
        struct cuda_banks banks;
        cuda_banks_make(0, 1, 0, &banks);
        banks.tile = 200;
        bool through = false;
        for (long at = 0; !through; at++) {
            struct learner l;
            cuda_host_fail_at(LONG_MAX);
            open_learner(&l, cases[tried[k]].criterion, cases[tried[k]].flags, &banks, "adam");
            cuda_host_fail_at(at);
            enum dml_status status = compute(&l);
            if (!status)
                status = update(&l, "adam", 1);
            if (!status)
                status = dml_criterion_optimiser_fetch(&l.optimiser);
            through = cuda_host_calls() <= at;
            assert_true(through == !status);
            if (status)
                assert_non_null(strstr(dml_error(), "GPU: "));
            cuda_host_fail_at(-1);
            close_learner(&l);
            assert_int_equal(cuda_host_pieces(), 0);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_processor),
        cmocka_unit_test(clamp_is_decided_exactly),
        cmocka_unit_test(sums_are_weighted),
        cmocka_unit_test(others_stay),
        cmocka_unit_test(little_memory_is_the_processor_s),
        cmocka_unit_test(every_call_may_fail),
    };
    dml_cuda_replace(cuda_host_api());
    fill();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
