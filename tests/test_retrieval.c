/* What evaluation adds to ranks: groups, float64, samples, intervals, tables of queries, pairs, the
 * set's own distances. Each against plain loops. */
#include "dml/dml.h"
#include "metrics/evaluator.h"
#include "postprocess/postprocess.h"
#include "support/golden.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 300, DIM = 6, CLASSES = 25, GROUPS = 4 };

struct sample_set {
    struct dml_evaluation_set set;
    float embeddings[N * DIM];
    double exact[N * DIM];
    int32_t labels[N], groups[N];
    uint8_t is_query[N], is_gallery[N];
};

enum { MASKS = 1, GROUPED = 2, GRID = 4, EXACT = 8 };

/* Some classes have one sample; on a grid distances are equal. */
static struct sample_set *make(unsigned look, uint64_t seed) {
    struct sample_set *s = calloc(1, sizeof *s);
    struct dml_rng rng = dml_rng_make(seed, DML_PURPOSE_OTHER, 3, 0);
    assert_non_null(s);
    for (size_t i = 0; i < N; i++) {
        s->labels[i] = i < 5 ? 1000 + (int32_t)i : (int32_t)dml_rng_below(&rng, CLASSES) - 7;
        s->groups[i] = (int32_t)dml_rng_below(&rng, GROUPS);
        s->is_query[i] = dml_rng_below(&rng, 3) == 0;
        s->is_gallery[i] = dml_rng_below(&rng, 3) > 0;
        for (size_t k = 0; k < DIM; k++) {
            struct dml_rng own =
                dml_rng_make(seed, DML_PURPOSE_OTHER, 4, (uint64_t)(s->labels[i] + 7) * DIM + k);
            double value = dml_rng_normal(&own) + dml_rng_normal(&rng);
            if (look & GRID)
                value = floor(value) + (k == 0 ? 10 : 0);
            s->exact[i * DIM + k] = (look & EXACT ? 4e9 : 0) + value;
            s->embeddings[i * DIM + k] = (float)s->exact[i * DIM + k];
        }
    }
    s->set = (struct dml_evaluation_set){
        .n = N, .dim = DIM, .embeddings = s->embeddings, .labels = s->labels};
    if (look & MASKS) {
        s->set.is_query = s->is_query;
        s->set.is_gallery = s->is_gallery;
    }
    if (look & GROUPED)
        s->set.groups = s->groups;
    if (look & EXACT)
        s->set.exact = s->exact;
    return s;
}

/* --- Plain loops -------------------------------------------------------------------------- */

static bool in_mask(const uint8_t *mask, size_t i) {
    return !mask || mask[i];
}

/* Whether the query sees the gallery sample. */
static bool sees(const struct dml_evaluation_set *set, size_t q, size_t j) {
    return j != q && in_mask(set->is_gallery, j) &&
           !(set->groups && set->groups[q] == set->groups[j] && set->labels[q] == set->labels[j]);
}

static double value_of(const struct dml_evaluation_set *set, size_t i, size_t k) {
    return set->exact ? set->exact[i * DIM + k] : (double)set->embeddings[i * DIM + k];
}

static double distance(const struct dml_evaluation_set *set, size_t a, size_t b) {
    double sum = 0;
    for (size_t k = 0; k < DIM; k++) {
        double difference = value_of(set, a, k) - value_of(set, b, k);
        sum += difference * difference;
    }
    return sqrt(sum);
}

struct scores {
    size_t positives, first_hit;
    double ap, ap_at_r, r_precision, precision_5, map_7;
};

/* Ranks by counting, for each positive, what comes before it. */
static struct scores score(const struct dml_evaluation_set *set, size_t q) {
    struct scores out = {0};
    static size_t ranks[N];
    double hits_7 = 0, sum_7 = 0, hits_5 = 0;
    for (size_t p = 0; p < N; p++) {
        if (!sees(set, q, p) || set->labels[p] != set->labels[q])
            continue;
        size_t rank = 1, hits = 1;
        double own = distance(set, q, p);
        for (size_t j = 0; j < N; j++) {
            double other = distance(set, q, j);
            if (!sees(set, q, j) || !(other < own || (other == own && j < p)))
                continue;
            rank++;
            hits += set->labels[j] == set->labels[q];
        }
        double precision = (double)hits / (double)rank;
        ranks[out.positives++] = rank;
        out.first_hit = hits == 1 ? rank : out.first_hit;
        out.ap += precision;
        hits_5 += rank <= 5;
        hits_7 += rank <= 7;
        sum_7 += rank <= 7 ? precision : 0;
    }
    double r = (double)out.positives;
    for (size_t p = 0; p < out.positives; p++) {
        size_t hits = 0;
        for (size_t o = 0; o < out.positives; o++)
            hits += ranks[o] <= ranks[p];
        out.ap_at_r += ranks[p] <= out.positives ? (double)hits / (double)ranks[p] / r : 0;
        out.r_precision += ranks[p] <= out.positives ? 1 / r : 0;
    }
    out.ap /= r;
    out.precision_5 = hits_5 / fmin(5, r);
    out.map_7 = hits_7 > 0 ? sum_7 / hits_7 : 0;
    return out;
}

