/* The evaluator against one that sorts whole neighbour lists by distances in double precision. */
#include "base/memory.h"
#include "dml/metrics.h"
#include "dml/rng.h"
#include "support/golden.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* --- Sets --------------------------------------------------------------------------------- */

struct sample_set {
    struct dml_evaluation_set set;
    float *embeddings;
    int32_t *labels;
    uint8_t *is_query, *is_gallery;
};

enum look {
    PLAIN,
    GRID,       /* few integer values: distances tie everywhere */
    DUPLICATES, /* every vector several times, also across classes */
    FAR,        /* a large common offset */
    HUGE_RANGE, /* norms from 0.001 to 1000 */
    COLLAPSED,  /* all but equal */
};

static struct sample_set make(size_t n, size_t dim, size_t classes, enum look look, uint64_t seed) {
    struct sample_set s = {0};
    struct dml_rng rng = dml_rng_make(seed, DML_PURPOSE_OTHER, n, look);
    s.embeddings = malloc(n * dim * sizeof(float));
    s.labels = malloc(n * sizeof *s.labels);
    for (size_t i = 0; i < n; i++) {
        s.labels[i] = (int32_t)dml_rng_below(&rng, classes) * 7 - 20;
        double size = look == HUGE_RANGE ? pow(10, 6 * dml_rng_uniform(&rng) - 3) : 1;
        for (size_t k = 0; k < dim; k++) {
            double z = dml_rng_normal(&rng) * size;
            if (look == GRID)
                z = (double)dml_rng_below(&rng, 3) + (k == 0);
            if (look == FAR)
                z += 300;
            if (look == COLLAPSED)
                z = 1 + 1e-6 * (double)dml_rng_below(&rng, 2);
            s.embeddings[i * dim + k] = (float)z;
        }
        if (look == DUPLICATES && i > 5 && dml_rng_below(&rng, 3) > 0)
            memcpy(s.embeddings + i * dim, s.embeddings + dml_rng_below(&rng, i) * dim,
                   dim * sizeof(float));
    }
    s.set = (struct dml_evaluation_set){
        .n = n, .dim = dim, .embeddings = s.embeddings, .labels = s.labels};
    return s;
}

/* Classes keep a gallery sample where they have a query. */
static void add_masks(struct sample_set *s, bool overlap, uint64_t seed) {
    struct dml_rng rng = dml_rng_make(seed, DML_PURPOSE_OTHER, 99, 0);
    size_t n = s->set.n;
    s->is_query = malloc(n);
    s->is_gallery = malloc(n);
    for (size_t i = 0; i < n; i++) {
        s->is_query[i] = dml_rng_below(&rng, 3) == 0;
        s->is_gallery[i] = overlap ? dml_rng_below(&rng, 3) > 0 : !s->is_query[i];
    }
    for (size_t i = 0; i < n; i++) {
        bool found = false;
        for (size_t j = 0; j < n; j++)
            found |= s->is_gallery[j] && s->labels[j] == s->labels[i];
        s->is_query[i] &= found;
    }
    s->set.is_query = s->is_query;
    s->set.is_gallery = s->is_gallery;
}

static void discard(struct sample_set *s) {
    free(s->embeddings);
    free(s->labels);
    free(s->is_query);
    free(s->is_gallery);
}

/* --- Brute force -------------------------------------------------------------------------- */

struct neighbour {
    double key;
    size_t index;
};

