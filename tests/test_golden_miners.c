/* What miners draw, against the probabilities and candidates in golden/miners/CASE. */
#include "dml/dml.h"

#include "miners/inverse_sphere.h"
#include "support/chi_square.h"
#include "support/golden.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 3000, SEED = 11 };

struct golden_case {
    const char *name;
    struct dml_batch batch;
    float *embeddings;
    int32_t *labels;
    double *distances, *probabilities;        /* (n, n) */
    int32_t *semihard;                        /* (n, n, n): anchor, positive, negative; or NULL */
    int32_t *soft_positives, *soft_negatives; /* (n, n) */
};

static int32_t *masks(const char *name, const char *file, size_t expected) {
    char relative[512];
    snprintf(relative, sizeof relative, "miners/%s/%s.npy", name, file);
    if (!golden_exists(relative))
        return NULL;
    size_t count;
    int32_t *mask = golden_ints(&count, "%s", relative);
    assert_int_equal(count, expected);
    return mask;
}

static void load(struct golden_case *golden, const char *name) {
    size_t n, floats, count;
    memset(golden, 0, sizeof *golden);
    golden->name = name;
    golden->labels = golden_ints(&n, "miners/%s/labels.npy", name);
    golden->embeddings = golden_floats(&floats, "miners/%s/embeddings.npy", name);
    golden->batch = (struct dml_batch){n, floats / n, golden->embeddings, golden->labels, NULL};
    golden->distances = golden_doubles(&count, "miners/%s/distances.npy", name);
    assert_int_equal(count, n * n);
    golden->probabilities = golden_doubles(&count, "miners/%s/distance_probabilities.npy", name);
    assert_int_equal(count, n * n);
    golden->semihard = masks(name, "semihard_negatives", n * n * n);
    golden->soft_positives = masks(name, "softhard_positives", n * n);
    golden->soft_negatives = masks(name, "softhard_negatives", n * n);
}

static void unload(struct golden_case *golden) {
    free(golden->embeddings);
    free(golden->labels);
    free(golden->distances);
    free(golden->probabilities);
    free(golden->semihard);
    free(golden->soft_positives);
    free(golden->soft_negatives);
}

static void for_every_case(void (*check)(const struct golden_case *golden)) {
    size_t count;
    char **names = golden_cases("miners", &count);
    for (size_t i = 0; i < count; i++) {
        struct golden_case golden;
        load(&golden, names[i]);
        check(&golden);
        unload(&golden);
    }
    golden_free_names(names, count);
}

static bool same(const struct golden_case *golden, size_t i, size_t j) {
    return golden->labels[i] == golden->labels[j];
}

/* Counts of what was drawn: positives (n, n) by anchor; negatives either (n, n) by anchor or
 * (n, n, n) by anchor and positive. */
struct draws {
    size_t n, *positives, *negatives, swapped, tuples;
    bool by_positive;
};

static struct draws draw(const struct golden_case *golden, const char *miner, bool by_positive) {
    size_t n = golden->batch.n;
    struct draws draws = {.n = n, .by_positive = by_positive};
    draws.positives = calloc(n * n, sizeof *draws.positives);
    draws.negatives = calloc(by_positive ? n * n * n : n * n, sizeof *draws.negatives);
    assert_true(draws.positives && draws.negatives);
    struct dml_miner_context context = {.dim = golden->batch.dim, .margin = 0.2};
    struct dml_mining *mining;
    assert_ok(dml_mining_open(miner, NULL, &context, &mining));
    struct dml_tuples tuples = {0};
    for (uint64_t step = 0; step < ROUNDS; step++) {
        struct dml_rng rng = dml_rng_make(SEED, DML_PURPOSE_MINER, step, 0);
        size_t swapped;
        assert_ok(dml_mining_compute(mining, &golden->batch, &rng, &tuples, &swapped));
        draws.swapped += swapped;
        draws.tuples += tuples.count;
        size_t swaps = 0;
        for (size_t t = 0; t < tuples.count; t++) {
            size_t a = (size_t)tuples.anchors[t], p = (size_t)tuples.positives[t];
            size_t m = (size_t)tuples.negatives[t];
            assert_true(a < n && p < n && m < n && same(golden, a, p));
            if (same(golden, a, m)) { /* rho_distance's triplets of one class */
                assert_true(p == a && m != a);
                swaps++;
                continue;
            }
            draws.positives[a * n + p]++;
            draws.negatives[(by_positive ? a * n + p : a) * n + m]++;
        }
        assert_int_equal(swaps, swapped);
    }
    dml_tuples_free(&tuples);
    dml_mining_free(mining);
    return draws;
}

