#include "math/gaussian.h"
#include "math/linear.h"
#include "samplers/d2_coreset.h"
#include "samplers/disthist_batchmatch.h"
#include "samplers/greedy_coreset.h"
#include "support/golden.h"

#include <math.h>
#include <stdlib.h>

/* The stored embeddings all golden values are made from, and their squared distances. */
struct storage {
    size_t n, dim;
    double *x, *distances2;
};

static struct storage load_storage(void) {
    struct dml_npy npy;
    assert_ok(dml_npy_open(golden_path("samplers/storage.npy"), &npy));
    struct storage s = {.n = npy.dims[0], .dim = npy.dims[1]};
    dml_npy_close(&npy);
    s.x = golden_doubles(NULL, "samplers/storage.npy");
    s.distances2 = malloc(s.n * s.n * sizeof(double));
    assert_non_null(s.distances2);
    dml_self_distances2(s.x, s.n, s.dim, s.distances2);
    return s;
}

static void free_storage(struct storage *s) {
    free(s->x);
    free(s->distances2);
}

static void test_greedy_sequence(void **state) {
    (void)state;
    struct storage s = load_storage();
    size_t count;
    int32_t *start = golden_ints(NULL, "samplers/greedy_start.npy");
    int32_t *expected = golden_ints(&count, "samplers/greedy_coreset.npy");
    uint32_t *chosen = malloc(count * sizeof *chosen);
    double *nearest = malloc(2 * s.n * sizeof *nearest);
    const struct dml_greedy_options options = {.coreset_lim = 1e-9};
    struct dml_rng rng = dml_rng_make(0, DML_PURPOSE_OTHER, 0, 0);
    dml_greedy_coreset_select(s.distances2, s.n, (size_t)start[0], count, &options, &rng, nearest,
                              chosen);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(chosen[i], expected[i]);
    free(start), free(expected), free(chosen), free(nearest);
    free_storage(&s);
}

/* The second point that the third draw was made after: its file's name has it. */
static int32_t second_chosen(size_t n) {
    for (size_t i = 0; i < n; i++) {
        char file[100];
        snprintf(file, sizeof file, "samplers/d2_third_draw_after_%zu_indices.npy", i);
        if (golden_exists(file))
            return (int32_t)i;
    }
    fail_msg("samplers/ has no d2_third_draw_after_N_indices.npy");
    return -1;
}

/* The draw after the points `chosen`. */
static void check_d2(const struct storage *s, const double *log_density, const char *name,
                     const int32_t *chosen, size_t chosen_count) {
    size_t count;
    int32_t *left = golden_ints(&count, "samplers/%s_indices.npy", name);
    double *expected = golden_doubles(NULL, "samplers/%s_probabilities.npy", name);
    double *sums = calloc(s->n, sizeof *sums), *probabilities = malloc(s->n * sizeof *sums);
    for (size_t c = 0; c < chosen_count; c++)
        for (size_t i = 0; i < s->n; i++)
            sums[i] += s->distances2[i * s->n + (size_t)chosen[c]];
    for (size_t c = 0; c < chosen_count; c++)
        sums[chosen[c]] = NAN;
    dml_d2_probabilities(log_density, sums, s->n, 1, probabilities);
    assert_int_equal(count, s->n - chosen_count);
    double total = 0, largest = 0;
    for (size_t i = 0; i < count; i++)
        largest = fmax(largest, expected[i]);
    for (size_t i = 0; i < count; i++) {
        double got = probabilities[left[i]];
        total += got;
        assert_true(fabs(got - expected[i]) <= 1e-5 * largest);
    }
    assert_true(fabs(total - 1) < 1e-12);
    for (size_t c = 0; c < chosen_count; c++)
        assert_true(probabilities[chosen[c]] == 0);
    free(left), free(expected), free(sums), free(probabilities);
}

static void test_d2_probabilities(void **state) {
    (void)state;
    struct storage s = load_storage();
    struct dml_gaussian gaussian;
    double *log_density = malloc(s.n * sizeof *log_density);
    assert_ok(dml_gaussian_open(&gaussian, s.n, s.dim));
    assert_ok(dml_gaussian_fit_relative(&gaussian, s.x, s.n, 1e-8));
    dml_gaussian_mahalanobis2(&gaussian, s.n, log_density);
    for (size_t i = 0; i < s.n; i++)
        log_density[i] *= -0.5;
    int32_t *start = golden_ints(NULL, "samplers/greedy_start.npy");
    const int32_t chosen[] = {start[0], second_chosen(s.n)};
    char third[50];
    snprintf(third, sizeof third, "d2_third_draw_after_%d", chosen[1]);
    check_d2(&s, log_density, "d2_second_draw", chosen, 1);
    check_d2(&s, log_density, third, chosen, 2);
    free(start), free(log_density);
    dml_gaussian_close(&gaussian);
    free_storage(&s);
}

typedef void cost_function(void *data, const uint32_t *positions, size_t n, double *out);

/* Costs of the candidate batches within 1e-4, and the same best one. */
static void check_costs(const char *name, cost_function *cost, void *data) {
    struct dml_npy npy;
    assert_ok(dml_npy_open(golden_path("samplers/candidate_batches.npy"), &npy));
    size_t batches = npy.dims[0], size = npy.dims[1], best = 0, expected_best = 0;
    dml_npy_close(&npy);
    int32_t *positions = golden_ints(NULL, "samplers/candidate_batches.npy");
    double *expected = golden_doubles(NULL, "samplers/%s.npy", name);
    double *costs = malloc(batches * sizeof *costs);
    for (size_t b = 0; b < batches; b++) {
        cost(data, (const uint32_t *)positions + b * size, size, &costs[b]);
        assert_true(fabs(costs[b] - expected[b]) <= 1e-4 * expected[b]);
        best = costs[b] < costs[best] ? b : best;
        expected_best = expected[b] < expected[expected_best] ? b : expected_best;
    }
    assert_int_equal(best, expected_best);
    free(positions), free(expected), free(costs);
}

static void disthist_cost(void *data, const uint32_t *positions, size_t n, double *out) {
    *out = dml_disthist_cost(data, positions, n);
}

static void test_disthist_costs(void **state) {
    (void)state;
    struct storage s = load_storage();
    struct dml_disthist disthist;
    assert_ok(dml_disthist_open(&disthist, s.n, s.dim));
    dml_disthist_prepare(&disthist, s.x);
    check_costs("disthist_cost", disthist_cost, &disthist);
    dml_disthist_close(&disthist);
    free_storage(&s);
}

static void frechet_cost(void *data, const uint32_t *positions, size_t n, double *out) {
    assert_ok(dml_frechet_distance(data, positions, n, out));
}

static void test_frechet_costs(void **state) {
    (void)state;
    struct storage s = load_storage();
    struct dml_frechet frechet;
    assert_ok(dml_frechet_open(&frechet, s.n, s.dim));
    assert_ok(dml_frechet_prepare(&frechet, s.x, s.n, 1e-8));
    check_costs("fid", frechet_cost, &frechet);
    dml_frechet_close(&frechet);
    free_storage(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_sequence),
        cmocka_unit_test(test_d2_probabilities),
        cmocka_unit_test(test_disthist_costs),
        cmocka_unit_test(test_frechet_costs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
