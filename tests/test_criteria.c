/* What every criterion does with odd batches and with bad input, and what the golden vectors are
 * too small to show: many classes, sharp temperatures, initial values, learning rates. */
#include "support/golden.h"

#include "dml/dml.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { N = 12, DIM = 8, CLASSES = 5 };

static const struct dml_criterion_context context = {
    .dim = DIM, .classes = CLASSES, .lr = 0.01, .seed = 3};

static const struct dml_criterion *criterion_at(size_t i) {
    return (const struct dml_criterion *)dml_method_at(DML_CRITERION, i);
}

static void fill_normal(float *x, size_t count, uint64_t stream) {
    struct dml_rng rng = dml_rng_make(11, DML_PURPOSE_OTHER, stream, 0);
    for (size_t i = 0; i < count; i++)
        x[i] = (float)(0.4 * dml_rng_normal(&rng));
}

/* The tuples that a criterion gets from the plainest miner of its kind; NULL where it takes none.
 */
static struct dml_tuples *mine(enum dml_tuple_kind kind, const struct dml_batch *batch,
                               struct dml_tuples *tuples) {
    static const char *const miners[] = {[DML_TUPLES_TRIPLETS] = "random",
                                         [DML_TUPLES_PAIRS] = "npair",
                                         [DML_TUPLES_SETS] = "lifted"};
    if (kind == DML_TUPLES_NONE)
        return NULL;
    struct dml_miner_context miner = {.dim = batch->dim, .margin = 0.2};
    struct dml_rng rng = dml_rng_make(1, DML_PURPOSE_MINER, 0, 0);
    struct dml_mining *mining;
    assert_ok(dml_mining_open(miners[kind], NULL, &miner, &mining));
    assert_ok(dml_mining_compute(mining, batch, &rng, tuples, NULL));
    dml_mining_free(mining);
    return tuples;
}

static void assert_finite(const char *criterion, const float *values, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            fail_msg("%s: gradient %zu is %g", criterion, i, (double)values[i]);
}

static bool all_zero(const float *values, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (values[i] != 0)
            return false;
    return true;
}

/* Runs a criterion on a batch of DIM dimensions and asserts that all it gives is finite. */
static struct dml_loss run(const struct dml_criterion *criterion, const struct dml_batch *batch,
                           float *grad) {
    struct dml_objective *objective;
    struct dml_tuples tuples = {0};
    struct dml_rng rng = dml_rng_make(1, DML_PURPOSE_CRITERION, 0, 0);
    struct dml_loss loss = {.value = NAN};
    struct dml_criterion_parameter parameter = {0};
    const char *name = criterion->method.name;
    assert_ok(dml_objective_open(name, NULL, &context, &objective));
    memset(grad, 0xff, batch->n * DIM * sizeof *grad); /* every element must be written */
    assert_ok(dml_objective_compute(objective, batch, mine(criterion->takes, batch, &tuples), &rng,
                                    grad, &loss));
    assert_true(isfinite(loss.value));
    assert_finite(name, grad, batch->n * DIM);
    if (dml_objective_parameters(objective, &parameter, 1))
        assert_finite(name, parameter.grad, parameter.dims[0] * parameter.dims[1]);
    dml_objective_free(objective);
    dml_tuples_free(&tuples);
    return loss;
}

static bool learns_from_classes(const struct dml_criterion *criterion) {
    return criterion->parameters && criterion->takes == DML_TUPLES_NONE;
}

/* Criteria that have something to say of positive pairs alone, or of negative pairs alone. */
static bool learns_from_pairs(const struct dml_criterion *criterion) {
    static const char *const names[] = {
        "intra_pair_variance", "ranked_list", "recallk", "roadmap", "supcon", "tcm", "vicreg"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(criterion->method.name, names[i]) == 0)
            return true;
    return false;
}

