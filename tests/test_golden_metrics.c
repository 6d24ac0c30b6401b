/* Every value of golden/metrics/NAME/expected.json. */
#include "dml/metrics.h"
#include "math/kmeans.h"
#include "metrics/clustering.h"
#include "metrics/evaluator.h"
#include "support/golden.h"
#include "support/recalls.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static char **cases;
static size_t case_count;

static int find_cases(void **state) {
    (void)state;
    cases = golden_cases("metrics", &case_count);
    return 0;
}

static int free_cases(void **state) {
    (void)state;
    golden_free_names(cases, case_count);
    return 0;
}

struct loaded {
    struct dml_evaluation_set set;
    float *embeddings;
    int32_t *labels;
};

static struct loaded load(const char *name) {
    struct loaded loaded = {0};
    size_t count;
    loaded.embeddings = golden_floats(&count, "metrics/%s/features.npy", name);
    loaded.labels = golden_ints(&loaded.set.n, "metrics/%s/labels.npy", name);
    loaded.set.dim = count / loaded.set.n;
    loaded.set.embeddings = loaded.embeddings;
    loaded.set.labels = loaded.labels;
    return loaded;
}

static void unload(struct loaded *loaded) {
    free(loaded->embeddings);
    free(loaded->labels);
}

/* All metrics of the file that are computed from embeddings and labels alone, in one call. */
static void test_values(void **state) {
    (void)state;
    for (size_t c = 0; c < case_count; c++) {
        struct loaded loaded = load(cases[c]);
        cJSON *expected = golden_json("metrics/%s/expected.json", cases[c]), *item;
        enum { MOST = 256 };
        const char *names[MOST];
        char others[MOST][64];
        double values[MOST];
        size_t count = 0;
        cJSON_ArrayForEach(item, expected) {
            if (strstr(item->string, "given_assignments") || strstr(item->string, "kmeans"))
                continue;
            assert_true(count < MOST);
            names[count] = recall_that_fits(&loaded.set, item->string, others[count]);
            values[count++] = item->valuedouble;
        }
        assert_true(count > 0);
        struct dml_metric_value found[MOST];
        assert_ok(dml_evaluate(&loaded.set, names, count, NULL, found));
        for (size_t i = 0; i < count; i++) {
            assert_string_equal(found[i].name, names[i]);
            if (!(fabs(found[i].value - values[i]) <= 1e-5))
                fail_msg("%s: %s is %.9g, not %.9g", cases[c], names[i], found[i].value, values[i]);
        }
        /* One at a time gives the same: nothing depends on what else was asked for. */
        for (size_t i = 0; i < count; i += 3) {
            struct dml_metric_value alone;
            assert_ok(dml_evaluate(&loaded.set, &names[i], 1, NULL, &alone));
            assert_true(alone.value == found[i].value);
        }
        dml_metric_values_free(found, count);
        cJSON_Delete(expected);
        unload(&loaded);
    }
}

static void test_spectrum(void **state) {
    (void)state;
    for (size_t c = 0; c < case_count; c++) {
        struct loaded loaded = load(cases[c]);
        size_t count;
        double *expected = golden_doubles(&count, "metrics/%s/rho_spectrum_0.npy", cases[c]);
        const char *name = "rho_spectrum@0";
        struct dml_metric_value found;
        assert_ok(dml_evaluate(&loaded.set, &name, 1, NULL, &found));
        assert_int_equal(found.vector_count, count);
        for (size_t i = 0; i < count; i++)
            assert_true(fabs(found.vector[i] - expected[i]) < 1e-5);
        dml_metric_values_free(&found, 1);
        free(expected);
        unload(&loaded);
    }
}

static void test_given_assignments(void **state) {
    (void)state;
    for (size_t c = 0; c < case_count; c++) {
        struct loaded loaded = load(cases[c]);
        cJSON *expected = golden_json("metrics/%s/expected.json", cases[c]);
        int32_t *assigned = golden_ints(NULL, "metrics/%s/assignments.npy", cases[c]);
        struct dml_prepared prepared = {0};
        assert_ok(dml_prepare_classes(&loaded.set, &prepared));
        struct dml_clustering_scores scores;
        assert_ok(
            dml_clustering_compare(&prepared.inputs, assigned, prepared.inputs.classes, &scores));
        double nmi = cJSON_GetObjectItem(expected, "nmi_given_assignments")->valuedouble;
        double f1 = cJSON_GetObjectItem(expected, "f1_given_assignments")->valuedouble;
        assert_true(fabs(scores.nmi - nmi) < 1e-5);
        assert_true(fabs(scores.f1 - f1) < 1e-5);
        dml_prepared_free(&prepared);
        free(assigned);
        cJSON_Delete(expected);
        unload(&loaded);
    }
}

/* Draws and splits as faiss does: its objective within 2 percent, and nearly all points in clusters
 * of the same numbers. */
static void test_kmeans(void **state) {
    (void)state;
    for (size_t c = 0; c < case_count; c++) {
        struct loaded loaded = load(cases[c]);
        size_t n = loaded.set.n, dim = loaded.set.dim, same = 0;
        cJSON *expected = golden_json("metrics/%s/expected.json", cases[c]);
        int32_t *assigned = golden_ints(NULL, "metrics/%s/assignments.npy", cases[c]);
        double wanted = cJSON_GetObjectItem(expected, "kmeans_objective_faiss")->valuedouble;
        struct dml_prepared prepared = {0};
        assert_ok(dml_prepare_classes(&loaded.set, &prepared));
        struct dml_frame frame;
        struct dml_rows rows;
        assert_ok(dml_frame_make(&(struct dml_side){.embeddings = {.narrow = loaded.embeddings}},
                                 NULL, n, dim, &frame));
        assert_ok(dml_rows_make(&frame, &frame.gallery, prepared.by_class, n, &rows));
        struct dml_kmeans_options options = {.clusters = prepared.inputs.classes, .iterations = 20};
        struct dml_kmeans found = {.assigned = malloc(n * sizeof *found.assigned),
                                   .centroids = malloc(options.clusters * dim * sizeof(float))};
        assert_ok(dml_kmeans_run(&frame, &rows, &options, &found));
        for (size_t i = 0; i < n; i++)
            same += found.assigned[i] == assigned[rows.index[i]];
        printf("%s: k-means objective %.6g, faiss %.6g; %zu of %zu points in the same cluster\n",
               cases[c], found.objective, wanted, same, n);
        assert_true(fabs(found.objective - wanted) < 0.02 * wanted);
        assert_true((double)same > 0.9 * (double)n);
        free(found.assigned);
        free(found.centroids);
        free(assigned);
        dml_rows_free(&rows);
        dml_frame_free(&frame);
        dml_prepared_free(&prepared);
        cJSON_Delete(expected);
        unload(&loaded);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_spectrum),
        cmocka_unit_test(test_given_assignments),
        cmocka_unit_test(test_kmeans),
    };
    return cmocka_run_group_tests(tests, find_cases, free_cases);
}