static void draws_free(struct draws *draws) {
    free(draws->positives);
    free(draws->negatives);
}

static void assert_fits(const struct golden_case *golden, const struct chi_square *chi,
                        const char *what) {
    double excess = chi_square_excess(chi);
    if (!(excess < 4) || chi->freedom == 0)
        fail_msg("%s: %s: chi-square %.1f at %.0f degrees of freedom, %.1f deviations above",
                 golden->name, what, chi->statistic, chi->freedom, excess);
}

/* Evenly among the candidates, or among all of `otherwise` where there is none. */
static void even(const int32_t *candidates, const bool *otherwise, size_t n, double *out) {
    size_t count = 0, fallback = 0;
    for (size_t j = 0; j < n; j++) {
        count += candidates && candidates[j];
        fallback += otherwise[j];
    }
    for (size_t j = 0; j < n; j++)
        out[j] = count > 0 ? (candidates[j] ? 1.0 / (double)count : 0)
                           : (otherwise[j] ? 1.0 / (double)fallback : 0);
}

static void positives_of(const struct golden_case *golden, size_t a, bool *out) {
    for (size_t j = 0; j < golden->batch.n; j++)
        out[j] = same(golden, a, j) && j != a;
}

static void negatives_of(const struct golden_case *golden, size_t a, bool *out) {
    for (size_t j = 0; j < golden->batch.n; j++)
        out[j] = !same(golden, a, j);
}

/* Positives of every anchor against even draws from the candidates (NULL: any positive). */
static void check_positives(const struct golden_case *golden, const struct draws *draws,
                            const int32_t *candidates, const char *what) {
    size_t n = draws->n;
    struct chi_square chi = {0};
    bool *any = calloc(n, sizeof *any);
    double *expected = calloc(n, sizeof *expected);
    for (size_t a = 0; a < n; a++) {
        positives_of(golden, a, any);
        even(candidates ? candidates + a * n : NULL, any, n, expected);
        chi_square_add(&chi, expected, draws->positives + a * n, n);
    }
    bool pairs_only = chi.freedom == 0; /* one candidate each: nothing to test beyond membership */
    if (!pairs_only)
        assert_fits(golden, &chi, what);
    free(any);
    free(expected);
}

static void check_distances(const struct golden_case *golden) {
    size_t n = golden->batch.n;
    struct dml_miner_context context = {.dim = golden->batch.dim, .margin = 0.2};
    void *state;
    assert_ok(miner_create(NULL, &context, &state));
    assert_ok(miner_measure(state, &golden->batch));
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            double d = golden->distances[i * n + j];
            assert_true(fabs(miner_distance(&golden->batch, i, j) - d) <= 1e-6 * (1 + d));
            assert_true(miner_beyond(state, &golden->batch, i, j, d + 2e-6) < 0);
            assert_true(d < 2e-6 || miner_beyond(state, &golden->batch, i, j, d - 2e-6) > 0);
        }
    miner_destroy(state);
}

/* A draw is looked up in the running sum of the weights: just inside each end of a sample's share
 * it must give that sample. This pins every probability to a few parts in 10^5. */
static void check_probabilities(const struct golden_case *golden) {
    size_t n = golden->batch.n;
    struct dml_miner_context context = {.dim = golden->batch.dim, .margin = 0.2};
    void *made;
    assert_ok(miner_create(NULL, &context, &made));
    struct miner_state *state = made;
    assert_ok(miner_classify(state, golden->labels, n));
    assert_ok(miner_measure(state, &golden->batch));
    struct dml_tuples tuples = {0};
    assert_ok(dml_tuples_reserve(&tuples, DML_TUPLES_TRIPLETS, 2));
    tuples.count = 2;
    size_t tested = 0;
    for (size_t a = 0; a < n; a++) {
        double before = 0;
        for (size_t j = 0; j < n; j++) {
            double share = golden->probabilities[a * n + j];
            if (share > 2e-3) {
                state->draws[0] = before + 0.02 * share;
                state->draws[1] = before + 0.98 * share;
                tuples.anchors[0] = tuples.anchors[1] = (int32_t)a;
                tuples.negatives[0] = tuples.negatives[1] = -1;
                assert_ok(miner_inverse_sphere(state, &golden->batch, 0.5, &tuples));
                assert_int_equal(tuples.negatives[0], j);
                assert_int_equal(tuples.negatives[1], j);
                tested++;
            }
            before += share;
        }
    }
    assert_true(tested >= n);
    dml_tuples_free(&tuples);
    miner_destroy(state);
}