static void nothing_to_compare(void **state) {
    (void)state;
    static const int32_t one_class[N] = {0}, all_different[CLASSES] = {0, 1, 2, 3, 4};
    float x[N * DIM], grad[N * DIM];
    fill_normal(x, N * DIM, 1);
    const struct dml_batch batches[] = {
        {.n = N, .dim = DIM, .embeddings = x, .labels = one_class},
        {.n = CLASSES, .dim = DIM, .embeddings = x, .labels = all_different},
        {.n = 1, .dim = DIM, .embeddings = x, .labels = one_class},
    };
    for (size_t i = 0; criterion_at(i); i++)
        for (size_t b = 0; b < 3; b++) {
            struct dml_loss loss = run(criterion_at(i), &batches[b], grad);
            if (learns_from_classes(criterion_at(i)))
                continue; /* their classes need not be in the batch */
            if (learns_from_pairs(criterion_at(i)) && b < 2)
                continue;
            if (loss.value != 0 || loss.active != 0 || !all_zero(grad, batches[b].n * DIM))
                fail_msg("%s learns from batch %zu", criterion_at(i)->method.name, b);
        }
}

static void no_tuples(void **state) {
    (void)state;
    static const int32_t labels[4] = {0, 0, 1, 1};
    float x[4 * DIM], grad[4 * DIM];
    fill_normal(x, 4 * DIM, 2);
    struct dml_batch batch = {.n = 4, .dim = DIM, .embeddings = x, .labels = labels};
    for (size_t i = 0; criterion_at(i); i++) {
        const struct dml_criterion *criterion = criterion_at(i);
        if (criterion->takes == DML_TUPLES_NONE)
            continue;
        struct dml_objective *objective;
        struct dml_tuples tuples = {.kind = criterion->takes};
        struct dml_loss loss;
        memset(grad, 0xff, sizeof grad);
        assert_ok(dml_objective_open(criterion->method.name, NULL, &context, &objective));
        assert_ok(dml_objective_compute(objective, &batch, &tuples, NULL, grad, &loss));
        assert_true(loss.value == 0 && loss.tuples == 0 && loss.active == 0);
        assert_true(all_zero(grad, 4 * DIM));
        dml_objective_free(objective);
    }
}

/* Equal, zero, tiny, large embeddings: everything stays finite. */
static void degenerate_embeddings(void **state) {
    (void)state;
    static const int32_t labels[N] = {0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 0, 1};
    static const float scales[] = {0, 1e-30f, 1e-6f, 1, 300};
    float x[N * DIM], grad[N * DIM];
    struct dml_batch batch = {.n = N, .dim = DIM, .embeddings = x, .labels = labels};
    for (size_t i = 0; criterion_at(i); i++)
        for (size_t s = 0; s < sizeof scales / sizeof *scales; s++)
            for (int equal = 0; equal < 2; equal++) {
                fill_normal(x, N * DIM, 3);
                for (size_t k = 0; k < N * DIM; k++)
                    x[k] = scales[s] * x[equal ? k % DIM : k];
                run(criterion_at(i), &batch, grad);
            }
}

static void arcface_at_cosine_one(void **state) {
    (void)state;
    struct dml_objective *objective;
    struct dml_criterion_parameter map;
    float x[2 * DIM] = {0}, grad[2 * DIM];
    int32_t labels[2] = {0, 1};
    struct dml_batch batch = {.n = 2, .dim = DIM, .embeddings = x, .labels = labels};
    struct dml_loss loss;
    assert_ok(dml_objective_open("arcface", NULL, &context, &objective));
    assert_int_equal(dml_objective_parameters(objective, &map, 1), 1);
    memset(map.values, 0, 2 * DIM * sizeof *map.values);
    map.values[0] = x[0] = 1;              /* cosine 1 to its own class, */
    map.values[DIM + 1] = x[DIM + 1] = -1; /* twice, */
    x[0] = 0.99999994f;                    /* and just below 1 */
    assert_ok(dml_objective_compute(objective, &batch, NULL, NULL, grad, &loss));
    assert_true(isfinite(loss.value));
    assert_finite("arcface", grad, 2 * DIM);
    assert_finite("arcface", map.grad, CLASSES * DIM);
    dml_objective_free(objective);
}