static int by_distance(const void *a, const void *b) {
    const struct neighbour *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static double distance(const struct dml_evaluation_set *set, size_t a, size_t b, bool cosine) {
    const float *x = set->embeddings + a * set->dim, *y = set->embeddings + b * set->dim;
    double d2 = 0, xy = 0, xx = 0, yy = 0;
    for (size_t k = 0; k < set->dim; k++) {
        d2 += ((double)x[k] - y[k]) * ((double)x[k] - y[k]);
        xy += (double)x[k] * y[k];
        xx += (double)x[k] * x[k];
        yy += (double)y[k] * y[k];
    }
    return cosine ? 1.0 - xy * (1 / sqrt(xx)) * (1 / sqrt(yy)) : d2;
}

/* Sums over queries of what each metric counts; `hit` (others) marks the query's class. */
struct sums {
    double recall[5], map, map_1000, map_lim, map_c, map_at_r, r_precision;
    size_t queries, with_positives;
};
static const size_t recall_at[5] = {1, 2, 4, 10, 30};

static double precisions(const uint8_t *hit, size_t others, size_t limit) {
    double sum = 0, hits = 0;
    for (size_t r = 1; r <= others && r <= limit; r++)
        if (hit[r - 1])
            sum += ++hits / (double)r;
    return sum;
}

static void add_query(struct sums *sums, const uint8_t *hit, size_t others, bool masked) {
    size_t positives = 0, within = 0;
    for (size_t r = 0; r < others; r++)
        positives += hit[r];
    if (masked && positives == 0)
        return;
    double freq = (double)positives + 1;
    for (size_t r = 0; r < others && r < positives; r++)
        within += hit[r];
    for (size_t i = 0; i < 5; i++) {
        bool found = false;
        for (size_t r = 0; r < others && r < recall_at[i]; r++)
            found |= hit[r];
        sums->recall[i] += found;
    }
    sums->map += precisions(hit, others, others) / freq;
    sums->map_1000 += precisions(hit, others, 1000) / freq;
    sums->map_lim += precisions(hit, others, 1023) / freq;
    sums->map_c += precisions(hit, others, positives + 1) / freq;
    sums->queries++;
    if (positives == 0)
        return;
    sums->with_positives++;
    sums->map_at_r += precisions(hit, others, positives) / (double)positives;
    sums->r_precision += (double)within / (double)positives;
}

static struct sums brute_force(const struct dml_evaluation_set *set, bool cosine) {
    struct sums sums = {0};
    struct neighbour *list = malloc(set->n * sizeof *list);
    uint8_t *hit = malloc(set->n);
    for (size_t q = 0; q < set->n; q++) {
        if (set->is_query && !set->is_query[q])
            continue;
        size_t others = 0;
        for (size_t j = 0; j < set->n; j++)
            if (j != q && (!set->is_gallery || set->is_gallery[j]))
                list[others++] = (struct neighbour){distance(set, q, j, cosine), j};
        qsort(list, others, sizeof *list, by_distance);
        for (size_t r = 0; r < others; r++)
            hit[r] = set->labels[list[r].index] == set->labels[q];
        add_query(&sums, hit, others, set->is_query || set->is_gallery);
    }
    free(list);
    free(hit);
    return sums;
}

static const char *const euclidean[] = {
    "e_recall@1", "e_recall@2", "e_recall@4", "e_recall@10", "e_recall@30", "mAP",
    "mAP_1000",   "mAP_lim",    "mAP_c",      "mAP@R",       "r_precision",
};
static const char *const cosine[] = {
    "c_recall@1", "c_recall@2", "c_recall@4", "c_recall@10", "c_recall@30",   "c_mAP",
    "c_mAP_1000", "c_mAP_lim",  "c_mAP_c",    "c_mAP@R",     "c_r_precision",
};
enum { NAMES = 11 };

static void compare(const struct dml_evaluation_set *set, const char *what, bool with_cosine) {
    for (int c = 0; c <= with_cosine; c++) {
        struct sums sums = brute_force(set, c);
        double q = (double)sums.queries, p = (double)sums.with_positives;
        double expected[NAMES] = {sums.recall[0] / q, sums.recall[1] / q,  sums.recall[2] / q,
                                  sums.recall[3] / q, sums.recall[4] / q,  sums.map / q,
                                  sums.map_1000 / q,  sums.map_lim / q,    sums.map_c / q,
                                  sums.map_at_r / p,  sums.r_precision / p};
        const char *const *names = c ? cosine : euclidean;
        struct dml_metric_value found[NAMES];
        assert_ok(dml_evaluate(set, names, NAMES, NULL, found));
        for (size_t i = 0; i < NAMES; i++) {
            bool both_nan = isnan(expected[i]) && isnan(found[i].value);
            if (!both_nan && !(fabs(found[i].value - expected[i]) < 1e-12))
                fail_msg("%s, n %zu, dim %zu: %s is %.15g, by brute force %.15g", what, set->n,
                         set->dim, names[i], found[i].value, expected[i]);
            /* Alone, a metric lets more be left out. */
            if (i % 4 != 0)
                continue;
            struct dml_metric_value alone;
            assert_ok(dml_evaluate(set, &names[i], 1, NULL, &alone));
            assert_true(both_nan || alone.value == found[i].value);
        }
    }
}

/* --- Ranks -------------------------------------------------------------------------------- */

static void test_against_brute_force(void **state) {
    (void)state;
    static const struct {
        const char *what;
        size_t n, dim, classes;
        enum look look;
        bool cosine;
    } cases[] = {
        {"plain", 300, 16, 20, PLAIN, true},
        {"longer than a tile", 1030, 8, 90, PLAIN, true},
        {"one class only", 200, 8, 1, PLAIN, true},
        {"two classes, more than 256 positives", 700, 4, 2, PLAIN, true},
        {"many classes of one", 200, 8, 5000, PLAIN, true},
        {"n below 1000", 130, 3, 4, PLAIN, true},
        {"one dimension", 150, 1, 9, PLAIN, false},
        {"grid", 400, 3, 12, GRID, false},
        {"grid of many dimensions", 700, 6, 30, GRID, false},
        {"grid, two classes", 600, 2, 2, GRID, false},
        {"duplicates", 500, 12, 10, DUPLICATES, true},
        {"duplicates, two classes", 600, 12, 2, DUPLICATES, true},
        {"duplicates beyond a tile", 1030, 5, 200, DUPLICATES, true},
        {"far from the origin", 400, 24, 15, FAR, false},
        {"norms of all sizes", 300, 10, 12, HUGE_RANGE, false},
        {"collapsed", 300, 40, 12, COLLAPSED, false},
        {"wide", 260, 700, 12, PLAIN, true},
    };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct sample_set s = make(cases[c].n, cases[c].dim, cases[c].classes, cases[c].look, c);
        compare(&s.set, cases[c].what, cases[c].cosine);
        add_masks(&s, false, c);
        if (cases[c].classes < 1000)
            compare(&s.set, cases[c].what, cases[c].cosine);
        discard(&s);
        s = make(cases[c].n, cases[c].dim, cases[c].classes, cases[c].look, c + 100);
        add_masks(&s, true, c);
        if (cases[c].classes < 1000)
            compare(&s.set, cases[c].what, cases[c].cosine);
        discard(&s);
    }
}

