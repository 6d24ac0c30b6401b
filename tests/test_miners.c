/* Miners that draw on random batches made anew in every run, and all of them on degenerate ones and
 * on bad input; test_miners_exact.c has those that draw nothing. */
#include "dml/dml.h"

#include "support/chi_square.h"
#include "support/golden.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t run_seed; /* printed with every failure of a random batch: $DML_TEST_SEED */

struct test_batch {
    struct dml_batch batch;
    float *embeddings;
    int32_t *labels;
};

static struct test_batch make_batch(size_t n, size_t dim) {
    struct test_batch made = {.embeddings = calloc(n * dim, sizeof(float)),
                              .labels = calloc(n, sizeof(int32_t))};
    assert_true(made.embeddings && made.labels);
    made.batch = (struct dml_batch){n, dim, made.embeddings, made.labels, NULL};
    return made;
}

static void free_batch(struct test_batch *made) {
    free(made->embeddings);
    free(made->labels);
}

/* Classes of all sizes from 1, some embeddings twice, of a norm that differs from case to case. */
static struct test_batch random_batch(struct dml_rng *rng) {
    static const double norms[] = {1, 1, 0.01, 3, 1e-12, 1e10, 1e20};
    size_t n = 1 + dml_rng_below(rng, 90), dim = 1 + dml_rng_below(rng, 40);
    size_t classes = 1 + dml_rng_below(rng, n);
    double norm = norms[dml_rng_below(rng, sizeof norms / sizeof *norms)];
    struct test_batch made = make_batch(n, dim);
    for (size_t i = 0; i < n; i++) {
        made.labels[i] = (int32_t)(dml_rng_below(rng, classes) * 70001);
        float *row = made.embeddings + i * dim;
        if (i > 0 && dml_rng_below(rng, 8) == 0) {
            memcpy(row, made.embeddings + dml_rng_below(rng, i) * dim, dim * sizeof *row);
            continue;
        }
        double sum = 0, x[40];
        for (size_t k = 0; k < dim; k++) {
            x[k] = dml_rng_normal(rng);
            sum += x[k] * x[k];
        }
        for (size_t k = 0; k < dim; k++)
            row[k] = (float)(x[k] / sqrt(sum) * norm);
    }
    return made;
}

static const struct dml_miner *miner_at(size_t i) {
    return (const struct dml_miner *)dml_method_at(DML_MINER, i);
}

static struct dml_mining *open_miner(const char *name, const char *flags, size_t dim) {
    struct dml_miner_context context = {.dim = dim, .margin = 0.2};
    struct dml_mining *mining = NULL;
    assert_ok(dml_mining_open(name, flags, &context, &mining));
    return mining;
}

static bool same(const struct dml_batch *batch, size_t i, size_t j) {
    return batch->labels[i] == batch->labels[j];
}

static double distance(const struct dml_batch *batch, size_t i, size_t j) {
    double sum = 0;
    for (size_t k = 0; k < batch->dim; k++) {
        double x = batch->embeddings[i * batch->dim + k];
        sum += (x - batch->embeddings[j * batch->dim + k]) *
               (x - batch->embeddings[j * batch->dim + k]);
    }
    return sqrt(sum);
}

static size_t positives_of(const struct dml_batch *batch, size_t a) {
    size_t count = 0;
    for (size_t j = 0; j < batch->n; j++)
        count += j != a && same(batch, a, j);
    return count;
}

static size_t negatives_of(const struct dml_batch *batch, size_t a) {
    return batch->n - 1 - positives_of(batch, a);
}

/* Whether n may be the semihard negative of (a, p): in the candidates by float64, or there are
 * none. The one in 10^9 chance of rounding apart is what 1e-12 is for. */
static bool semihard_holds(const struct dml_batch *batch, size_t a, size_t p, size_t n) {
    double least = distance(batch, a, p), most = least + 0.2;
    double slack = 1e-12 * (1 + least), d = distance(batch, a, n);
    if (d > least - slack && d < most + slack)
        return true;
    for (size_t j = 0; j < batch->n; j++)
        if (!same(batch, a, j) && distance(batch, a, j) > least + slack &&
            distance(batch, a, j) < most - slack)
            return false;
    return true;
}