/* The plain formula of softmax in float64. */
static double softmax_reference(const struct dml_batch *batch, const float *w, size_t classes,
                                double temperature, double *grad, double *grad_w) {
    size_t dim = batch->dim;
    double loss = 0, *z = calloc(classes * (dim + 1), sizeof *z), *unit = z + classes;
    assert_non_null(z);
    memset(grad, 0, batch->n * dim * sizeof *grad);
    memset(grad_w, 0, classes * dim * sizeof *grad_w);
    for (size_t i = 0; i < batch->n; i++) {
        const float *x = batch->embeddings + i * dim;
        double most = -INFINITY, sum = 0;
        for (size_t c = 0; c < classes; c++) {
            double norm = 0, dot = 0;
            for (size_t k = 0; k < dim; k++)
                norm += (double)w[c * dim + k] * w[c * dim + k];
            for (size_t k = 0; k < dim; k++) {
                unit[c * dim + k] = w[c * dim + k] / sqrt(norm);
                dot += unit[c * dim + k] * x[k];
            }
            z[c] = dot / temperature;
            most = fmax(most, z[c]);
        }
        for (size_t c = 0; c < classes; c++)
            sum += exp(z[c] - most);
        loss += (most + log(sum) - z[batch->labels[i]]) / (double)batch->n;
        for (size_t c = 0; c < classes; c++) {
            double norm = sqrt(0.0 + w[c * dim] * w[c * dim]), slope = exp(z[c] - most) / sum;
            slope = (slope - (c == (size_t)batch->labels[i])) / (temperature * (double)batch->n);
            norm = fabs(unit[c * dim]) > 0 ? norm / fabs(unit[c * dim]) : 1;
            for (size_t k = 0; k < dim; k++) {
                grad[i * dim + k] += slope * unit[c * dim + k];
                grad_w[c * dim + k] +=
                    slope * (x[k] - unit[c * dim + k] * z[c] * temperature) / norm;
            }
        }
    }
    free(z);
    return loss;
}

/* Classes in several blocks, one of them not full; exponents beyond float32's range. */
static void softmax_of_many_classes(void **state) {
    (void)state;
    enum { MANY = 1300, BATCH = 37 };
    static const char *const flags[] = {NULL, "--loss_softmax_temperature 0.002"};
    static const double temperatures[] = {0.05, 0.002};
    static float x[BATCH * DIM], grad[BATCH * DIM];
    static double expected[BATCH * DIM], expected_w[MANY * DIM];
    int32_t labels[BATCH];
    fill_normal(x, BATCH * DIM, 4);
    for (int i = 0; i < BATCH; i++)
        labels[i] = i * 97 % MANY;
    struct dml_batch batch = {.n = BATCH, .dim = DIM, .embeddings = x, .labels = labels};
    struct dml_criterion_context many = {.dim = DIM, .classes = MANY, .seed = 5};
    for (int f = 0; f < 2; f++) {
        struct dml_objective *objective;
        struct dml_criterion_parameter map;
        struct dml_loss loss;
        assert_ok(dml_objective_open("softmax", flags[f], &many, &objective));
        dml_objective_parameters(objective, &map, 1);
        assert_ok(dml_objective_compute(objective, &batch, NULL, NULL, grad, &loss));
        double value =
            softmax_reference(&batch, map.values, MANY, temperatures[f], expected, expected_w);
        assert_true(fabs(loss.value - value) <= 1e-5 * value);
        assert_true(relative_error(grad, expected, BATCH * DIM, 0) <= 2e-5);
        assert_true(relative_error(map.grad, expected_w, MANY * DIM, 0) <= 2e-5);
        dml_objective_free(objective);
    }
}

/* Blocks and float32 ranges of the others: proxynca is softmax of unit vectors with scale 18 but
 * for the own class, so its loss is that softmax's loss less log(1 + e^(z_y - LSE of others)). */