/* All equal: every order is by index. */
static void test_all_equal(void **state) {
    (void)state;
    float embeddings[6] = {2, 2, 2, 2, 2, 2};
    int32_t labels[6] = {0, 1, 1, 0, 0, 1};
    struct dml_evaluation_set set = {.n = 6, .dim = 1, .embeddings = embeddings, .labels = labels};
    const char *names[] = {"e_recall@1", "c_recall@1", "mAP@R"};
    struct dml_metric_value found[3];
    assert_ok(dml_evaluate(&set, names, 3, NULL, found));
    /* Sample 0's nearest is 1; the nearest of all others is 0: a hit for 3 and 4. */
    assert_true(found[0].value == 2.0 / 6);
    assert_true(found[1].value == 2.0 / 6);
    double by_hand = (0 + 0.5 * 0.5 + 0.5 * 0.5 + 0.5 + 0.5 + 0.5 * 0.5) / 6;
    assert_true(fabs(found[2].value - by_hand) < 1e-15);
}

/* --- Bad input ---------------------------------------------------------------------------- */

static void refused(const struct dml_evaluation_set *set, const char *name, const char *culprit) {
    struct dml_metric_value found;
    enum dml_status status = dml_evaluate(set, &name, 1, NULL, &found);
    assert_true(status == DML_ERROR_INPUT || status == DML_ERROR_USAGE);
    if (!strstr(dml_error(), culprit) || strchr(dml_error(), '\n'))
        fail_msg("%s: '%s' does not name '%s'", name, dml_error(), culprit);
}