static bool softhard_holds(const struct dml_batch *batch, size_t a, size_t p, size_t n) {
    double nearest = INFINITY, farthest = 0;
    for (size_t j = 0; j < batch->n; j++)
        if (!same(batch, a, j))
            nearest = fmin(nearest, distance(batch, a, j));
        else
            farthest = fmax(farthest, distance(batch, a, j));
    double slack = 1e-12 * (1 + farthest);
    bool positive_exists = farthest > nearest + slack; /* then there are candidates of both kinds */
    return !positive_exists ||
           (distance(batch, a, p) > nearest - slack && distance(batch, a, n) < farthest + slack);
}

/* What must hold for triplets of the miner called `name`, and how many there must be. */
static const char *wrong_triplet(const char *name, const struct dml_batch *batch, size_t a,
                                 size_t p, size_t n, size_t *swaps) {
    if (strcmp(name, "intra_random") == 0)
        return same(batch, a, p) && same(batch, a, n) ? NULL : "classes differ";
    if (strcmp(name, "random_distance") == 0)
        return p != a && n != a && n != p ? NULL : "a sample twice";
    if (!same(batch, a, p))
        return "the positive is of another class";
    if (strcmp(name, "rho_distance") == 0 && p == a && same(batch, a, n) && n != a) {
        ++*swaps;
        return NULL;
    }
    if (same(batch, a, n))
        return "the negative is of the anchor's class";
    bool lonely = strcmp(name, "distance") == 0 && positives_of(batch, a) == 0;
    if ((p == a) != lonely)
        return "the positive is the anchor";
    if (strcmp(name, "semihard") == 0 && !semihard_holds(batch, a, p, n))
        return "no semihard negative though there is one";
    if (strcmp(name, "softhard") == 0 && !softhard_holds(batch, a, p, n))
        return "not soft-hard though there is such a tuple";
    return NULL;
}

static size_t expected_count(const char *name, const struct dml_batch *batch) {
    size_t with_both = 0, with_negative = 0, triplets = 0;
    for (size_t a = 0; a < batch->n; a++) {
        size_t positives = positives_of(batch, a), negatives = negatives_of(batch, a);
        with_both += positives && negatives;
        with_negative += negatives > 0;
        triplets += positives * negatives;
    }
    if (strcmp(name, "random") == 0)
        return triplets < batch->n ? triplets : batch->n;
    if (strcmp(name, "intra_random") == 0)
        return batch->n;
    return strcmp(name, "distance") == 0 ? with_negative : with_both;
}

static void check_tuples(const char *name, const struct dml_batch *batch,
                         const struct dml_tuples *tuples, size_t swapped) {
    size_t n = batch->n, swaps = 0, expected = expected_count(name, batch);
    if (tuples->count != expected)
        fail_msg("seed %llu: %s gave %zu tuples instead of %zu", (unsigned long long)run_seed, name,
                 tuples->count, expected);
    for (size_t t = 0; t < tuples->count; t++) {
        size_t a = (size_t)tuples->anchors[t];
        const char *wrong = a < n ? NULL : "an anchor outside of the batch";
        if (!wrong && tuples->kind == DML_TUPLES_SETS)
            continue;
        size_t p = (size_t)tuples->positives[t];
        if (tuples->kind == DML_TUPLES_PAIRS) {
            wrong = p < n && p != a && same(batch, a, p) ? NULL : "a wrong positive";
        } else {
            size_t m = (size_t)tuples->negatives[t];
            wrong = p < n && m < n ? wrong_triplet(name, batch, a, p, m, &swaps)
                                   : "a sample outside of the batch";
        }
        if (wrong)
            fail_msg("seed %llu: %s, tuple %zu: %s", (unsigned long long)run_seed, name, t, wrong);
    }
    assert_int_equal(swaps, swapped);
}