static void proxynca_of_many_classes(void **state) {
    (void)state;
    enum { MANY = 1300, BATCH = 16 };
    float x[BATCH * DIM], grad[BATCH * DIM];
    int32_t labels[BATCH];
    fill_normal(x, BATCH * DIM, 6);
    for (int i = 0; i < BATCH; i++)
        labels[i] = i * 83 % MANY;
    struct dml_batch batch = {.n = BATCH, .dim = DIM, .embeddings = x, .labels = labels};
    struct dml_criterion_context many = {.dim = DIM, .classes = MANY, .seed = 5};
    struct dml_objective *objective;
    struct dml_criterion_parameter proxies;
    struct dml_loss loss;
    assert_ok(dml_objective_open("proxynca", NULL, &many, &objective));
    dml_objective_parameters(objective, &proxies, 1);
    assert_ok(dml_objective_compute(objective, &batch, NULL, NULL, grad, &loss));
    double expected = 0;
    for (size_t i = 0; i < BATCH; i++) {
        double own = 0, sum = 0;
        for (size_t c = 0; c < MANY; c++) {
            double d2 = 0, norm_x = 0, norm_p = 0;
            const float *e = x + i * DIM, *p = proxies.values + c * DIM;
            for (size_t k = 0; k < DIM; k++) {
                norm_x += (double)e[k] * e[k];
                norm_p += (double)p[k] * p[k];
            }
            for (size_t k = 0; k < DIM; k++)
                d2 += pow(3 * e[k] / sqrt(norm_x) - 3 * p[k] / sqrt(norm_p), 2);
            own = c == (size_t)labels[i] ? d2 : own;
            sum += c == (size_t)labels[i] ? 0 : exp(-d2);
        }
        expected += (own + log(sum)) / BATCH;
    }
    assert_true(fabs(loss.value - expected) <= 1e-5 * fabs(expected));
    dml_objective_free(objective);
}

/* The same figures whatever the number of threads. */
static void threads_do_not_matter(void **state) {
    (void)state;
    enum { BATCH = 200, WIDE = 32 };
    static float x[BATCH * WIDE], grads[2][BATCH * WIDE];
    static double wide[BATCH * WIDE];
    int32_t labels[BATCH];
    fill_normal(x, BATCH * WIDE, 7);
    for (int i = 0; i < BATCH; i++)
        labels[i] = i / 3;
    struct dml_batch batch = {.n = BATCH, .dim = WIDE, .embeddings = x, .labels = labels};
    struct dml_criterion_context many = {.dim = WIDE, .classes = 700, .seed = 5};
    int before = omp_get_max_threads();
    for (size_t i = 0; criterion_at(i); i++) {
        double values[2];
        for (int t = 0; t < 2; t++) {
            omp_set_num_threads(t ? 3 : 1);
            struct dml_objective *objective;
            struct dml_tuples tuples = {0};
            struct dml_rng rng = dml_rng_make(1, DML_PURPOSE_CRITERION, 0, 0);
            struct dml_loss loss;
            assert_ok(dml_objective_open(criterion_at(i)->method.name, NULL, &many, &objective));
            assert_ok(dml_objective_compute(objective, &batch,
                                            mine(criterion_at(i)->takes, &batch, &tuples), &rng,
                                            grads[t], &loss));
            values[t] = loss.value;
            dml_objective_free(objective);
            dml_tuples_free(&tuples);
        }
        for (size_t k = 0; k < BATCH * WIDE; k++)
            wide[k] = grads[1][k];
        assert_true(fabs(values[0] - values[1]) <= 1e-6 * fabs(values[1]));
        assert_true(relative_error(grads[0], wide, BATCH * WIDE, 1e-20) <= 2e-6);
    }
    omp_set_num_threads(before);
}

/* Without a third class the second term of a triplet is left out. */
static void quadruplet_without_a_fourth(void **state) {
    (void)state;
    float x[3 * 2] = {0, 0, 3, 4, 0, 1}, grad[3 * 2];
    int32_t labels[3] = {0, 0, 1}, a[1] = {0}, p[1] = {1}, n[1] = {2};
    struct dml_batch batch = {.n = 3, .dim = 2, .embeddings = x, .labels = labels};
    struct dml_tuples tuples = {.kind = DML_TUPLES_TRIPLETS,
                                .count = 1,
                                .capacity = 1,
                                .anchors = a,
                                .positives = p,
                                .negatives = n};
    struct dml_criterion_context small = {.dim = 2, .classes = 3};
    struct dml_rng rng = dml_rng_make(1, DML_PURPOSE_CRITERION, 0, 0);
    struct dml_objective *objective;
    struct dml_loss loss;
    assert_ok(dml_objective_open("quadruplet", NULL, &small, &objective));
    assert_ok(dml_objective_compute(objective, &batch, &tuples, &rng, grad, &loss));
    assert_float_equal(loss.value, 5 - 1 + 0.2, 1e-6);
    assert_int_equal(dml_objective_compute(objective, &batch, &tuples, NULL, grad, &loss),
                     DML_ERROR_INPUT);
    dml_objective_free(objective);
}

