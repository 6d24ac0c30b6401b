#include "base/memory.h"
#include "base/suggest.h"
#include "dml/rng.h"
#include "support/golden.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Known answers of Philox4x32-10 for a zero key and counter are checked through a stream's own
 * definition: equal names give equal streams, different names different ones. */
static void test_streams_are_named(void **state) {
    (void)state;
    struct dml_rng a = dml_rng_make(1, DML_PURPOSE_MINER, 3, 0);
    struct dml_rng b = dml_rng_make(1, DML_PURPOSE_MINER, 3, 0);
    struct dml_rng c = dml_rng_make(1, DML_PURPOSE_SAMPLER, 3, 0);
    int same = 0;
    for (int i = 0; i < 1000; i++) {
        uint32_t bits = dml_rng_bits(&a);
        assert_int_equal(bits, dml_rng_bits(&b));
        same += bits == dml_rng_bits(&c);
    }
    assert_true(same < 3);
}

static void test_draws_are_uniform(void **state) {
    (void)state;
    enum { N = 70000, BINS = 7 };
    struct dml_rng rng = dml_rng_make(5, DML_PURPOSE_OTHER, 0, 0);
    int counts[BINS] = {0};
    double sum = 0, sum2 = 0;
    for (int i = 0; i < N; i++) {
        counts[dml_rng_below(&rng, BINS)]++;
        double z = dml_rng_normal(&rng);
        sum += z;
        sum2 += z * z;
    }
    double chi2 = 0;
    for (int i = 0; i < BINS; i++)
        chi2 += pow(counts[i] - N / BINS, 2) / (N / BINS);
    assert_true(chi2 < 22.5); /* 0.1 percent of 6 degrees of freedom */
    assert_true(fabs(sum / N) < 0.02 && fabs(sum2 / N - 1) < 0.03);
}

/* Many at a time, from any place of a stream, are those drawn one at a time, and at every level of
 * the processor the same bits, on which every run from random weights depends. */
static void test_normals_many_at_a_time(void **state) {
    (void)state;
    enum { MOST = 5000 };
    static double many[MOST];
    const size_t counts[] = {0, 1, 15, 16, 17, 1024, MOST}, kinds = sizeof counts / sizeof *counts;
    struct dml_rng one = dml_rng_make(3, DML_PURPOSE_INIT, 4, 0), rng = one;
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t c = 0; c < 2 * kinds; c++) {
        size_t count = counts[c % kinds];
        if (c == kinds) /* within a block */
            assert_int_equal(dml_rng_bits(&one), dml_rng_bits(&rng));
        dml_rng_normals(&rng, many, count);
        for (size_t i = 0; i < count; i++) {
            double alone = dml_rng_normal(&one);
            assert_memory_equal(&alone, many + i, sizeof alone);
            uint64_t bits;
            memcpy(&bits, &alone, sizeof bits);
            hash = (hash ^ bits) * 0x100000001b3u;
        }
    }
    assert_int_equal(dml_rng_bits(&one), dml_rng_bits(&rng));
    assert_true(hash == 0xfbc1afff1b8ec35du);
}

static void test_distinct_draws(void **state) {
    (void)state;
    struct dml_rng rng = dml_rng_make(9, DML_PURPOSE_OTHER, 0, 0);
    const struct {
        uint64_t n;
        size_t k;
    } cases[] = {{1, 1}, {10, 10}, {1000, 999}, {1u << 30, 50}, {0x100000000000, 300}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        uint64_t *drawn = malloc(cases[c].k * sizeof *drawn);
        dml_rng_distinct(&rng, cases[c].n, cases[c].k, drawn);
        for (size_t i = 0; i < cases[c].k; i++) {
            assert_true(drawn[i] < cases[c].n);
            for (size_t j = 0; j < i; j++)
                assert_true(drawn[i] != drawn[j]);
        }
        free(drawn);
    }
}

static void test_choice_follows_weights(void **state) {
    (void)state;
    struct dml_rng rng = dml_rng_make(2, DML_PURPOSE_OTHER, 0, 0);
    const double weights[] = {0, 1, 3, 0};
    int counts[4] = {0};
    for (int i = 0; i < 40000; i++)
        counts[dml_rng_choice(&rng, weights, 4)]++;
    assert_int_equal(counts[0] + counts[3], 0);
    assert_true(abs(counts[1] - 10000) < 400);
    const double none[] = {0, 0};
    assert_int_equal(dml_rng_choice(&rng, none, 2), 2);
}

static void test_npy_round_trip(void **state) {
    (void)state;
    const float values[] = {1.5f, -2, 3, 4e20f, 5, 6};
    const char *path = DML_BINARY_DIR "/round_trip.npy";
    assert_ok(dml_npy_write(path, DML_NPY_F32, values, (size_t[]){2, 3}, 2));
    struct dml_npy npy;
    assert_ok(dml_npy_open(path, &npy));
    assert_int_equal(npy.dim_count, 2);
    assert_int_equal(npy.dims[1], 3);
    float *read;
    assert_ok(dml_npy_floats(&npy, &read));
    assert_memory_equal(read, values, sizeof values);
    free(read);
    int32_t *integers;
    assert_int_equal(dml_npy_int32(&npy, &integers), DML_ERROR_INPUT);
    dml_npy_close(&npy);
}

static void test_suggestions(void **state) {
    (void)state;
    struct dml_suggestion suggestion = dml_suggestion_start("lss");
    dml_suggestion_offer(&suggestion, "lr");
    dml_suggestion_offer(&suggestion, "loss");
    dml_suggestion_offer(&suggestion, "evaluation_metrics");
    assert_string_equal(suggestion.best, "loss");
    suggestion = dml_suggestion_start("zzzzzz");
    dml_suggestion_offer(&suggestion, "loss");
    assert_null(suggestion.best);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_streams_are_named),
        cmocka_unit_test(test_draws_are_uniform),
        cmocka_unit_test(test_normals_many_at_a_time),
        cmocka_unit_test(test_distinct_draws),
        cmocka_unit_test(test_choice_follows_weights),
        cmocka_unit_test(test_npy_round_trip),
        cmocka_unit_test(test_suggestions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