static void check_distance(const struct golden_case *golden) {
    size_t n = golden->batch.n;
    struct draws draws = draw(golden, "distance", false);
    assert_int_equal(draws.tuples, ROUNDS * n);
    assert_int_equal(draws.swapped, 0);
    struct chi_square chi = {0};
    for (size_t a = 0; a < n; a++)
        chi_square_add(&chi, golden->probabilities + a * n, draws.negatives + a * n, n);
    assert_fits(golden, &chi, "distance, negatives");
    check_positives(golden, &draws, NULL, "distance, positives");
    draws_free(&draws);
}

static void check_rho_distance(const struct golden_case *golden) {
    size_t n = golden->batch.n;
    struct draws draws = draw(golden, "rho_distance", false);
    struct chi_square chi = {0};
    for (size_t a = 0; a < n; a++)
        chi_square_add(&chi, golden->probabilities + a * n, draws.negatives + a * n, n);
    assert_fits(golden, &chi, "rho_distance, negatives");
    double expected = 0.2 * (double)draws.tuples;
    assert_true(fabs((double)draws.swapped - expected) < 4 * sqrt(0.8 * expected));
    draws_free(&draws);
}

static void check_semihard(const struct golden_case *golden) {
    if (!golden->semihard)
        return;
    size_t n = golden->batch.n;
    struct draws draws = draw(golden, "semihard", true);
    assert_int_equal(draws.tuples, ROUNDS * n);
    check_positives(golden, &draws, NULL, "semihard, positives");
    struct chi_square chi = {0};
    bool *any = calloc(n, sizeof *any);
    double *expected = calloc(n, sizeof *expected);
    for (size_t a = 0; a < n; a++)
        for (size_t p = 0; p < n; p++) {
            size_t at = (a * n + p) * n;
            negatives_of(golden, a, any);
            even(golden->semihard + at, any, n, expected);
            chi_square_add(&chi, expected, draws.negatives + at, n);
        }
    assert_fits(golden, &chi, "semihard, negatives");
    free(any);
    free(expected);
    draws_free(&draws);
}

static void check_softhard(const struct golden_case *golden) {
    if (!golden->soft_negatives)
        return;
    size_t n = golden->batch.n;
    struct draws draws = draw(golden, "softhard", false);
    assert_int_equal(draws.tuples, ROUNDS * n);
    check_positives(golden, &draws, golden->soft_positives, "softhard, positives");
    struct chi_square chi = {0};
    bool *any = calloc(n, sizeof *any);
    double *expected = calloc(n, sizeof *expected);
    for (size_t a = 0; a < n; a++) {
        negatives_of(golden, a, any);
        even(golden->soft_negatives + a * n, any, n, expected);
        chi_square_add(&chi, expected, draws.negatives + a * n, n);
    }
    assert_fits(golden, &chi, "softhard, negatives");
    free(any);
    free(expected);
    draws_free(&draws);
}

static void distances(void **state) {
    (void)state;
    for_every_case(check_distances);
}

static void distance_probabilities(void **state) {
    (void)state;
    for_every_case(check_probabilities);
}

static void distance(void **state) {
    (void)state;
    for_every_case(check_distance);
}

static void rho_distance(void **state) {
    (void)state;
    for_every_case(check_rho_distance);
}

static void semihard(void **state) {
    (void)state;
    for_every_case(check_semihard);
}

static void softhard(void **state) {
    (void)state;
    for_every_case(check_softhard);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(distances), cmocka_unit_test(distance_probabilities),
        cmocka_unit_test(distance),  cmocka_unit_test(rho_distance),
        cmocka_unit_test(semihard),  cmocka_unit_test(softhard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