static void snr_without_its_regulariser(void **state) {
    (void)state;
    float x[3 * 2] = {1, 2, 1, 2, -5, 9}, grad[3 * 2];
    int32_t labels[3] = {0, 0, 1}, a[1] = {0}, p[1] = {1}, n[1] = {2};
    struct dml_batch batch = {.n = 3, .dim = 2, .embeddings = x, .labels = labels};
    struct dml_tuples tuples = {.kind = DML_TUPLES_TRIPLETS,
                                .count = 1,
                                .capacity = 1,
                                .anchors = a,
                                .positives = p,
                                .negatives = n};
    static const char *const miners[] = {"distance", "random"};
    static const double expected[] = {0, 0.005 * 3};
    for (int i = 0; i < 2; i++) {
        struct dml_criterion_context small = {.dim = 2, .classes = 3, .miner = miners[i]};
        struct dml_objective *objective;
        struct dml_loss loss;
        assert_ok(dml_objective_open("snr", NULL, &small, &objective));
        assert_ok(dml_objective_compute(objective, &batch, &tuples, NULL, grad, &loss));
        assert_float_equal(loss.value, expected[i], 1e-7);
        dml_objective_free(objective);
    }
}

static void learnable_parameters(void **state) {
    (void)state;
    static const struct {
        const char *criterion, *flags, *name;
        size_t rows, columns;
        double lr, bound; /* of the initial values */
    } expected[] = {
        {"margin", NULL, "beta", CLASSES, 1, 0.0005, 1.2000001},
        {"proxynca", NULL, "proxies", CLASSES, DIM, 0.5, 0.125 * 6},
        {"proxynca", "--loss_proxynca_lrmulti 3", "proxies", CLASSES, DIM, 0.03, 0.125 * 6},
        {"softmax", NULL, "class_map", CLASSES, DIM, 1e-5, 0.35356},
        {"arcface", NULL, "class_map", CLASSES, DIM, 0.0005, 0.35356},
        {"softtriplet", NULL, "centroids", DIM, 2 * CLASSES, 0.01, 0.31623},
    };
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        struct dml_objective *first, *again;
        struct dml_criterion_parameter p, q;
        assert_ok(dml_objective_open(expected[i].criterion, expected[i].flags, &context, &first));
        assert_ok(dml_objective_open(expected[i].criterion, expected[i].flags, &context, &again));
        assert_int_equal(dml_objective_parameters(first, &p, 1), 1);
        assert_int_equal(dml_objective_parameters(again, &q, 1), 1);
        assert_int_equal(dml_objective_parameters(first, &q, 0), 0);
        assert_string_equal(p.name, expected[i].name);
        assert_int_equal(p.dims[0], expected[i].rows);
        assert_int_equal(p.dims[1], expected[i].columns);
        assert_float_equal(p.lr, expected[i].lr, 1e-12);
        assert_memory_equal(p.values, q.values, p.dims[0] * p.dims[1] * sizeof *p.values);
        for (size_t k = 0; k < p.dims[0] * p.dims[1]; k++)
            assert_true(p.values[k] != 0 && fabs(p.values[k]) <= expected[i].bound);
        dml_objective_free(first);
        dml_objective_free(again);
    }
    struct dml_objective *constant;
    struct dml_criterion_parameter p;
    assert_ok(dml_objective_open("margin", "--loss_margin_beta_constant", &context, &constant));
    assert_int_equal(dml_objective_parameters(constant, &p, 1), 0);
    dml_objective_free(constant);
}