static void compare(const struct dml_evaluation_set *set) {
    static const char *const names[] = {"mrr",   "precision@5",   "map@7",
                                        "mAP@R", "mrr_per_class", "r_precision"};
    struct dml_metric_value found[6];
    struct dml_per_query table;
    struct dml_query_counts counts;
    const struct dml_evaluation_options options = {.per_query = &table, .counts = &counts};
    assert_ok(dml_evaluate(set, names, 6, &options, found));
    double sums[6] = {0}, class_sum[2048] = {0}, class_size[2048] = {0}, with = 0, lone = 0;
    size_t row = 0;
    for (size_t q = 0; q < N; q++) {
        if (!in_mask(set->is_query, q))
            continue;
        struct scores own = score(set, q);
        assert_int_equal(table.query[row], q);
        assert_int_equal(table.positives[row], own.positives);
        assert_int_equal(table.euclidean.first_hit[row], own.first_hit);
        assert_null(table.cosine.ap);
        if (own.positives > 0) {
            assert_true(fabs(table.euclidean.ap[row] - own.ap) < 1e-12);
            assert_true(fabs(table.euclidean.ap_at_r[row] - own.ap_at_r) < 1e-12);
            assert_true(fabs(table.euclidean.r_precision[row] - own.r_precision) < 1e-12);
            const double values[6] = {1.0 / (double)own.first_hit,
                                      own.precision_5,
                                      own.map_7,
                                      own.ap_at_r,
                                      0,
                                      own.r_precision};
            for (int i = 0; i < 6; i++)
                sums[i] += values[i];
            class_sum[set->labels[q] + 7] += values[0];
            class_size[set->labels[q] + 7]++;
        } else {
            assert_true(isnan(table.euclidean.ap[row]));
        }
        with += own.positives > 0;
        lone += own.positives == 0;
        row++;
    }
    double classes = 0;
    for (size_t c = 0; c < 2048; c++)
        if (class_size[c] > 0) {
            sums[4] += class_sum[c] / class_size[c];
            classes++;
        }
    assert_int_equal(table.queries, row);
    assert_true((double)counts.lone == lone && counts.queries == row);
    for (int i = 0; i < 6; i++) {
        double expected = sums[i] / (i == 4 ? classes : with);
        if (!(fabs(found[i].value - expected) < 1e-12))
            fail_msg("%s is %.15g, by plain loops %.15g", names[i], found[i].value, expected);
    }
    dml_per_query_free(&table);
}

