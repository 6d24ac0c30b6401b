/* Miners that draw nothing, against their definitions taken one tuple at a time, on random batches
 * made anew in every run: $DML_TEST_SEED repeats one. */
#include "dml/dml.h"

#include "support/golden.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST = 24, MOST_DIM = 12, ROUNDS = 300 };

static uint64_t seed;

struct test_batch {
    float x[MOST * MOST_DIM];
    int32_t labels[MOST];
    struct dml_batch batch;
};

/* Classes of all sizes from 1, some embeddings twice, some 0, of various norms. */
static void draw_batch(struct test_batch *made, struct dml_rng *rng) {
    static const double norms[] = {1, 0.4, 1e-6, 300};
    size_t n = 1 + dml_rng_below(rng, MOST), dim = 1 + dml_rng_below(rng, MOST_DIM);
    size_t classes = 1 + dml_rng_below(rng, n);
    double norm = norms[dml_rng_below(rng, sizeof norms / sizeof *norms)];
    made->batch =
        (struct dml_batch){.n = n, .dim = dim, .embeddings = made->x, .labels = made->labels};
    for (size_t i = 0; i < n; i++) {
        size_t twin = i > 0 && dml_rng_below(rng, 6) == 0 ? dml_rng_below(rng, i) : i;
        double scale = dml_rng_below(rng, 20) == 0 ? 0 : norm / sqrt((double)dim);
        made->labels[i] = (int32_t)dml_rng_below(rng, classes);
        for (size_t k = 0; k < dim; k++)
            made->x[i * dim + k] =
                twin < i ? made->x[twin * dim + k] : (float)(scale * dml_rng_normal(rng));
    }
}

static double distance(const struct dml_batch *b, size_t i, size_t j) {
    double sum = 0;
    for (size_t k = 0; k < b->dim; k++)
        sum += pow((double)b->embeddings[i * b->dim + k] - b->embeddings[j * b->dim + k], 2);
    return sqrt(sum);
}

static double cosine(const struct dml_batch *b, size_t i, size_t j) {
    double inner = 0, own = 0, other = 0;
    for (size_t k = 0; k < b->dim; k++) {
        double x = b->embeddings[i * b->dim + k], y = b->embeddings[j * b->dim + k];
        inner += x * y;
        own += x * x;
        other += y * y;
    }
    return own == 0 || other == 0 ? 0 : inner / sqrt(own * other);
}

static bool same(const struct dml_batch *b, size_t i, size_t j) {
    return b->labels[i] == b->labels[j];
}

/* Above 0 where a tuple belongs to the set, below where not, near 0 where rounding decides. */
typedef double (*excess)(const struct dml_batch *b, size_t a, size_t p, size_t n);

static double all_excess(const struct dml_batch *b, size_t a, size_t p, size_t n) {
    return 0.2 - (distance(b, a, n) - distance(b, a, p));
}

static double easy_excess(const struct dml_batch *b, size_t a, size_t p, size_t n) {
    return -all_excess(b, a, p, n);
}

static double semihard_excess(const struct dml_batch *b, size_t a, size_t p, size_t n) {
    return fmin(distance(b, a, n) - distance(b, a, p), all_excess(b, a, p, n));
}

static double angular_excess(const struct dml_batch *b, size_t a, size_t p, size_t n) {
    double sum = 0;
    for (size_t k = 0; k < b->dim; k++) {
        const float *x = b->embeddings + k;
        sum += pow(x[n * b->dim] - ((double)x[a * b->dim] + x[p * b->dim]) / 2, 2);
    }
    return atan2(distance(b, a, p), 2 * sqrt(sum)) - 20 * acos(-1) / 180;
}

/* d is how far the chosen one is, against all others of its kind. */
static double batch_hard_excess(const struct dml_batch *b, size_t a, size_t p, size_t n) {
    for (size_t j = 0; j < b->n; j++) {
        double d = distance(b, a, j);
        if (j == a)
            continue;
        if (same(b, a, j) ? d > distance(b, a, p) : d < distance(b, a, n))
            return -1;
        if (same(b, a, j) ? j < p && d == distance(b, a, p) : j < n && d == distance(b, a, n))
            return -1; /* of equal ones the first */
    }
    return 1;
}

static double easy_semihard_excess(const struct dml_batch *b, size_t a, size_t p, size_t n) {
    const double positive = distance(b, a, p), negative = distance(b, a, n);
    if (negative <= positive)
        return -1;
    for (size_t j = 0; j < b->n; j++) {
        double d = distance(b, a, j), chosen = same(b, a, j) ? positive : negative;
        bool counts = j != a && (same(b, a, j) || d > positive);
        if (counts && (d < chosen || (d == chosen && j < (same(b, a, j) ? p : n))))
            return -1;
    }
    return 1;
}

static double pair_margin_excess(const struct dml_batch *b, size_t a, size_t p, size_t n) {
    return p < b->n ? distance(b, a, p) - 0.2 : 0.8 - distance(b, a, n);
}

static double multisimilarity_excess(const struct dml_batch *b, size_t a, size_t p, size_t n) {
    double most = -INFINITY;
    for (size_t j = 0; j < b->n; j++)
        if (p < b->n ? !same(b, a, j) : j != a && same(b, a, j))
            most = fmax(most, p < b->n ? cosine(b, a, j) : -cosine(b, a, j));
    return most + 0.1 + (p < b->n ? -cosine(b, a, p) : cosine(b, a, n));
}