static void margin_for_semihard(void **state) {
    (void)state;
    static const char *const with[] = {"triplet", "margin", "snr"};
    for (int i = 0; i < 3; i++) {
        char flag[60];
        struct dml_params *params;
        const struct dml_criterion *criterion =
            (const struct dml_criterion *)dml_method_find(DML_CRITERION, with[i]);
        snprintf(flag, sizeof flag, "--loss_%s_margin 0.37", with[i]);
        assert_ok(dml_params_new(&params));
        assert_ok(dml_params_add(params, criterion->method.params));
        assert_ok(dml_params_parse_text(params, flag));
        assert_float_equal(criterion->margin(dml_params_options(params, criterion->method.params)),
                           0.37, 1e-12);
        dml_params_free(params);
    }
}

/* Fails as it should, and has written nothing. */
static void refuse(struct dml_objective *objective, const struct dml_batch *batch,
                   const struct dml_tuples *tuples, const char *says) {
    float grad[4 * DIM];
    struct dml_loss loss = {.value = 77};
    struct dml_rng rng = dml_rng_make(1, DML_PURPOSE_CRITERION, 0, 0);
    for (int k = 0; k < 4 * DIM; k++)
        grad[k] = 77;
    assert_int_equal(dml_objective_compute(objective, batch, tuples, &rng, grad, &loss),
                     DML_ERROR_INPUT);
    if (!strstr(dml_error(), says))
        fail_msg("'%s' does not say '%s'", dml_error(), says);
    assert_true(loss.value == 77);
    for (int k = 0; k < 4 * DIM; k++)
        assert_true(grad[k] == 77);
}

static void bad_batches(void **state) {
    (void)state;
    float x[4 * DIM];
    int32_t labels[4] = {0, 0, 1, 1};
    fill_normal(x, 4 * DIM, 5);
    for (size_t i = 0; criterion_at(i); i++) {
        const struct dml_criterion *criterion = criterion_at(i);
        struct dml_batch batch = {.n = 4, .dim = DIM, .embeddings = x, .labels = labels};
        struct dml_tuples mined = {0}, *tuples = mine(criterion->takes, &batch, &mined);
        struct dml_objective *objective;
        assert_ok(dml_objective_open(criterion->method.name, NULL, &context, &objective));
        static const float not_finite[] = {NAN, INFINITY, -INFINITY};
        for (int bad = 0; bad < 3; bad++) {
            float kept = x[2 * DIM + 3];
            x[2 * DIM + 3] = not_finite[bad];
            refuse(objective, &batch, tuples, "embedding 2 is not finite: component 3");
            x[2 * DIM + 3] = kept;
        }
        labels[3] = CLASSES;
        refuse(objective, &batch, tuples, "label 5 of embedding 3");
        labels[3] = -1;
        refuse(objective, &batch, tuples, "label -1 of embedding 3");
        labels[3] = 1;
        batch.dim = DIM - 1;
        refuse(objective, &batch, tuples, "7 dimensions");
        batch.dim = 0;
        refuse(objective, &batch, tuples, "0 dimensions");
        batch.dim = DIM;
        batch.labels = NULL;
        refuse(objective, &batch, tuples, "no labels");
        batch.embeddings = NULL;
        refuse(objective, &batch, tuples, "no embeddings");
        batch = (struct dml_batch){.dim = DIM, .embeddings = x, .labels = labels};
        refuse(objective, &batch, tuples, "0 embeddings");
        dml_objective_free(objective);
        dml_tuples_free(&mined);
    }
}