static void mine(struct dml_mining *mining, const struct dml_batch *batch, uint64_t step,
                 struct dml_tuples *out, size_t *swapped) {
    struct dml_rng rng = dml_rng_make(run_seed, DML_PURPOSE_MINER, step, 0);
    *swapped = 99;
    assert_ok(dml_mining_compute(mining, batch, &rng, out, swapped));
}

static bool draws(const struct dml_miner *miner) {
    static const char *const exact[] = {"angular", "batch_hard", "batch_easy_hard",
                                        "triplet_margin"};
    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++)
        if (strcmp(miner->method.name, exact[i]) == 0)
            return false;
    return miner->gives != DML_TUPLES_LISTS;
}

static void random_batches(void **state) {
    (void)state;
    struct dml_rng rng = dml_rng_make(run_seed, DML_PURPOSE_OTHER, 1, 0);
    struct dml_tuples tuples = {0};
    for (uint64_t round = 0; round < 150; round++) {
        struct test_batch made = random_batch(&rng);
        for (size_t i = 0; miner_at(i); i++) {
            const char *name = miner_at(i)->method.name;
            if (!draws(miner_at(i)))
                continue;
            struct dml_mining *mining = open_miner(name, NULL, made.batch.dim);
            size_t swapped;
            mine(mining, &made.batch, round, &tuples, &swapped);
            assert_int_equal(tuples.kind, miner_at(i)->gives);
            check_tuples(name, &made.batch, &tuples, swapped);
            dml_mining_free(mining);
        }
        free_batch(&made);
    }
    dml_tuples_free(&tuples);
}

/* One class, all classes different, one sample, all embeddings equal, all 0: the counts that
 * check_tuples expects are 0 or the documented fallbacks. */
static void degenerate_batches(void **state) {
    (void)state;
    enum { N = 40, DIM = 8 };
    for (int variant = 0; variant < 8; variant++) {
        struct test_batch made = make_batch(variant % 4 == 3 ? 1 : N, DIM);
        struct dml_rng rng = dml_rng_make(4, DML_PURPOSE_OTHER, (uint64_t)variant, 0);
        for (size_t i = 0; i < made.batch.n; i++) {
            int32_t labels[] = {7, (int32_t)i, (int32_t)i / 2, 0};
            made.labels[i] = labels[variant % 4];
            for (size_t k = 0; k < DIM && variant < 4; k++)
                made.embeddings[i * DIM + k] = (float)dml_rng_normal(&rng);
        }
        for (size_t i = 0; miner_at(i); i++) {
            const char *name = miner_at(i)->method.name;
            struct dml_mining *mining = open_miner(name, NULL, DIM);
            struct dml_tuples tuples = {0};
            size_t swapped;
            mine(mining, &made.batch, 0, &tuples, &swapped);
            if (draws(miner_at(i)))
                check_tuples(name, &made.batch, &tuples, swapped);
            bool mines_anyway = strcmp(name, "intra_random") == 0 ||
                                (strcmp(name, "distance") == 0 && variant % 4 == 1);
            if (variant % 4 != 2 && !mines_anyway)
                assert_int_equal(tuples.count, 0);
            dml_tuples_free(&tuples);
            dml_mining_free(mining);
        }
        free_batch(&made);
    }
}

