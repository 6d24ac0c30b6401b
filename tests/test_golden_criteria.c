/* Every folder of golden/criteria and golden/criteria2: loss, dL/dE and gradients of the learnable
 * parameters. */
#include "criteria/class_bank.h"
#include "support/golden.h"
#include "support/tested.h"

#include "dml/dml.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TOLERANCE 1e-5

struct fixture {
    const char *name; /* its folder: criteria/NAME */
    cJSON *json;
    struct dml_batch batch;
    float *embeddings;
    int32_t *labels;
    size_t classes;
    const char *arch;
    char flags[1000]; /* as on a command line */
};

static void read_fixture(struct fixture *fixture, const char *name) {
    size_t values, labels;
    memset(fixture, 0, sizeof *fixture);
    fixture->name = name;
    fixture->json = golden_json("%s/case.json", name);
    fixture->embeddings = golden_floats(&values, "%s/embeddings.npy", name);
    fixture->labels = golden_ints(&labels, "%s/labels.npy", name);
    fixture->classes = (size_t)cJSON_GetObjectItem(fixture->json, "n_classes")->valuedouble;
    fixture->batch = (struct dml_batch){.n = labels,
                                        .dim = values / labels,
                                        .embeddings = fixture->embeddings,
                                        .labels = fixture->labels};
    const cJSON *flags = cJSON_GetObjectItem(fixture->json, "flags");
    fixture->arch = cJSON_GetStringValue(cJSON_GetObjectItem(flags, "arch"));
    golden_flags(flags, "arch", fixture->flags, sizeof fixture->flags);
}

static bool read_indices(const char *name, const char *role, int32_t **out, size_t *count) {
    char path[500];
    snprintf(path, sizeof path, "%s/%s.npy", name, role);
    if (golden_exists(path)) {
        free(*out);
        *out = golden_ints(count, "%s", path);
        return true;
    }
    return false;
}

/* Every sample whose class has another one: what the miner lifted gives. */
static void anchors_of(const struct dml_batch *batch, struct dml_tuples *tuples) {
    for (size_t i = 0; i < batch->n; i++) {
        bool alone = true;
        for (size_t j = 0; j < batch->n; j++)
            alone &= j == i || batch->labels[j] != batch->labels[i];
        if (!alone)
            tuples->anchors[tuples->count++] = (int32_t)i;
    }
}

static void read_pairs(const char *name, const char *prefix, struct dml_pairs *pairs) {
    char role[20];
    snprintf(role, sizeof role, "%s_anchors", prefix);
    read_indices(name, role, &pairs->anchors, &pairs->count);
    snprintf(role, sizeof role, "%s_others", prefix);
    read_indices(name, role, &pairs->others, &pairs->count);
    pairs->capacity = pairs->count;
}

static void read_tuples(const struct fixture *fixture, enum dml_tuple_kind kind,
                        struct dml_tuples *tuples) {
    if (kind == DML_TUPLES_LISTS) {
        assert_ok(dml_tuples_reserve_lists(tuples, 0, 0));
        read_pairs(fixture->name, "pos", &tuples->positive_pairs);
        read_pairs(fixture->name, "neg", &tuples->negative_pairs);
        return;
    }
    assert_ok(dml_tuples_reserve(tuples, kind, fixture->batch.n));
    bool given = read_indices(fixture->name, "anchors", &tuples->anchors, &tuples->count);
    read_indices(fixture->name, "positives", &tuples->positives, &tuples->count);
    read_indices(fixture->name, "negatives", &tuples->negatives, &tuples->count);
    read_indices(fixture->name, "fourth", &tuples->fourth, &tuples->count);
    if (given)
        tuples->capacity = tuples->count;
    else
        anchors_of(&fixture->batch, tuples);
}

static size_t set_parameters(struct dml_objective *objective, const char *name,
                             struct dml_criterion_parameter *parameters, size_t max) {
    size_t count = dml_objective_parameters(objective, parameters, max);
    for (size_t i = 0; i < count; i++) {
        size_t values;
        float *golden = golden_floats(&values, "%s/param_%s.npy", name, parameters[i].name);
        assert_int_equal(values, parameters[i].dims[0] * parameters[i].dims[1]);
        memcpy(parameters[i].values, golden, values * sizeof *golden);
        struct dml_class_bank *bank = parameters[i].bank;
        if (bank)
            assert_ok(bank->ops->write(bank, DML_BANK_VALUES, golden));
        free(golden);
    }
    return count;
}