static void test_bad_input(void **state) {
    (void)state;
    struct sample_set s = make(50, 4, 5, PLAIN, 1);
    refused(&s.set, "e_recall@0", "e_recall@0");
    refused(&s.set, "e_recall@-3", "at least 1");
    refused(&s.set, "e_recall@50", "49");
    refused(&s.set, "e_recall@x", "'x'");
    refused(&s.set, "e_recall@", "number");
    refused(&s.set, "e_recall", "number");
    refused(&s.set, "e_recal@1", "e_recall@");
    refused(&s.set, "mAP_1001", "mAP_1000");
    refused(&s.set, "rho_spectrum@4", "3 singular values");
    refused(&s.set, "rho_spectrum@-9223372036854775808", "beyond");
    refused(&s.set, "rho_spectrum@99999999999999999999", "not a number");
    s.embeddings[7 * 4 + 2] = NAN;
    s.embeddings[9 * 4] = INFINITY;
    refused(&s.set, "e_recall@1", "2 of 50");
    refused(&s.set, "e_recall@1", "number 7");
    memset(s.embeddings + 7 * 4, 0, 4 * sizeof(float));
    s.embeddings[9 * 4] = 1;
    refused(&s.set, "c_recall@1", "number 7");
    refused(&s.set, "dists@intra", "zero vector");
    struct dml_metric_value found;
    const char *name = "e_recall@1";
    assert_ok(dml_evaluate(&s.set, &name, 1, NULL, &found));

    uint8_t none[50] = {0}, all[50];
    memset(all, 1, sizeof all);
    struct dml_evaluation_set masked = s.set;
    masked.is_gallery = none;
    refused(&masked, "e_recall@1", "empty gallery");
    masked.is_gallery = all;
    masked.is_query = none;
    refused(&masked, "e_recall@1", "no query");
    masked.is_query = all;
    for (size_t i = 0; i < 50; i++)
        all[i] = s.labels[i] != s.labels[3];
    uint8_t one[50] = {0};
    one[3] = 1;
    masked.is_query = one;
    refused(&masked, "e_recall@1", "query 3");
    struct dml_evaluation_set empty = s.set;
    empty.n = 0;
    refused(&empty, "e_recall@1", "nothing");
    discard(&s);
}

/* --- The rest ----------------------------------------------------------------------------- */

/* Cosine distances in double, pair by pair. */
static void test_dists_and_undefined(void **state) {
    (void)state;
    struct sample_set s = make(120, 6, 15, PLAIN, 3);
    s.labels[0] = 1000; /* a class of one */
    double total = 0, largest = 0, alone = 0, classes = 0;
    for (int32_t label = -20; label <= 1000; label++) {
        double sum = 0, size = 0;
        for (size_t i = 0; i < 120; i++)
            for (size_t j = 0; j < 120; j++)
                if (s.labels[i] == label && s.labels[j] == label) {
                    sum += i == j ? 0 : distance(&s.set, i, j, true);
                    size += i == j;
                }
        classes += size > 0;
        alone += size == 1;
        if (size > 1) {
            total += sum / (size * size - size);
            largest = fmax(largest, sum / (size * size - size));
        }
    }
    const char *names[] = {"dists@intra", "dists@inter", "dists@intra_over_inter"};
    struct dml_metric_value found[3];
    assert_ok(dml_evaluate(&s.set, names, 3, NULL, found));
    assert_true(fabs(found[0].value - (total + alone * largest) / classes) < 1e-12);
    assert_true(fabs(found[2].value - found[0].value / found[1].value) < 1e-12);

    for (size_t i = 0; i < 120; i++)
        s.labels[i] = 5;
    assert_ok(dml_evaluate(&s.set, names, 3, NULL, found));
    assert_true(isfinite(found[0].value) && isnan(found[1].value) && isnan(found[2].value));
    for (size_t i = 0; i < 120; i++)
        s.labels[i] = (int32_t)i;
    const char *undefined[] = {"dists@intra", "mAP@R", "f1"};
    assert_ok(dml_evaluate(&s.set, undefined, 3, NULL, found));
    assert_true(isnan(found[0].value) && isnan(found[1].value) && isnan(found[2].value));
    discard(&s);
}

/* Clusters that cannot be missed, and fewer distinct points than clusters. */
static void test_clustering(void **state) {
    (void)state;
    struct sample_set s = make(400, 8, 1, PLAIN, 4);
    for (size_t i = 0; i < 400; i++) {
        s.labels[i] = (int32_t)(i % 2);
        s.embeddings[i * 8] += 100 * (float)(i % 2);
    }
    const char *names[] = {"nmi", "f1", "c_nmi", "c_f1"};
    struct dml_metric_value found[4];
    assert_ok(dml_evaluate(&s.set, names, 4, NULL, found));
    assert_true(fabs(found[0].value - 1) < 1e-12 && fabs(found[1].value - 1) < 1e-12);
    for (size_t i = 0; i < 400 * 8; i++)
        s.embeddings[i] = 1 + (float)(i / 8 % 3);
    for (size_t i = 0; i < 400; i++)
        s.labels[i] = (int32_t)(i % 40);
    assert_ok(dml_evaluate(&s.set, names, 4, NULL, found));
    for (size_t i = 0; i < 4; i++)
        assert_true(found[i].value >= 0 && found[i].value <= 1);
    discard(&s);
}