static void threads_do_not_matter(void **state) {
    (void)state;
    enum { N = 201, DIM = 37 };
    struct test_batch made = make_batch(N, DIM);
    struct dml_rng rng = dml_rng_make(5, DML_PURPOSE_OTHER, 0, 0);
    for (size_t i = 0; i < N; i++)
        made.labels[i] = (int32_t)dml_rng_below(&rng, 60);
    for (size_t i = 0; i < N * DIM; i++)
        made.embeddings[i] = (float)dml_rng_normal(&rng) / 7;
    for (size_t i = 0; miner_at(i); i++) {
        struct dml_mining *mining = open_miner(miner_at(i)->method.name, NULL, DIM);
        struct dml_tuples one = {0}, other = {0};
        size_t swapped;
        omp_set_num_threads(1);
        mine(mining, &made.batch, 3, &one, &swapped);
        omp_set_num_threads(3);
        mine(mining, &made.batch, 3, &other, &swapped);
        omp_set_num_threads(omp_get_num_procs());
        assert_int_equal(one.count, other.count);
        assert_memory_equal(one.anchors, other.anchors, one.count * sizeof *one.anchors);
        if (one.positives)
            assert_memory_equal(one.positives, other.positives, one.count * sizeof *one.anchors);
        if (one.negatives)
            assert_memory_equal(one.negatives, other.negatives, one.count * sizeof *one.anchors);
        dml_tuples_free(&one);
        dml_tuples_free(&other);
        dml_mining_free(mining);
    }
    free_batch(&made);
}

/* Every valid triplet is equally likely, and none is drawn twice in one batch. */
static void random_is_even(void **state) {
    (void)state;
    enum { N = 9, ROUNDS = 20000 };
    struct test_batch made = make_batch(N, 2);
    const int32_t labels[N] = {5, 1, 5, 1, 1, 900, 5, 5, 2};
    memcpy(made.labels, labels, sizeof labels);
    static size_t counts[N * N * N];
    static double expected[N * N * N];
    size_t valid = 0;
    for (size_t a = 0; a < N; a++)
        valid += positives_of(&made.batch, a) * negatives_of(&made.batch, a);
    for (size_t at = 0; at < N * N * N; at++) {
        size_t a = at / N / N, p = at / N % N, n = at % N;
        if (a != p && same(&made.batch, a, p) && !same(&made.batch, a, n))
            expected[at] = 1.0 / (double)valid;
    }
    struct dml_mining *mining = open_miner("random", NULL, 2);
    struct dml_tuples tuples = {0};
    for (uint64_t step = 0; step < ROUNDS; step++) {
        struct dml_rng rng = dml_rng_make(12, DML_PURPOSE_MINER, step, 0);
        assert_ok(dml_mining_compute(mining, &made.batch, &rng, &tuples, NULL));
        assert_int_equal(tuples.count, N);
        size_t seen[N];
        for (size_t t = 0; t < N; t++) {
            seen[t] =
                (size_t)((tuples.anchors[t] * N + tuples.positives[t]) * N + tuples.negatives[t]);
            counts[seen[t]]++;
            for (size_t s = 0; s < t; s++)
                assert_int_not_equal(seen[s], seen[t]);
        }
    }
    struct chi_square chi = {0};
    chi_square_add(&chi, expected, counts, N * N * N);
    assert_true(chi_square_excess(&chi) < 4);
    dml_tuples_free(&tuples);
    dml_mining_free(mining);
    free_batch(&made);
}

static void random_takes_all_of_few(void **state) {
    (void)state;
    struct test_batch made = make_batch(6, 2);
    const int32_t labels[] = {3, 3, 3, 3, 3, 9}; /* 5 * 4 triplets; of two classes of 1: none */
    memcpy(made.labels, labels, sizeof labels);
    struct dml_mining *mining = open_miner("random", NULL, 2);
    struct dml_tuples tuples = {0};
    size_t swapped;
    made.batch.n = 3;
    made.labels[2] = 4; /* (0,1,2) and (1,0,2) */
    mine(mining, &made.batch, 0, &tuples, &swapped);
    assert_int_equal(tuples.count, 2);
    assert_int_equal(tuples.anchors[0] + tuples.anchors[1], 1);
    assert_int_equal(tuples.negatives[0], 2);
    dml_tuples_free(&tuples);
    dml_mining_free(mining);
    free_batch(&made);
}