static void test_ranks(void **state) {
    (void)state;
    for (unsigned look = 0; look < 16; look++) {
        struct sample_set *s = make(look, look);
        compare(&s->set);
        free(s);
    }
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* With the f-quantile of all negative distances, sorted. */
static double plain_fnmr(const struct dml_evaluation_set *set, double f) {
    static double negative[N * N], positive[N * N];
    size_t negatives = 0, positives = 0, far = 0;
    for (size_t q = 0; q < N; q++)
        for (size_t j = 0; j < N; j++) {
            if (!in_mask(set->is_query, q) || !sees(set, q, j))
                continue;
            if (set->labels[q] == set->labels[j])
                positive[positives++] = distance(set, q, j);
            else
                negative[negatives++] = distance(set, q, j);
        }
    qsort(negative, negatives, sizeof *negative, ascending);
    double at = f * (double)(negatives - 1);
    size_t low = (size_t)at, high = low + 1 < negatives ? low + 1 : low;
    double threshold = negative[low] + (negative[high] - negative[low]) * (at - (double)low);
    for (size_t p = 0; p < positives; p++)
        far += positive[p] >= threshold;
    return (double)far / (double)positives;
}

static enum dml_status plain_rows(void *data, const uint32_t *queries, size_t count, double *out) {
    for (size_t q = 0; q < count; q++)
        for (size_t j = 0; j < N; j++)
            out[q * N + j] = distance(data, queries[q], j);
    return DML_OK;
}

static void test_fnmr_and_distances(void **state) {
    (void)state;
    static const char *const names[] = {"fnmr@0.0001", "fnmr@0.01",   "fnmr@0.3", "fnmr@0.9999",
                                        "mAP@R",       "precision@9", "mAP"};
    static const double shares[] = {0.0001, 0.01, 0.3, 0.9999};
    for (unsigned look = 0; look < 16; look++) {
        struct sample_set *s = make(look, look + 50);
        struct dml_metric_value found[7], again[7];
        assert_ok(dml_evaluate(&s->set, names, 7, NULL, found));
        for (int i = 0; i < 4; i++)
            if (found[i].value != plain_fnmr(&s->set, shares[i]))
                fail_msg("look %u, %s is %.15g, by plain loops %.15g", look, names[i],
                         found[i].value, plain_fnmr(&s->set, shares[i]));
        /* The same distances as the set's own. */
        const struct dml_distance_source source = {plain_rows, &s->set};
        struct dml_evaluation_set set = s->set;
        set.euclidean_distances = &source;
        assert_ok(dml_evaluate(&set, names, 7, NULL, again));
        for (int i = 0; i < 7; i++)
            assert_true(found[i].value == again[i].value);
        free(s);
    }
}

/* More pairs than are kept, most of them equal: distances are found bin by bin. */
enum { MANY = 2600 };

static float points[MANY];

static enum dml_status point_rows(void *data, const uint32_t *queries, size_t count, double *out) {
    (void)data;
    for (size_t q = 0; q < count; q++)
        for (size_t j = 0; j < MANY; j++)
            out[q * MANY + j] = fabs((double)points[queries[q]] - points[j]);
    return DML_OK;
}

static void test_many_pairs(void **state) {
    (void)state;
    static const char *const names[] = {"fnmr@0.001", "fnmr@0.05", "fnmr@0.5", "fnmr@0.97"};
    static const double shares[] = {0.001, 0.05, 0.5, 0.97};
    static int32_t labels[MANY];
    struct dml_rng rng = dml_rng_make(3, DML_PURPOSE_OTHER, 0, 0);
    double *negative = malloc(sizeof *negative * MANY * MANY);
    double *positive = malloc(sizeof *positive * MANY * MANY);
    assert_true(negative && positive);
    for (size_t fine = 0; fine < 2; fine++) {
        size_t negatives = 0, positives = 0;
        for (size_t i = 0; i < MANY; i++) {
            labels[i] = (int32_t)dml_rng_below(&rng, 40);
            points[i] = (float)(dml_rng_below(&rng, 4) + labels[i] % 3);
            points[i] += fine ? 1e-4f * (float)dml_rng_uniform(&rng) : 0;
        }
        for (size_t i = 0; i < MANY; i++)
            for (size_t j = 0; j < MANY; j++) {
                double d = fabs((double)points[i] - points[j]);
                if (i != j && labels[i] == labels[j])
                    positive[positives++] = d;
                else if (labels[i] != labels[j])
                    negative[negatives++] = d;
            }
        qsort(negative, negatives, sizeof *negative, ascending);
        const struct dml_distance_source source = {point_rows, NULL};
        struct dml_evaluation_set set = {
            .n = MANY, .dim = 1, .embeddings = points, .labels = labels};
        for (int own = 0; own < 2; own++) {
            struct dml_metric_value found[4];
            set.euclidean_distances = own ? &source : NULL;
            assert_ok(dml_evaluate(&set, names, 4, NULL, found));
            for (int i = 0; i < 4; i++) {
                double at = shares[i] * (double)(negatives - 1);
                size_t low = (size_t)at, far = 0;
                double threshold =
                    negative[low] + (negative[low + 1] - negative[low]) * (at - (double)low);
                for (size_t p = 0; p < positives; p++)
                    far += positive[p] >= threshold;
                assert_true(fabs(found[i].value - (double)far / (double)positives) < 1e-12);
            }
        }
    }
    free(negative);
    free(positive);
}

/* --- Samples and intervals ---------------------------------------------------------------- */

static void test_samples(void **state) {
    (void)state;
    struct sample_set *s = make(0, 7);
    const char *name = "mAP@R";
    struct dml_metric_value whole, part;
    struct dml_query_counts counts;
    assert_ok(dml_evaluate(&s->set, &name, 1, NULL, &whole));
    assert_true(isnan(whole.low) && isnan(whole.high));
    int within = 0;
    double sum = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        const struct dml_evaluation_options options = {
            .sample = 80, .seed = seed, .resamples = 400, .counts = &counts};
        assert_ok(dml_evaluate(&s->set, &name, 1, &options, &part));
        assert_true(counts.queries == 80 && counts.population == N);
        within += part.low <= whole.value && whole.value <= part.high;
        sum += part.value;
    }
    printf("a 95 %% interval of 80 of %d queries holds the value of all in %d of 100\n", N, within);
    assert_true(within >= 88);
    assert_true(fabs(sum / 100 - whole.value) < 0.01);
    const struct dml_evaluation_options all = {.sample = 2 * N};
    assert_ok(dml_evaluate(&s->set, &name, 1, &all, &part));
    assert_true(part.value == whole.value && isnan(part.low));
    free(s);
}