/* manifold: the proxy of each class, from that of each sample. */
static void set_meta_classes(struct dml_objective *objective, const struct fixture *fixture) {
    struct dml_criterion_buffer buffer;
    int32_t *proxies = NULL;
    size_t count;
    if (!read_indices(fixture->name, "meta_classes", &proxies, &count))
        return;
    assert_int_equal(dml_objective_buffers(objective, &buffer, 1), 1);
    assert_string_equal(buffer.name, "meta_classes");
    for (size_t i = 0; i < count; i++)
        buffer.ints[fixture->labels[i]] = proxies[i];
    free(proxies);
}

static enum dml_tuple_kind kind_of(const struct dml_criterion *criterion, const char *name) {
    char path[500];
    snprintf(path, sizeof path, "%s/pos_anchors.npy", name);
    return golden_exists(path) ? criterion->may_take : criterion->takes;
}

static double worst; /* of all errors that passed */

static int wrong(const char *name, const char *what, double error) {
    if (error <= TOLERANCE) {
        worst = fmax(worst, error);
        return 0;
    }
    print_error("%s: %s is off by %.3g\n", name, what, error);
    return 1;
}

static int compare(const struct fixture *fixture, const float *grad, double loss,
                   const struct dml_criterion_parameter *parameters, size_t count) {
    const char *name = fixture->name;
    size_t values;
    double *expected = golden_doubles(NULL, "%s/loss.npy", name);
    int bad = wrong(name, "the loss", fabs(loss - *expected) / fmax(fabs(*expected), 1e-30));
    free(expected);
    expected = golden_doubles(&values, "%s/grad_embeddings.npy", name);
    assert_int_equal(values, fixture->batch.n * fixture->batch.dim);
    bad += wrong(name, "the gradient of the embeddings",
                 relative_error(grad, expected, values, 1e-30));
    free(expected);
    for (size_t i = 0; i < count; i++) {
        expected = golden_doubles(&values, "%s/grad_%s.npy", name, parameters[i].name);
        struct dml_class_bank *bank = parameters[i].bank;
        if (bank)
            assert_ok(bank->ops->read(bank, DML_BANK_GRAD, parameters[i].grad));
        bad += wrong(name, parameters[i].name,
                     relative_error(parameters[i].grad, expected, values, 1e-30));
        free(expected);
    }
    return bad;
}

/* Returns how many of its figures are wrong. */
static int run(const char *name) {
    struct fixture fixture;
    read_fixture(&fixture, name);
    const char *criterion = cJSON_GetObjectItem(fixture.json, "loss")->valuestring;
    struct dml_criterion_context context = {
        .dim = fixture.batch.dim,
        .classes = fixture.classes,
        .lr = 1e-5,
        .miner = cJSON_GetStringValue(cJSON_GetObjectItem(fixture.json, "miner")),
        .arch = fixture.arch,
        .banks = tested_banks(),
    };
    struct dml_objective *objective;
    if (dml_objective_open(criterion, fixture.flags, &context, &objective)) {
        print_error("%s: %s\n", name, dml_error());
        return 1;
    }
    enum dml_tuple_kind kind = kind_of(dml_objective_criterion(objective), name);
    struct dml_tuples tuples = {0};
    if (kind != DML_TUPLES_NONE)
        read_tuples(&fixture, kind, &tuples);
    struct dml_criterion_parameter parameters[4];
    size_t count = set_parameters(objective, name, parameters, 4);
    set_meta_classes(objective, &fixture);

    float *grad = malloc(fixture.batch.n * fixture.batch.dim * sizeof *grad);
    assert_non_null(grad);
    struct dml_loss loss;
    struct dml_rng rng = dml_rng_make(1, DML_PURPOSE_OTHER, 0, 0);
    assert_ok(dml_objective_compute(objective, &fixture.batch,
                                    kind == DML_TUPLES_NONE ? NULL : &tuples, &rng, grad, &loss));
    int bad = compare(&fixture, grad, loss.value, parameters, count);

    free(grad);
    dml_tuples_free(&tuples);
    dml_objective_free(objective);
    free(fixture.embeddings);
    free(fixture.labels);
    cJSON_Delete(fixture.json);
    return bad;
}

static void every_case(const char *folder) {
    size_t count;
    int bad = 0;
    worst = 0;
    char **names = golden_cases(folder, &count);
    for (size_t i = 0; i < count; i++) {
        char name[400];
        snprintf(name, sizeof name, "%s/%s", folder, names[i]);
        bad += run(name);
    }
    print_message("largest relative error of those within %g: %.2g\n", TOLERANCE, worst);
    golden_free_names(names, count);
    assert_int_equal(bad, 0);
}

static void criteria(void **state) {
    (void)state;
    every_case("criteria");
}

static void criteria2(void **state) {
    (void)state;
    every_case("criteria2");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(criteria), cmocka_unit_test(criteria2)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