static const struct subject {
    const char *miner, *flags;
    excess excess;
} subjects[] = {
    {"triplet_margin", NULL, all_excess},
    {"triplet_margin", "--miner_triplet_margin_type easy", easy_excess},
    {"triplet_margin", "--miner_triplet_margin_type semihard", semihard_excess},
    {"angular", NULL, angular_excess},
    {"batch_hard", NULL, batch_hard_excess},
    {"batch_easy_hard", NULL, easy_semihard_excess},
    {"pair_margin", NULL, pair_margin_excess},
    {"multisimilarity", NULL, multisimilarity_excess},
};

/* How often the tuple was mined; n is the batch's size where there is no such member. */
static size_t times(const struct dml_tuples *tuples, size_t size, size_t a, size_t p, size_t n) {
    const struct dml_pairs *pairs = p < size ? &tuples->positive_pairs : &tuples->negative_pairs;
    const bool lists = tuples->kind == DML_TUPLES_LISTS;
    size_t count = 0;
    for (size_t t = 0; t < (lists ? pairs->count : tuples->count); t++)
        count +=
            lists ? (size_t)pairs->anchors[t] == a && (size_t)pairs->others[t] == (p < size ? p : n)
                  : (size_t)tuples->anchors[t] == a && (size_t)tuples->positives[t] == p &&
                        (size_t)tuples->negatives[t] == n;
    return count;
}

static void check(const struct subject *subject, const struct dml_batch *b,
                  const struct dml_tuples *tuples, size_t a, size_t p, size_t n) {
    double excess = subject->excess(b, a, p, n), slack = 1e-7;
    size_t found = times(tuples, b->n, a, p, n);
    if (found <= 1 && (fabs(excess) < slack || found == (excess > 0)))
        return;
    fail_msg("seed %llu: %s %s: (%zu, %zu, %zu) is mined %zu times, its excess is %g",
             (unsigned long long)seed, subject->miner, subject->flags ? subject->flags : "", a, p,
             n, found, excess);
}

static void check_all(const struct subject *subject, const struct dml_batch *b,
                      const struct dml_tuples *tuples) {
    const bool lists = tuples->kind == DML_TUPLES_LISTS;
    size_t valid = 0;
    for (size_t a = 0; a < b->n; a++)
        for (size_t p = 0; p < b->n; p++) {
            if (lists && p != a) {
                check(subject, b, tuples, a, same(b, a, p) ? p : b->n, same(b, a, p) ? b->n : p);
                valid += times(tuples, b->n, a, same(b, a, p) ? p : b->n, p);
            }
            if (lists || p == a || !same(b, a, p))
                continue;
            for (size_t n = 0; n < b->n; n++)
                if (!same(b, a, n)) {
                    check(subject, b, tuples, a, p, n);
                    valid += times(tuples, b->n, a, p, n);
                }
        }
    /* nothing else is mined */
    assert_int_equal(valid,
                     tuples->count + tuples->positive_pairs.count + tuples->negative_pairs.count);
}

static void definitions_hold(void **state) {
    (void)state;
    struct dml_rng rng = dml_rng_make(seed, DML_PURPOSE_OTHER, 1, 0);
    struct dml_tuples tuples = {0};
    static struct test_batch made;
    for (int round = 0; round < ROUNDS; round++) {
        draw_batch(&made, &rng);
        for (size_t s = 0; s < sizeof subjects / sizeof *subjects; s++) {
            struct dml_miner_context context = {.dim = made.batch.dim, .margin = 0.2};
            struct dml_mining *mining;
            assert_ok(dml_mining_open(subjects[s].miner, subjects[s].flags, &context, &mining));
            assert_ok(dml_mining_compute(mining, &made.batch, NULL, &tuples, NULL));
            assert_int_equal(tuples.kind, dml_mining_miner(mining)->gives);
            check_all(&subjects[s], &made.batch, &tuples);
            dml_mining_free(mining);
        }
    }
    dml_tuples_free(&tuples);
}

static void refused(const char *miner, const char *flags, const char *message) {
    struct dml_miner_context context = {.dim = 4, .margin = 0.2};
    struct dml_mining *mining = NULL;
    assert_int_equal(dml_mining_open(miner, flags, &context, &mining), DML_ERROR_USAGE);
    if (!strstr(dml_error(), message))
        fail_msg("'%s' is not in: %s", message, dml_error());
}

static void bad_options(void **state) {
    (void)state;
    refused("batch_easy_hard",
            "--miner_batch_easy_hard_pos semihard --miner_batch_easy_hard_neg semihard",
            "cannot be given together");
    refused("batch_easy_hard", "--miner_batch_easy_hard_pos_range 0.5", "takes two distances");
    refused("batch_easy_hard", "--miner_batch_easy_hard_neg_range 1 0.5",
            "--miner_batch_easy_hard_neg_range must rise, but 1 is above 0.5");
    refused("batch_easy_hard", "--miner_batch_easy_hard_pos all", "easy, hard, semihard");
    refused("triplet_margin", "--miner_triplet_margin_type soft", "all, hard, semihard, easy");
    refused("angular", "--miner_angular_angle 91", "out of bounds");
    refused("pair_margin", "--miner_pair_margin_pos_margin -1", "out of bounds");
}

int main(void) {
    const char *given = getenv("DML_TEST_SEED");
    seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    print_message("DML_TEST_SEED=%llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {cmocka_unit_test(definitions_hold),
                                       cmocka_unit_test(bad_options)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