static void test_intervals(void **state) {
    (void)state;
    static const char *const names[] = {"e_recall@1",  "mrr_per_class", "fnmr@0.1",
                                        "c_fnmr@0.01", "nmi",           "pcf@0.9"};
    enum { MEANS = 4, ALL = 6 };
    struct sample_set *s = make(GROUPED, 9);
    struct dml_metric_value queries[ALL], classes[ALL], narrow[ALL];
    struct dml_evaluation_options options = {.interval = DML_INTERVAL_QUERIES, .seed = 3};
    assert_ok(dml_evaluate(&s->set, names, ALL, &options, queries));
    options.interval = DML_INTERVAL_CLASSES;
    assert_ok(dml_evaluate(&s->set, names, ALL, &options, classes));
    options.level = 0.5;
    assert_ok(dml_evaluate(&s->set, names, ALL, &options, narrow));
    for (int i = 0; i < MEANS; i++) {
        assert_true(queries[i].low < queries[i].value && queries[i].value < queries[i].high);
        assert_true(classes[i].low < narrow[i].low && narrow[i].high < classes[i].high);
    }
    /* Queries of one class are alike, so that classes vary more. */
    assert_true(classes[0].high - classes[0].low > queries[0].high - queries[0].low);
    /* Of a share p of n it is about 2 * 1.96 sqrt(p (1 - p) / n) wide. */
    double p = queries[0].value, width = 2 * 1.96 * sqrt(p * (1 - p) / N);
    assert_true(fabs((queries[0].high - queries[0].low) / width - 1) < 0.15);
    for (int i = MEANS; i < ALL; i++)
        assert_true(isnan(queries[i].low) && isnan(classes[i].high));
    free(s);
}

/* --- Post-processing ---------------------------------------------------------------------- */

/* Queries that differ from what they are in the gallery: as a set of 2 n samples with masks. */
static void test_query_embeddings(void **state) {
    (void)state;
    static const char *const names[] = {"mAP@R", "c_mAP@R", "fnmr@0.1", "c_recall@1"};
    struct sample_set *s = make(0, 21), *other = make(0, 22);
    struct dml_metric_value found[4], joined[4];
    struct dml_evaluation_set set = s->set;
    set.exact = s->exact;
    set.query_embeddings = other->exact;
    /* The copies are of their own group, which hides a sample from itself; the rest is seen. */
    double *both = malloc(2 * sizeof s->exact);
    int32_t *labels = malloc(2 * sizeof s->labels), *groups = malloc(2 * sizeof s->labels);
    uint8_t *is_query = calloc(2 * N, 1), *is_gallery = calloc(2 * N, 1);
    assert_true(both && labels && groups && is_query && is_gallery);
    memcpy(both, other->exact, sizeof s->exact);
    memcpy(both + N * DIM, s->exact, sizeof s->exact);
    for (size_t i = 0; i < 2 * N; i++) {
        labels[i] = s->labels[i % N];
        groups[i] = (int32_t)(i % N);
        is_query[i] = i < N;
        is_gallery[i] = i >= N;
    }
    float *rounded = malloc(2 * N * DIM * sizeof *rounded);
    for (size_t i = 0; i < 2 * N * DIM; i++)
        rounded[i] = (float)both[i];
    const struct dml_evaluation_set twice = {.n = 2 * N,
                                             .dim = DIM,
                                             .embeddings = rounded,
                                             .exact = both,
                                             .labels = labels,
                                             .groups = groups,
                                             .is_query = is_query,
                                             .is_gallery = is_gallery};
    assert_ok(dml_evaluate(&set, names, 4, NULL, found));
    assert_ok(dml_evaluate(&twice, names, 3, NULL, joined));
    for (int i = 0; i < 2; i++) /* fnmr@ of the joined set sees a negative less: none */
        assert_true(fabs(found[i].value - joined[i].value) < 1e-12);
    assert_true(fabs(found[2].value - joined[2].value) < 1e-12);
    free(both);
    free(rounded);
    free(labels);
    free(groups);
    free(is_query);
    free(is_gallery);
    free(s);
    free(other);
}