/* The same bits whatever the number of threads. */
static void test_reproducible(void **state) {
    (void)state;
    struct sample_set s = make(2000, 20, 150, PLAIN, 5);
    const char *names[] = {"nmi", "f1", "c_f1", "mAP_1000", "mAP", "rho_spectrum@1", "dists@intra"};
    enum { COUNT = 7 };
    struct dml_metric_value found[3][COUNT];
    int threads = omp_get_max_threads();
    for (int run = 0; run < 3; run++) {
        omp_set_num_threads(run + 1);
        assert_ok(dml_evaluate(&s.set, names, COUNT, NULL, found[run]));
    }
    omp_set_num_threads(threads);
    for (int i = 0; i < COUNT; i++) {
        assert_true(found[0][i].value == found[1][i].value);
        assert_true(found[0][i].value == found[2][i].value);
    }
    discard(&s);
}

static double last_share;
static void watch(void *data, double share, const char *what) {
    assert_true(share >= last_share && share <= 1 + 1e-12 && what[0]);
    last_share = share;
    ++*(int *)data;
}

static void test_progress(void **state) {
    (void)state;
    struct sample_set s = make(1500, 8, 30, PLAIN, 6);
    const char *names[] = {"nmi", "c_nmi", "mAP", "c_mAP"};
    struct dml_metric_value found[4];
    int calls = 0;
    struct dml_evaluation_options options = {.progress = watch, .data = &calls};
    assert_ok(dml_evaluate(&s.set, names, 4, &options, found));
    assert_true(calls > 5 && last_share == 1);
    discard(&s);
}

/* A metric of one's own: the mean rank of the nearest positive, and a family of it. */
static enum dml_status mean_rank(const struct dml_metric_inputs *in, long k,
                                 struct dml_metric_value *out) {
    const struct dml_ranks *ranks = in->euclidean.ranks;
    for (size_t q = 0; q < ranks->queries; q++)
        out->value += (double)ranks->rank[ranks->start[q]] / (double)ranks->queries;
    out->value += (double)k;
    return DML_OK;
}
static const struct dml_metric own = {.method = {.name = "mean_rank", .summary = "of the nearest"},
                                      .needs = DML_NEEDS_RANKS_EUCLIDEAN,
                                      .nearest_only = true,
                                      .compute = mean_rank};
static const struct dml_metric family = {.method = {.name = "mean_rank_plus@", .summary = "and k"},
                                         .needs = DML_NEEDS_RANKS_EUCLIDEAN,
                                         .nearest_only = true,
                                         .least_k = 1,
                                         .compute = mean_rank};

static void test_own_metric(void **state) {
    (void)state;
    assert_ok(dml_method_register(DML_METRIC, &own.method));
    assert_ok(dml_method_register(DML_METRIC, &family.method));
    struct sample_set s = make(300, 2, 3, PLAIN, 7);
    const char *names[] = {"mean_rank", "mean_rank_plus@5", "e_recall@1"};
    struct dml_metric_value found[3];
    assert_ok(dml_evaluate(&s.set, names, 3, NULL, found));
    assert_true(found[0].value > 1 && found[0].value < 10);
    assert_true(found[1].value == found[0].value + 5);
    assert_int_equal(dml_metric_order_of("mean_rank"), DML_METRIC_UNORDERED);
    assert_int_equal(dml_metric_order_of("e_recall@7"), DML_METRIC_LARGER);
    assert_int_equal(dml_metric_order_of("fnmr@0.01"), DML_METRIC_SMALLER);
    assert_int_equal(dml_metric_order_of("dists@intra"), DML_METRIC_UNORDERED);
    discard(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_brute_force),
        cmocka_unit_test(test_all_equal),
        cmocka_unit_test(test_bad_input),
        cmocka_unit_test(test_dists_and_undefined),
        cmocka_unit_test(test_clustering),
        cmocka_unit_test(test_reproducible),
        cmocka_unit_test(test_progress),
        cmocka_unit_test(test_own_metric),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