/* Samples on a line: anchor and positive at 0, a negative at each of `at`. */
static void parametric_case(const char *flags, const double *at, const double *weights, size_t n) {
    enum { ROUNDS = 4000 };
    struct test_batch made = make_batch(n + 2, 1);
    for (size_t i = 0; i < n; i++) {
        made.embeddings[i + 2] = (float)at[i];
        made.labels[i + 2] = (int32_t)i + 1;
    }
    double expected[16] = {0}, sum = 0;
    size_t counts[16] = {0};
    for (size_t i = 0; i < n; i++)
        sum += weights[i];
    for (size_t i = 0; i < n; i++)
        expected[i] = weights[i] / sum;
    struct dml_mining *mining = open_miner("parametric", flags, 1);
    struct dml_tuples tuples = {0};
    for (uint64_t step = 0; step < ROUNDS; step++) {
        struct dml_rng rng = dml_rng_make(8, DML_PURPOSE_MINER, step, 0);
        assert_ok(dml_mining_compute(mining, &made.batch, &rng, &tuples, NULL));
        assert_int_equal(tuples.count, 2);
        for (size_t t = 0; t < 2; t++)
            counts[tuples.negatives[t] - 2]++;
    }
    struct chi_square chi = {0};
    chi_square_add(&chi, expected, counts, n);
    if (!(chi_square_excess(&chi) < 4))
        fail_msg("parametric %s: chi-square %g", flags ? flags : "", chi.statistic);
    dml_tuples_free(&tuples);
    dml_mining_free(mining);
    free_batch(&made);
}

static void parametric_follows_its_mode(void **state) {
    (void)state;
    /* Support points 0.1, 0.3, 0.5, ..., 1.9; a bin has the weight of its left end. */
    const double at[] = {0.05, 0.2, 0.31, 0.45, 0.55, 0.65, 0.85, 1.2, 1.85, 2.0};
    const double uniform[] = {0, 1, 1, 1, 1, 1, 1, 1, 1, 0};
    /* Weights of 1e-15 beside weights of 1: never drawn in 8,000 draws. The floats nearest to 0.3
     * and 0.5 decide whether the bin at an edge counts, so supports are given exactly. */
    const char *exact = "--miner_parametric_n_support 8 --miner_parametric_support_lim 0.125 1.875 "
                        "--miner_parametric_mode ";
    char flags[200];
    parametric_case(NULL, at, uniform, 10);
    const double at8[] = {0.1, 0.2, 0.37, 0.4, 0.6, 0.65, 0.8, 1.2, 1.85, 2.0};
    /* Support points 0.125, 0.375, 0.625, 0.875, ... */
    const double hards8[] = {0, 1, 1, 1, 1, 0, 0, 0, 0, 0};
    const double semihards8[] = {0, 0, 0, 1, 1, 1, 1, 0, 0, 0};
    const double veryhards8[] = {0, 1, 1, 0, 0, 0, 0, 0, 0, 0};
    snprintf(flags, sizeof flags, "%shards", exact);
    parametric_case(flags, at8, hards8, 10);
    snprintf(flags, sizeof flags, "%ssemihards", exact);
    parametric_case(flags, at8, semihards8, 10);
    snprintf(flags, sizeof flags, "%sveryhards", exact);
    parametric_case(flags, at8, veryhards8, 10);
    /* Nothing within the limits: the outermost bins stand in. */
    const double outside[] = {0.01, 5.0, 6.0}, even[] = {1, 1, 1}, nearest[] = {1, 0, 0};
    parametric_case(NULL, outside, even, 3);
    snprintf(flags, sizeof flags, "%sveryhards", exact);
    parametric_case(flags, outside, nearest, 3);
}

static void cutoff_reaches_the_miner(void **state) {
    (void)state;
    /* Negatives at 0.1 and 0.9 in 20 dimensions: at a cutoff of 1 both are equally likely, at 0.5
     * the near one is drawn (1/0.5)^18 = 10^5 times as often. */
    enum { DIM = 20, ROUNDS = 2000 };
    struct test_batch made = make_batch(4, DIM);
    made.embeddings[2 * DIM] = 0.1f;
    made.embeddings[3 * DIM] = 0.9f;
    made.labels[2] = 1;
    made.labels[3] = 2;
    for (int wide = 0; wide < 2; wide++) {
        struct dml_mining *mining =
            open_miner("distance", wide ? "--miner_distance_lower_cutoff 1" : NULL, DIM);
        struct dml_tuples tuples = {0};
        size_t near = 0;
        for (uint64_t step = 0; step < ROUNDS; step++) {
            struct dml_rng rng = dml_rng_make(6, DML_PURPOSE_MINER, step, 0);
            assert_ok(dml_mining_compute(mining, &made.batch, &rng, &tuples, NULL));
            near += tuples.negatives[0] == 2;
        }
        assert_true(wide ? abs((int)near - ROUNDS / 2) < 4 * 23 : near > ROUNDS - 20);
        dml_tuples_free(&tuples);
        dml_mining_free(mining);
    }
    free_batch(&made);
}

