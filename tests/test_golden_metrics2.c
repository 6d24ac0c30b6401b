/* Every value of golden/metrics2/NAME/expected.json: sets with masks and groups. */
#include "dml/metrics.h"
#include "metrics/clustering.h"
#include "metrics/evaluator.h"
#include "support/golden.h"
#include "support/recalls.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct loaded {
    struct dml_evaluation_set set;
    float *embeddings;
    int32_t *labels, *groups;
    uint8_t *masks[2];
};

static uint8_t *load_mask(const char *name, const char *file, size_t n) {
    char path[256];
    snprintf(path, sizeof path, "metrics2/%s/%s.npy", name, file);
    if (!golden_exists(path))
        return NULL;
    size_t count;
    int32_t *values = golden_ints(&count, "metrics2/%s/%s.npy", name, file);
    uint8_t *mask = malloc(n);
    assert_true(mask && count == n);
    for (size_t i = 0; i < n; i++)
        mask[i] = values[i] != 0;
    free(values);
    return mask;
}

static struct loaded load(const char *name) {
    struct loaded loaded = {0};
    char groups[256];
    size_t count;
    loaded.embeddings = golden_floats(&count, "metrics2/%s/features.npy", name);
    loaded.labels = golden_ints(&loaded.set.n, "metrics2/%s/labels.npy", name);
    snprintf(groups, sizeof groups, "metrics2/%s/groups.npy", name);
    if (golden_exists(groups))
        loaded.groups = golden_ints(NULL, "metrics2/%s/groups.npy", name);
    loaded.masks[0] = load_mask(name, "is_query", loaded.set.n);
    loaded.masks[1] = load_mask(name, "is_gallery", loaded.set.n);
    loaded.set.dim = count / loaded.set.n;
    loaded.set.embeddings = loaded.embeddings;
    loaded.set.labels = loaded.labels;
    loaded.set.groups = loaded.groups;
    loaded.set.is_query = loaded.masks[0];
    loaded.set.is_gallery = loaded.masks[1];
    return loaded;
}

static void unload(struct loaded *loaded) {
    free(loaded->embeddings);
    free(loaded->labels);
    free(loaded->groups);
    free(loaded->masks[0]);
    free(loaded->masks[1]);
}

static double check_assignments(const struct loaded *loaded, const char *name, double expected) {
    int32_t *assigned = golden_ints(NULL, "metrics2/%s/assignments.npy", name), most = 0;
    struct dml_prepared prepared = {0};
    double ami;
    for (size_t i = 0; i < loaded->set.n; i++)
        most = assigned[i] > most ? assigned[i] : most;
    assert_ok(dml_prepare_classes(&loaded->set, &prepared));
    assert_ok(dml_clustering_adjusted(&prepared.inputs, assigned, (size_t)most + 1, &ami));
    dml_prepared_free(&prepared);
    free(assigned);
    return fabs(ami - expected);
}

static double check_case(const char *name) {
    struct loaded loaded = load(name);
    cJSON *expected = golden_json("metrics2/%s/expected.json", name), *item;
    size_t all = (size_t)cJSON_GetArraySize(expected), count = 0;
    const char **names = malloc(all * sizeof *names);
    double *values = malloc(all * sizeof *values), largest = 0;
    char(*others)[64] = malloc(all * sizeof *others);
    struct dml_metric_value *found = malloc(all * sizeof *found);
    assert_true(names && values && others && found);
    cJSON_ArrayForEach(item, expected) {
        if (strcmp(item->string, "ami_given_assignments") == 0) {
            largest = fmax(largest, check_assignments(&loaded, name, item->valuedouble));
            continue;
        }
        names[count] = recall_that_fits(&loaded.set, item->string, others[count]);
        values[count++] = item->valuedouble;
    }
    assert_ok(dml_evaluate(&loaded.set, names, count, NULL, found));
    for (size_t i = 0; i < count; i++) {
        double error = fabs(found[i].value - values[i]);
        if (!(error <= 1e-5))
            fail_msg("%s: %s is %.9g, not %.9g", name, names[i], found[i].value, values[i]);
        largest = fmax(largest, error);
    }
    for (size_t i = 0; i < count; i += 3) { /* nothing depends on what else was asked for */
        struct dml_metric_value alone;
        assert_ok(dml_evaluate(&loaded.set, &names[i], 1, NULL, &alone));
        assert_true(alone.value == found[i].value);
    }
    dml_metric_values_free(found, count);
    free(names);
    free(values);
    free(others);
    free(found);
    cJSON_Delete(expected);
    unload(&loaded);
    return largest;
}

static void test_values(void **state) {
    (void)state;
    size_t count;
    char **names = golden_cases("metrics2", &count);
    double largest = 0;
    for (size_t c = 0; c < count; c++)
        largest = fmax(largest, check_case(names[c]));
    printf("metrics2: largest error %.2g\n", largest);
    assert_true(count > 0);
    golden_free_names(names, count);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_values)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