static void test_whitening(void **state) {
    (void)state;
    struct sample_set *s = make(0, 31);
    struct dml_whitening whitening;
    static double out[N * DIM];
    assert_ok(dml_whitening_fit(s->exact, N, DIM, DIM, &whitening));
    for (size_t i = 0; i < DIM; i++) /* P C P^T = 1, with C the covariance */
        for (size_t j = 0; j < DIM; j++) {
            double sum = 0;
            for (size_t n = 0; n < N; n++) {
                double a = 0, b = 0;
                for (size_t k = 0; k < DIM; k++) {
                    double x = s->exact[n * DIM + k] - whitening.mean[k];
                    a += whitening.projection[i * DIM + k] * x;
                    b += whitening.projection[j * DIM + k] * x;
                }
                sum += a * b / N;
            }
            assert_true(fabs(sum - (i == j)) < 1e-10);
        }
    dml_whitening_apply(&whitening, s->exact, N, out);
    for (size_t n = 0; n < N; n++) {
        double norm2 = 0;
        for (size_t k = 0; k < DIM; k++)
            norm2 += out[n * DIM + k] * out[n * DIM + k];
        assert_true(fabs(norm2 - 1) < 1e-12);
    }
    dml_whitening_free(&whitening);
    double line[8] = {1, 2, 2, 4, 3, 6, 5, 10};
    assert_int_equal(dml_whitening_fit(line, 4, 2, 2, &whitening), DML_ERROR_INPUT);
    assert_non_null(strstr(dml_error(), "vary in only 1"));
    free(s);
}

/* Samples outside the list change nothing; a weight of 1 leaves the original order. */
static void test_rerank(void **state) {
    (void)state;
    struct sample_set *s = make(MASKS, 41);
    struct dml_rerank_options options = {9, 4, 0.3};
    struct dml_rerank *part, *compact;
    uint8_t member[N];
    static double inside[N * DIM], row[N], other[N];
    uint8_t gallery[N];
    uint32_t count = 0, place[N];
    for (size_t i = 0; i < N; i++) {
        member[i] = s->is_query[i] || s->is_gallery[i];
        place[i] = count;
        if (!member[i])
            continue;
        gallery[count] = s->is_gallery[i];
        memcpy(inside + count++ * DIM, s->exact + i * DIM, DIM * sizeof *inside);
    }
    assert_ok(dml_rerank_open(s->exact, N, DIM, member, s->is_gallery, &options, &part));
    assert_ok(dml_rerank_open(inside, count, DIM, NULL, gallery, &options, &compact));
    for (uint32_t q = 0; q < N; q++) {
        if (!s->is_query[q])
            continue;
        assert_ok(dml_rerank_rows(part, &q, 1, row));
        assert_ok(dml_rerank_rows(compact, &place[q], 1, other));
        for (size_t j = 0; j < N; j++)
            if (s->is_gallery[j])
                assert_true(row[j] == other[place[j]]);
    }
    dml_rerank_free(part);
    dml_rerank_free(compact);
    static const char *const names[] = {"mAP@R", "c_mAP@R", "c_recall@1"};
    struct dml_metric_value plain[3], found[3];
    const struct dml_postprocess_options post = {
        .rerank = true, .rerank_k1 = 20, .rerank_k2 = 6, .rerank_weight = 1};
    struct dml_processed processed;
    assert_ok(dml_evaluate(&s->set, names, 3, NULL, plain));
    assert_ok(dml_postprocess_apply(&post, &s->set, NULL, 0, true, true, &processed));
    assert_ok(dml_evaluate(&processed.set, names, 3, NULL, found));
    for (int i = 0; i < 3; i++)
        assert_true(fabs(plain[i].value - found[i].value) < 1e-12);
    dml_processed_free(&processed);
    free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_fnmr_and_distances),
        cmocka_unit_test(test_many_pairs),
        cmocka_unit_test(test_samples),
        cmocka_unit_test(test_intervals),
        cmocka_unit_test(test_whitening),
        cmocka_unit_test(test_query_embeddings),
        cmocka_unit_test(test_rerank),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