static void rho_swaps_as_often_as_told(void **state) {
    (void)state;
    struct dml_rng rng = dml_rng_make(9, DML_PURPOSE_OTHER, 0, 0);
    struct test_batch made = make_batch(64, 8);
    for (size_t i = 0; i < 64 * 8; i++)
        made.embeddings[i] = (float)dml_rng_normal(&rng);
    for (int i = 0; i < 64; i++)
        made.labels[i] = i / 4;
    const char *flags[] = {"--miner_rho_distance_cp 0", "--miner_rho_distance_cp 1",
                           "--miner_rho_distance_cp=0.5"};
    for (int f = 0; f < 3; f++) {
        struct dml_mining *mining = open_miner("rho_distance", flags[f], 8);
        struct dml_tuples tuples = {0};
        size_t swapped, total = 0;
        for (uint64_t step = 0; step < 100; step++) {
            mine(mining, &made.batch, step, &tuples, &swapped);
            total += swapped;
        }
        assert_true(f == 0 ? total == 0 : f == 1 ? total == 6400 : abs((int)total - 3200) < 4 * 40);
        dml_tuples_free(&tuples);
        dml_mining_free(mining);
    }
    free_batch(&made);
}

/* Every permutation of the labels is equally likely: a sample's positive is every other sample
 * equally often. */
static void random_distance_permutes_evenly(void **state) {
    (void)state;
    enum { N = 8, ROUNDS = 8000 };
    struct test_batch made = make_batch(N, 1); /* equal embeddings */
    for (int i = 0; i < N; i++)
        made.labels[i] = i / 2;
    struct dml_mining *mining = open_miner("random_distance", NULL, 1);
    struct dml_tuples tuples = {0};
    static size_t positives[N][N], negatives[N][N];
    for (uint64_t step = 0; step < ROUNDS; step++) {
        struct dml_rng rng = dml_rng_make(2, DML_PURPOSE_MINER, step, 0);
        assert_ok(dml_mining_compute(mining, &made.batch, &rng, &tuples, NULL));
        assert_int_equal(tuples.count, N);
        for (size_t t = 0; t < N; t++) {
            positives[tuples.anchors[t]][tuples.positives[t]]++;
            negatives[tuples.anchors[t]][tuples.negatives[t]]++;
        }
    }
    struct chi_square chi = {0};
    for (size_t a = 0; a < N; a++) {
        double expected[N];
        for (size_t j = 0; j < N; j++)
            expected[j] = j == a ? 0 : 1.0 / (N - 1);
        chi_square_add(&chi, expected, positives[a], N);
        chi_square_add(&chi, expected, negatives[a], N);
    }
    /* The anchors of one batch depend on one another (a permutation pairs them): the statistic
     * spreads wider than a chi-square's, by up to sqrt(2). */
    assert_true(chi_square_excess(&chi) < 6);
    dml_tuples_free(&tuples);
    dml_mining_free(mining);
    free_batch(&made);
}

static void assert_refused(enum dml_status status, enum dml_status expected, const char *part) {
    assert_int_equal(status, expected);
    if (!strstr(dml_error(), part))
        fail_msg("'%s' is not in the message: %s", part, dml_error());
    assert_null(strchr(dml_error(), '\n'));
}

