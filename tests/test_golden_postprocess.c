/* Every case of golden/postprocess: query expansion, its ranking, and re-ranked distances. */
#include "base/npy.h"
#include "dml/postprocess.h"
#include "math/nearest.h"
#include "math/neighbours.h"
#include "support/golden.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The embeddings of a case; `queries` of them ask the `gallery` that begins at `first`. */
struct loaded {
    double *x;
    size_t n, dim, queries, first, gallery;
    bool self;
    cJSON *json;
};

static double number(const struct loaded *loaded, const char *group, const char *key) {
    cJSON *item = cJSON_GetObjectItem(cJSON_GetObjectItem(loaded->json, group), key);
    assert_non_null(item);
    return item->valuedouble;
}

static struct loaded load(const char *name) {
    struct loaded loaded = {0};
    size_t count;
    loaded.x = golden_doubles(&count, "postprocess/%s/embeddings.npy", name);
    free(golden_ints(&loaded.n, "postprocess/%s/labels.npy", name));
    loaded.dim = count / loaded.n;
    loaded.json = golden_json("postprocess/%s/case.json", name);
    loaded.queries = (size_t)cJSON_GetObjectItem(loaded.json, "n_query")->valuedouble;
    loaded.self = loaded.queries == 0;
    loaded.first = loaded.queries;
    loaded.gallery = loaded.n - loaded.first;
    if (loaded.self)
        loaded.queries = loaded.n;
    return loaded;
}

/* Where neighbours are equally far but for rounding, either order will do. */
static void check_ranking(const char *name, const struct loaded *c, const double *expanded,
                          const double *unit) {
    size_t count, width = c->gallery - c->self;
    int32_t *ranking = golden_ints(&count, "postprocess/%s/aqe_ranking.npy", name);
    struct dml_neighbour *found = malloc(c->gallery * sizeof *found);
    const struct dml_values queries = {.wide = expanded};
    const struct dml_values gallery = {.wide = unit + c->first * c->dim};
    assert_int_equal(count, c->queries * width);
    for (size_t q = 0; q < c->queries; q++) {
        double distance[2];
        assert_ok(dml_nearest(&queries, q, &gallery, c->gallery, c->dim, true, c->gallery, found));
        for (size_t r = 0, at = 0; r < c->gallery; r++) {
            if (c->self && found[r].index == q)
                continue;
            size_t expected = (size_t)ranking[q * width + at++];
            distance[0] = found[r].distance;
            distance[1] =
                1 - dml_dot64(expanded + q * c->dim, unit + (c->first + expected) * c->dim, c->dim);
            if (found[r].index != expected && !(fabs(distance[0] - distance[1]) < 1e-12))
                fail_msg("%s: query %zu, rank %zu: %zu, not %zu", name, q, at, found[r].index,
                         expected);
        }
    }
    free(found);
    free(ranking);
}

static double check_expansion(const char *name, const struct loaded *c) {
    size_t count;
    double *expected = golden_doubles(&count, "postprocess/%s/aqe_embeddings.npy", name);
    double *unit = malloc(c->n * c->dim * sizeof *unit), largest = 0;
    double *out = malloc(c->queries * c->dim * sizeof *out);
    uint32_t *own = malloc(c->queries * sizeof *own);
    assert_true(unit && out && own && count == c->queries * c->dim);
    for (size_t i = 0; i < c->n; i++) {
        double norm = sqrt(dml_dot64(c->x + i * c->dim, c->x + i * c->dim, c->dim));
        for (size_t k = 0; k < c->dim; k++)
            unit[i * c->dim + k] = c->x[i * c->dim + k] / norm;
    }
    for (size_t q = 0; q < c->queries; q++)
        own[q] = c->self ? (uint32_t)q : DML_NO_SAMPLE;
    assert_ok(dml_expand_queries(unit, c->queries, own, unit + c->first * c->dim, c->gallery,
                                 c->dim, (size_t)number(c, "aqe", "n"), number(c, "aqe", "alpha"),
                                 out));
    for (size_t i = 0; i < count; i++)
        largest = fmax(largest, fabs(out[i] - expected[i]));
    check_ranking(name, c, out, unit);
    free(expected);
    free(unit);
    free(out);
    free(own);
    return largest;
}

static double check_rerank(const char *name, const struct loaded *c) {
    size_t count;
    double *expected = golden_doubles(&count, "postprocess/%s/rerank_distances.npy", name);
    double *row = malloc(c->n * sizeof *row), largest = 0;
    uint8_t *in_gallery = malloc(c->n);
    assert_true(row && in_gallery && count == c->queries * c->gallery);
    for (size_t i = 0; i < c->n; i++)
        in_gallery[i] = i >= c->first;
    const struct dml_rerank_options options = {(size_t)number(c, "rerank", "k1"),
                                               (size_t)number(c, "rerank", "k2"),
                                               number(c, "rerank", "weight")};
    struct dml_rerank *rerank;
    assert_ok(dml_rerank_open(c->x, c->n, c->dim, NULL, in_gallery, &options, &rerank));
    for (uint32_t q = 0; q < c->queries; q++) {
        assert_ok(dml_rerank_rows(rerank, &q, 1, row));
        for (size_t j = 0; j < c->gallery; j++)
            largest = fmax(largest, fabs(row[c->first + j] - expected[q * c->gallery + j]));
    }
    dml_rerank_free(rerank);
    free(expected);
    free(row);
    free(in_gallery);
    return largest;
}

static void test_cases(void **state) {
    (void)state;
    size_t count;
    char **names = golden_cases("postprocess", &count);
    double largest[2] = {0, 0};
    for (size_t c = 0; c < count; c++) {
        struct loaded loaded = load(names[c]);
        double errors[2] = {check_expansion(names[c], &loaded), check_rerank(names[c], &loaded)};
        for (int i = 0; i < 2; i++) {
            if (!(errors[i] < 1e-7)) /* some arrays of the files are float32 */
                fail_msg("%s: %s differs by %.3g", names[c], i ? "re-ranking" : "expansion",
                         errors[i]);
            largest[i] = fmax(largest[i], errors[i]);
        }
        free(loaded.x);
        cJSON_Delete(loaded.json);
    }
    printf("postprocess: largest errors %.2g (expansion), %.2g (re-ranking)\n", largest[0],
           largest[1]);
    assert_true(count > 0);
    golden_free_names(names, count);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