static void bad_tuples(void **state) {
    (void)state;
    float x[4 * DIM];
    static const int32_t labels[4] = {0, 0, 1, 1};
    fill_normal(x, 4 * DIM, 5);
    struct dml_batch batch = {.n = 4, .dim = DIM, .embeddings = x, .labels = labels};
    for (size_t i = 0; criterion_at(i); i++) {
        const struct dml_criterion *criterion = criterion_at(i);
        struct dml_objective *objective;
        struct dml_tuples tuples = {0};
        assert_ok(dml_objective_open(criterion->method.name, NULL, &context, &objective));
        for (int kind = DML_TUPLES_NONE; kind <= DML_TUPLES_SETS; kind++)
            if (kind != (int)criterion->takes) {
                tuples.kind = (enum dml_tuple_kind)kind;
                refuse(objective, &batch, kind == DML_TUPLES_NONE ? NULL : &tuples, "takes");
            }
        tuples = (struct dml_tuples){0};
        if (mine(criterion->takes, &batch, &tuples)) {
            int32_t *members[] = {tuples.anchors, tuples.positives, tuples.negatives};
            for (int m = 0; m < 3 && members[m]; m++) {
                int32_t kept = members[m][1];
                members[m][1] = 4;
                refuse(objective, &batch, &tuples, "4 of tuple 1 is not in the batch of 4");
                members[m][1] = -1;
                refuse(objective, &batch, &tuples, "-1 of tuple 1");
                members[m][1] = kept;
            }
            int32_t *anchors = tuples.anchors;
            tuples.anchors = NULL;
            refuse(objective, &batch, &tuples, "no anchors");
            tuples.anchors = anchors;
        }
        dml_objective_free(objective);
        dml_tuples_free(&tuples);
    }
}

static void bad_options(void **state) {
    (void)state;
    static const struct {
        const char *criterion, *flags, *says;
    } cases[] = {
        {"softmax", "--loss_softmax_temperature 0", "above 0"},
        {"softmax", "--loss_softmax_lr -1", "at least 0"},
        {"histogram", "--loss_histogram_nbins 1", "2 to"},
        {"arcface", "--loss_arcface_feature_scale 0", "above 0"},
        {"arcface", "--loss_arcface_angular_margin 4", "3.14"},
        {"softtriplet", "--loss_softtriplet_n_centroids 0", "1 to"},
        {"softtriplet", "--loss_softtriplet_gamma 0", "above 0"},
        {"angular", "--loss_angular_alpha 90", "at most 89"},
        {"multisimilarity", "--loss_multisimilarity_pos_weight 0", "above 0"},
        {"triplet", "--loss_triplet_margin nan", "loss_triplet_margin"},
        {"triplet", "--loss_triplet_margn 1", "loss_triplet_margin"},
        {"tripplet", NULL, "triplet"},
    };
    struct dml_objective *objective;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(
            dml_objective_open(cases[i].criterion, cases[i].flags, &context, &objective),
            DML_ERROR_USAGE);
        if (!strstr(dml_error(), cases[i].says))
            fail_msg("'%s' does not say '%s'", dml_error(), cases[i].says);
    }
    struct dml_criterion_context none = {.dim = 0, .classes = 3};
    assert_int_equal(dml_objective_open("triplet", NULL, &none, &objective), DML_ERROR_INPUT);
    none = (struct dml_criterion_context){.dim = 3, .classes = 0};
    assert_int_equal(dml_objective_open("triplet", NULL, &none, &objective), DML_ERROR_INPUT);
    none = (struct dml_criterion_context){.dim = 1, .classes = 3};
    assert_int_equal(dml_objective_open("snr", NULL, &none, &objective), DML_ERROR_INPUT);
#ifndef __SANITIZE_ADDRESS__ /* which ends the program instead */
    none = (struct dml_criterion_context){.dim = SIZE_MAX / 4, .classes = SIZE_MAX / 4};
    assert_int_equal(dml_objective_open("softmax", NULL, &none, &objective), DML_ERROR_MEMORY);
    assert_int_equal(dml_objective_open("softtriplet", NULL, &none, &objective), DML_ERROR_MEMORY);
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_to_compare),
        cmocka_unit_test(no_tuples),
        cmocka_unit_test(degenerate_embeddings),
        cmocka_unit_test(arcface_at_cosine_one),
        cmocka_unit_test(softmax_of_many_classes),
        cmocka_unit_test(proxynca_of_many_classes),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(quadruplet_without_a_fourth),
        cmocka_unit_test(snr_without_its_regulariser),
        cmocka_unit_test(learnable_parameters),
        cmocka_unit_test(margin_for_semihard),
        cmocka_unit_test(bad_batches),
        cmocka_unit_test(bad_tuples),
        cmocka_unit_test(bad_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