static void bad_batches_are_refused(void **state) {
    (void)state;
    struct test_batch made = make_batch(4, 3);
    struct dml_mining *mining = open_miner("distance", NULL, 3);
    struct dml_rng rng = dml_rng_make(1, DML_PURPOSE_MINER, 0, 0);
    struct dml_tuples tuples = {0};
    made.embeddings[7] = NAN;
    assert_refused(dml_mining_compute(mining, &made.batch, &rng, &tuples, NULL), DML_ERROR_INPUT,
                   "embedding 2 is not finite: component 1");
    made.embeddings[7] = -INFINITY;
    assert_refused(dml_mining_compute(mining, &made.batch, &rng, &tuples, NULL), DML_ERROR_INPUT,
                   "embedding 2");
    made.embeddings[7] = 0;
    made.labels[3] = -1;
    assert_refused(dml_mining_compute(mining, &made.batch, &rng, &tuples, NULL), DML_ERROR_INPUT,
                   "label -1 of embedding 3");
    made.labels[3] = 0;
    struct dml_batch narrow = made.batch;
    narrow.dim = 2;
    assert_refused(dml_mining_compute(mining, &narrow, &rng, &tuples, NULL), DML_ERROR_INPUT,
                   "2 dimensions where 3");
    narrow.dim = 0;
    assert_refused(dml_mining_compute(mining, &narrow, &rng, &tuples, NULL), DML_ERROR_INPUT,
                   "0 dimensions");
    narrow.n = 0;
    assert_refused(dml_mining_compute(mining, &narrow, &rng, &tuples, NULL), DML_ERROR_INPUT,
                   "0 embeddings");
    assert_null(tuples.anchors);
    dml_mining_free(mining);
    free_batch(&made);
}

static void bad_options_are_refused(void **state) {
    (void)state;
    struct dml_miner_context context = {.dim = 4, .margin = 0.2};
    struct dml_mining *mining;
    assert_refused(dml_mining_open("distanse", NULL, &context, &mining), DML_ERROR_USAGE,
                   "did you mean 'distance'");
    assert_refused(
        dml_mining_open("rho_distance", "--miner_rho_distance_cp 1.5", &context, &mining),
        DML_ERROR_USAGE, "miner_rho_distance_cp");
    assert_refused(
        dml_mining_open("distance", "--miner_distance_lower_cutoff -1", &context, &mining),
        DML_ERROR_USAGE, "miner_distance_lower_cutoff");
    assert_refused(
        dml_mining_open("parametric", "--miner_parametric_n_support 1", &context, &mining),
        DML_ERROR_USAGE, "miner_parametric_n_support");
    assert_refused(dml_mining_open("parametric", "--miner_parametric_mode soft", &context, &mining),
                   DML_ERROR_USAGE, "soft");
    assert_refused(
        dml_mining_open("parametric", "--miner_parametric_support_lim 0.5", &context, &mining),
        DML_ERROR_USAGE, "takes two distances, got 1");
    assert_refused(
        dml_mining_open("parametric", "--miner_parametric_support_lim 1.5 0.5", &context, &mining),
        DML_ERROR_USAGE, "1.5 is not below 0.5");
    context.dim = 0;
    assert_refused(dml_mining_open("random", NULL, &context, &mining), DML_ERROR_INPUT,
                   "0 dimensions");
    context = (struct dml_miner_context){.dim = 4, .margin = NAN};
    assert_refused(dml_mining_open("semihard", NULL, &context, &mining), DML_ERROR_INPUT, "margin");
}

int main(void) {
    const char *given = getenv("DML_TEST_SEED");
    run_seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_batches),
        cmocka_unit_test(degenerate_batches),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(random_is_even),
        cmocka_unit_test(random_takes_all_of_few),
        cmocka_unit_test(parametric_follows_its_mode),
        cmocka_unit_test(cutoff_reaches_the_miner),
        cmocka_unit_test(rho_swaps_as_often_as_told),
        cmocka_unit_test(random_distance_permutes_evenly),
        cmocka_unit_test(bad_batches_are_refused),
        cmocka_unit_test(bad_options_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
