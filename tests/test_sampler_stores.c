/* What samplers do with the embedding space: which images a plan takes for given embeddings, the
 * updates of the store, degenerate spaces, and the mathematics below. */
#include "math/gaussian.h"
#include "math/linear.h"
#include "samplers/d2_coreset.h"
#include "samplers/disthist_batchmatch.h"
#include "samplers/greedy_coreset.h"
#include "support/sampling.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const with_store[] = {"greedy_coreset", "d2_coreset", "disthist_batchmatch",
                                         "fid_batchmatch"};
enum { WITH_STORE = sizeof with_store / sizeof with_store[0] };

static double distance2(const struct dml_store *store, uint32_t a, uint32_t b) {
    return dml_distance2(store->embeddings + a * store->dim, store->embeddings + b * store->dim,
                         store->dim);
}

/* Squared distance of an image to the nearest of the chosen ones: every fourth of a batch. */
static double to_nearest(const struct dml_store *store, uint32_t image, const uint32_t *batch,
                         size_t chosen) {
    double least = INFINITY;
    for (size_t i = 0; i < chosen; i++)
        least = fmin(least, distance2(store, image, batch[4 * i]));
    return least;
}

/* With all images as candidates every choice can be checked from the images alone: no other image
 * is farther from those chosen before. An index that meant another image would fail. */
static void test_greedy_takes_the_farthest_image(void **state) {
    (void)state;
    struct sampling_world w = sampling_world_make(200, 20);
    w.shared.batchmatch_bigbs = 100000; /* more candidates than images: all of them */
    struct dml_sampling *sampling = sampling_open(&w, "greedy_coreset", "");
    const struct dml_store *store = dml_sampling_store(sampling);
    uint32_t *indices = sampling_plan(sampling, &w, 0);
    for (size_t b = 0; b < dml_sampling_batches(sampling); b++) {
        const uint32_t *batch = indices + b * 24;
        for (size_t k = 1; k < 6; k++) {
            double farthest = 0;
            for (uint32_t i = 0; i < 200; i++)
                farthest = fmax(farthest, to_nearest(store, i, batch, k));
            assert_true(to_nearest(store, batch[4 * k], batch, k) >= farthest * (1 - 1e-12));
        }
        for (size_t i = 0; i < 24; i++)
            assert_int_equal(w.labels[batch[i]], w.labels[batch[i / 4 * 4]]);
    }
    free(indices);
    dml_sampling_free(sampling);
    sampling_world_free(&w);
}

/* Softened: within the top 3 percent of 200, and not always the farthest. */
static void test_softened_greedy(void **state) {
    (void)state;
    struct sampling_world w = sampling_world_make(200, 20);
    w.shared.batchmatch_bigbs = 200;
    struct dml_sampling *sampling = sampling_open(&w, "greedy_coreset", "--data_gc_softened");
    const struct dml_store *store = dml_sampling_store(sampling);
    size_t ranks[7] = {0};
    for (uint64_t epoch = 0; epoch < 30; epoch++) {
        uint32_t *indices = sampling_plan(sampling, &w, epoch);
        for (size_t b = 0; b < dml_sampling_batches(sampling); b++)
            for (size_t k = 1; k < 6; k++) {
                const uint32_t *batch = indices + b * 24;
                double own = to_nearest(store, batch[4 * k], batch, k);
                size_t farther = 0;
                for (uint32_t i = 0; i < 200; i++)
                    farther += to_nearest(store, i, batch, k) > own;
                assert_true(farther <= 6); /* 200 - ceil(0.97 * 199) = 6 are drawn from */
                ranks[farther]++;
            }
        free(indices);
    }
    for (size_t r = 0; r < 6; r++) /* 1200 draws, 200 expected of each rank */
        assert_in_range(ranks[r], 140, 260);
    assert_int_equal(ranks[6], 0);
    dml_sampling_free(sampling);
    sampling_world_free(&w);
}

/* An exponent so large that density does not matter: the farthest by summed distances. */
static void test_d2_takes_far_images_for_a_large_exponent(void **state) {
    (void)state;
    struct sampling_world w = sampling_world_make(200, 20);
    w.shared.batchmatch_bigbs = 200;
    struct dml_sampling *sampling =
        sampling_open(&w, "d2_coreset", "--data_d2_coreset_lambda 1000000");
    const struct dml_store *store = dml_sampling_store(sampling);
    uint32_t *indices = sampling_plan(sampling, &w, 0);
    for (size_t b = 0; b < dml_sampling_batches(sampling); b++)
        for (size_t k = 1; k < 6; k++) {
            const uint32_t *batch = indices + b * 24;
            double own = 0, largest = 0;
            for (uint32_t i = 0; i < 200; i++) {
                double sum = 0;
                bool chosen = false;
                for (size_t c = 0; c < k; c++) {
                    sum += distance2(store, i, batch[4 * c]);
                    chosen |= i == batch[4 * c];
                }
                if (!chosen)
                    largest = fmax(largest, sum);
                if (i == batch[4 * k])
                    own = sum;
            }
            assert_true(own >= largest * (1 - 1e-4));
        }
    free(indices);
    dml_sampling_free(sampling);
    sampling_world_free(&w);
}

/* Squared Mahalanobis distance of every image in the training set's own Gaussian. */
static double *mahalanobis2(const struct dml_store *store) {
    size_t n = store->images, dim = store->dim;
    double *x = malloc(n * dim * sizeof *x), *out = malloc(n * sizeof *out);
    assert_true(x && out);
    for (size_t i = 0; i < n * dim; i++)
        x[i] = store->embeddings[i];
    struct dml_gaussian gaussian;
    assert_ok(dml_gaussian_open(&gaussian, n, dim));
    assert_ok(dml_gaussian_fit_relative(&gaussian, x, n, 1e-8));
    dml_gaussian_mahalanobis2(&gaussian, n, out);
    dml_gaussian_close(&gaussian);
    free(x);
    return out;
}

/* The exponent 0 leaves the density: the second choice of each batch follows it, and none of the
 * choices comes twice. */
static void test_d2_follows_the_density(void **state) {
    (void)state;
    struct sampling_world w = sampling_world_make(200, 20);
    w.shared.batchmatch_bigbs = 200;
    struct dml_sampling *sampling = sampling_open(&w, "d2_coreset", "--data_d2_coreset_lambda 0");
    double *m2 = mahalanobis2(dml_sampling_store(sampling)), total = 0, expected = 0, mean = 0;
    for (size_t i = 0; i < 200; i++) {
        total += exp(-0.5 * m2[i]);
        expected += m2[i] * exp(-0.5 * m2[i]);
    }
    for (uint64_t epoch = 0; epoch < 100; epoch++) {
        uint32_t *indices = sampling_plan(sampling, &w, epoch);
        for (size_t b = 0; b < 8; b++) {
            mean += m2[indices[b * 24 + 4]] / 800;
            for (size_t i = 0; i < 24; i += 4)
                for (size_t j = 0; j < i; j += 4)
                    assert_true(indices[b * 24 + i] != indices[b * 24 + j]);
        }
        free(indices);
    }
    /* The first choice takes itself from the second's, which moves the mean a little. */
    assert_true(fabs(mean - expected / total) < 0.1 * expected / total);
    free(m2);
    dml_sampling_free(sampling);
    sampling_world_free(&w);
}

/* Points close together and one far away: a draw from their Gaussian is hardly ever among the
 * points, so that the nearest is one of the two at the ends of the cluster. */
static void test_d2_starts_near_a_draw_from_the_gaussian(void **state) {
    (void)state;
    struct sampling_world w = sampling_world_make(100, 10);
    w.context.dim = 1;
    struct dml_sampling *sampling = sampling_open(&w, "d2_coreset", "");
    float *x = dml_sampling_store(sampling)->embeddings;
    for (size_t i = 0; i < 99; i++)
        x[i] = 0.0001F * (float)i;
    x[99] = 10; /* mean 0.1, standard deviation 1 */
    size_t low = 0, high = 0, starts = 0;
    for (uint64_t epoch = 0; epoch < 100; epoch++) {
        uint32_t *indices = sampling_plan(sampling, &w, epoch);
        for (size_t b = 0; b < 4; b++, starts++) {
            low += indices[b * 24] == 0;
            high += indices[b * 24] == 98;
        }
        free(indices);
    }
    assert_in_range(low, 150, 220); /* P(z < 0.1) = 0.46 of 400 is 184 */
    assert_true(low + high > starts * 97 / 100);
    dml_sampling_free(sampling);
    sampling_world_free(&w);
}

static double mean_distance2(const struct dml_store *store, const uint32_t *indices,
                             size_t batches) {
    double sum = 0;
    for (size_t b = 0; b < batches; b++)
        for (size_t i = 0; i < 24; i++)
            for (size_t j = 0; j < i; j++)
                sum += distance2(store, indices[b * 24 + i], indices[b * 24 + j]);
    return sum / (double)(batches * 24 * 23 / 2);
}

/* Greedy batches spread more than random ones, softened or projected ones as well. */
static void test_greedy_spreads(void **state) {
    (void)state;
    struct sampling_world w = sampling_world_make(700, 25);
    w.context.samples_per_class = 2;
    static const struct {
        const char *flags;
        int64_t lowproj_dim;
    } cases[] = {{"", -1}, {"--data_gc_softened", -1}, {"", 6}};
    struct dml_sampling *look = sampling_open(&w, "greedy_coreset", "");
    uint32_t *random = sampling_plan_once(&w, "class_random", "", 0);
    double base = mean_distance2(dml_sampling_store(look), random, 29);
    for (size_t c = 0; c < 3; c++) {
        w.shared.lowproj_dim = cases[c].lowproj_dim;
        uint32_t *indices = sampling_plan_once(&w, "greedy_coreset", cases[c].flags, 0);
        assert_true(mean_distance2(dml_sampling_store(look), indices, 29) > 1.1 * base);
        free(indices);
    }
    free(random);
    dml_sampling_free(look);
    sampling_world_free(&w);
}

static void test_projections(void **state) {
    (void)state;
    struct sampling_world w = sampling_world_make(300, 20);
    for (size_t s = 0; s < WITH_STORE; s++) {
        uint32_t *plans[4];
        static const int64_t dims[4] = {0, 1, 5, 40};
        for (size_t d = 0; d < 4; d++) {
            w.shared.lowproj_dim = dims[d];
            plans[d] = sampling_plan_once(&w, with_store[s], "", 0);
        }
        for (size_t d = 1; d < 4; d++)
            assert_memory_not_equal(plans[0], plans[d], 12 * 24 * sizeof(uint32_t));
        for (size_t d = 0; d < 4; d++)
            free(plans[d]);
    }
    sampling_world_free(&w);
}

/* Mean over batches of ||mean of the batch - mean of all images||. */
static double mean_shift(const struct dml_store *store, const uint32_t *indices, size_t batches) {
    double total = 0;
    for (size_t b = 0; b < batches; b++) {
        double shift2 = 0;
        for (size_t k = 0; k < store->dim; k++) {
            double all = 0, batch = 0;
            for (size_t i = 0; i < store->images; i++)
                all += store->embeddings[i * store->dim + k] / (double)store->images;
            for (size_t i = 0; i < 24; i++)
                batch += store->embeddings[indices[b * 24 + i] * store->dim + k] / 24.0;
            shift2 += (all - batch) * (all - batch);
        }
        total += sqrt(shift2) / (double)batches;
    }
    return total;
}

/* The more batches are compared, the more like the training set the best one is. */
static void test_matchers_match(void **state) {
    (void)state;
    struct sampling_world w = sampling_world_make(1200, 12);
    w.shared.batchmatch_bigbs = 1200;
    w.context.samples_per_class = 2;
    for (size_t s = 2; s < WITH_STORE; s++) {
        double shifts[2];
        for (size_t c = 0; c < 2; c++) {
            w.shared.batchmatch_ncomps = c == 0 ? 1 : 40;
            struct dml_sampling *sampling = sampling_open(&w, with_store[s], "");
            uint32_t *indices = sampling_plan(sampling, &w, 0);
            shifts[c] = mean_shift(dml_sampling_store(sampling), indices, 50);
            free(indices);
            dml_sampling_free(sampling);
        }
        assert_true(shifts[1] < 0.85 * shifts[0]);
    }
    sampling_world_free(&w);
}

static void test_updates(void **state) {
    (void)state;
    struct sampling_world w = sampling_world_make(100, 10);
    const uint32_t images[] = {7, 99, 7};
    float embeddings[3 * 12], before[100 * 12];
    for (size_t i = 0; i < 36; i++)
        embeddings[i] = (float)i;

    struct dml_sampling *sampling = sampling_open(&w, "greedy_coreset", "");
    struct dml_store *store = dml_sampling_store(sampling);
    assert_null(store->changes);
    memcpy(before, store->embeddings, sizeof before);
    dml_sampling_update(sampling, images, 3, embeddings);
    memcpy(before + 7 * 12, embeddings + 24, 48); /* the later of two */
    memcpy(before + 99 * 12, embeddings + 12, 48);
    assert_memory_equal(store->embeddings, before, sizeof before);
    dml_sampling_free(sampling);

    w.shared.storage_no_update = true;
    w.shared.mb_mom = 0.9;
    sampling = sampling_open(&w, "greedy_coreset", "");
    store = dml_sampling_store(sampling);
    memcpy(before, store->embeddings, sizeof before);
    dml_sampling_update(sampling, images, 3, embeddings);
    assert_memory_equal(store->embeddings, before, sizeof before);
    dml_sampling_free(sampling);

    sampling = sampling_open(&w, "class_random", "");
    assert_null(dml_sampling_store(sampling));
    dml_sampling_update(sampling, images, 3, embeddings);
    dml_sampling_free(sampling);
    sampling_world_free(&w);
}

static void test_update_with_momentum(void **state) {
    (void)state;
    struct sampling_world w = sampling_world_make(100, 10);
    w.shared.mb_mom = 0.75;
    struct dml_sampling *sampling = sampling_open(&w, "fid_batchmatch", "");
    struct dml_store *store = dml_sampling_store(sampling);
    const uint32_t image = 42;
    float *stored = store->embeddings + 42 * 12, new[12];
    double expected[12], change[12] = {0};
    for (size_t k = 0; k < 12; k++)
        expected[k] = stored[k];
    for (int step = 0; step < 5; step++) {
        for (size_t k = 0; k < 12; k++) {
            new[k] = (float)(step * 0.5 + (double)k);
            change[k] = 0.75 * change[k] + 0.25 * (new[k] - expected[k]);
            expected[k] = new[k] + change[k];
        }
        dml_sampling_update(sampling, &image, 1, new);
        for (size_t k = 0; k < 12; k++) {
            assert_true(fabs(stored[k] - expected[k]) < 1e-4);
            assert_true(fabs(store->changes[42 * 12 + k] - change[k]) < 1e-4);
        }
    }
    dml_sampling_free(sampling);
    sampling_world_free(&w);
}

/* An update changes what the next plan sees. */
static void test_plans_follow_the_store(void **state) {
    (void)state;
    struct sampling_world w = sampling_world_make(150, 10);
    w.shared.batchmatch_bigbs = 150;
    struct dml_sampling *sampling = sampling_open(&w, "greedy_coreset", "");
    float far[12] = {1000};
    const uint32_t image = 77;
    dml_sampling_update(sampling, &image, 1, far);
    uint32_t *indices = sampling_plan(sampling, &w, 0);
    for (size_t b = 0; b < 6; b++) /* the second choice, unless it was where the batch started */
        assert_true(indices[b * 24] == 77 || indices[b * 24 + 4] == 77);
    free(indices);
    dml_sampling_free(sampling);
    sampling_world_free(&w);
}

/* Spaces in which a covariance is singular, distances are all 0, or floats nearly overflow. */
static void test_degenerate_spaces(void **state) {
    (void)state;
    struct sampling_world w = sampling_world_make(96, 10);
    w.context.dim = 64;
    w.shared.batchmatch_bigbs = 32; /* fewer than dimensions */
    static const double scales[] = {1, 0, 1e-30, 1e-18, 1e18, 1e37};
    for (size_t s = 0; s < WITH_STORE; s++)
        for (size_t c = 0; c < sizeof scales / sizeof scales[0]; c++)
            for (int offset = 0; offset < 2; offset++) {
                struct dml_sampling *sampling = sampling_open(&w, with_store[s], "");
                struct dml_store *store = dml_sampling_store(sampling);
                for (size_t i = 0; i < store->images * store->dim; i++)
                    store->embeddings[i] = (float)(store->embeddings[i] * scales[c] + offset);
                free(sampling_plan(sampling, &w, 0));
                dml_sampling_free(sampling);
            }
    sampling_world_free(&w);
}

static void test_embeddings_that_are_not_finite(void **state) {
    (void)state;
    struct sampling_world w = sampling_world_make(96, 10);
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t s = 0; s < WITH_STORE; s++)
        for (size_t c = 0; c < 3; c++) {
            struct dml_sampling *sampling = sampling_open(&w, with_store[s], "");
            struct dml_store *store = dml_sampling_store(sampling);
            for (size_t i = 0; i < store->images; i++)
                store->embeddings[i * store->dim + 5] = bad[c];
            uint32_t indices[96];
            assert_int_equal(dml_sampling_plan(sampling, 0, indices, NULL, NULL),
                             DML_ERROR_NUMERIC);
            assert_non_null(strstr(dml_error(), with_store[s]));
            assert_non_null(strstr(dml_error(), "training image "));
            dml_sampling_free(sampling);
        }
    sampling_world_free(&w);
}

static void test_too_few_candidates(void **state) {
    (void)state;
    struct sampling_world w = sampling_world_make(200, 10);
    w.shared.batchmatch_bigbs = 5; /* 24 images, 4 a class: coresets choose 6, matchers 24 */
    for (size_t s = 0; s < WITH_STORE; s++)
        sampling_expect_refused(&w, with_store[s], DML_ERROR_USAGE, "--data_batchmatch_bigbs 5");
    w.shared.batchmatch_bigbs = 23;
    sampling_expect_refused(&w, "disthist_batchmatch", DML_ERROR_USAGE,
                            "fewer candidates than the 24");
    w.shared.batchmatch_bigbs = 6;
    free(sampling_plan_once(&w, "greedy_coreset", "", 0));
    free(sampling_plan_once(&w, "d2_coreset", "", 0));
    w.shared.batchmatch_bigbs = 24;
    free(sampling_plan_once(&w, "disthist_batchmatch", "", 0));
    free(sampling_plan_once(&w, "fid_batchmatch", "", 0));
    w.shared.batchmatch_ncomps = 0;
    sampling_expect_refused(&w, "fid_batchmatch", DML_ERROR_USAGE, "--data_batchmatch_ncomps 0");
    w.context.dim = 0;
    sampling_expect_refused(&w, "d2_coreset", DML_ERROR_USAGE, "0 dimensions");
    sampling_world_free(&w);
}

/* Copies of two points: once both are chosen, the rest is random but never a point twice. */
static void test_greedy_with_copies(void **state) {
    (void)state;
    enum { N = 40 };
    double x[N * 3], distances2[N * N], nearest[2 * N];
    for (size_t i = 0; i < N * 3; i++)
        x[i] = i / 3 % 2 ? 0.1 * (double)(i % 3) : 0.7;
    dml_self_distances2(x, N, 3, distances2);
    for (int softened = 0; softened < 2; softened++) {
        const struct dml_greedy_options options = {1e-9, softened};
        struct dml_rng rng = dml_rng_make(1, DML_PURPOSE_OTHER, 0, 0);
        uint32_t chosen[N];
        bool seen[N] = {false};
        dml_greedy_coreset_select(distances2, N, 4, N, &options, &rng, nearest, chosen);
        assert_int_equal(chosen[0], 4);
        assert_int_equal(chosen[1] % 2, 1);
        for (size_t i = 0; i < N; i++) {
            assert_false(seen[chosen[i]]);
            seen[chosen[i]] = true;
        }
    }
}

/* Points on a line, one far away: it is within the limit, or it is not. */
static void test_greedy_limit(void **state) {
    (void)state;
    const double x[] = {0, 0.01, 0.02, 0.5};
    double distances2[16], nearest[8];
    dml_self_distances2(x, 4, 1, distances2);
    for (int wide = 0; wide < 2; wide++) {
        const struct dml_greedy_options options = {wide ? 1.0 : 0.1, false};
        size_t far = 0;
        for (uint64_t trial = 0; trial < 300; trial++) {
            struct dml_rng rng = dml_rng_make(trial, DML_PURPOSE_OTHER, 0, 0);
            uint32_t chosen[2];
            dml_greedy_coreset_select(distances2, 4, 0, 2, &options, &rng, nearest, chosen);
            assert_true(chosen[1] != 0);
            far += chosen[1] == 3;
        }
        if (wide)
            assert_in_range(far, 60, 140); /* one of three at random */
        else
            assert_int_equal(far, 300);
    }
}

static void test_d2_probabilities_at_their_limits(void **state) {
    (void)state;
    const double densities[] = {0, -2000, -1, -1}; /* exp(-2000) is 0 */
    const double sums[] = {NAN, 3, 0, NAN}, copies[] = {0, 0, NAN, 0};
    double p[4];
    dml_d2_probabilities(densities, sums, 4, 1, p);
    assert_true(p[0] == 0 && p[1] == 1 && p[2] == 0 && p[3] == 0);
    dml_d2_probabilities(densities, copies, 4, 1, p); /* only copies of the chosen one are left */
    assert_true(p[2] == 0 && fabs(p[0] - 1.0 / 3) < 1e-15 && p[1] == p[0] && p[3] == p[0]);
    dml_d2_probabilities(densities, copies, 4, 0, p); /* exponent 0: density alone */
    assert_true(p[1] == 0 && fabs(p[3] / p[0] - exp(-1)) < 1e-12);
}

/* Gaussians whose Frechet distance is known: the set itself; one point, whose covariance is 0; and
 * a subset along the axes, where it is a sum of (s - t)^2 over standard deviations. */
static void test_frechet_of_known_gaussians(void **state) {
    (void)state;
    enum { N = 8, DIM = 2 };
    const double x[N * DIM] = {3, 0, -3, 0, 0, 5, 0, -5, 1, 0, -1, 0, 0, 2, 0, -2};
    const uint32_t all[] = {0, 1, 2, 3, 4, 5, 6, 7}, inner[] = {4, 5, 6, 7}, one[] = {2};
    struct dml_frechet frechet;
    double got;
    assert_ok(dml_frechet_open(&frechet, N, DIM));
    assert_ok(dml_frechet_prepare(&frechet, x, N, 0));
    assert_ok(dml_frechet_distance(&frechet, all, N, &got));
    assert_true(fabs(got) < 1e-12);
    double s1 = sqrt(20.0 / 7), s2 = sqrt(58.0 / 7), t1 = sqrt(2.0 / 3), t2 = sqrt(8.0 / 3);
    assert_ok(dml_frechet_distance(&frechet, inner, 4, &got));
    assert_true(fabs(got - (s1 - t1) * (s1 - t1) - (s2 - t2) * (s2 - t2)) < 1e-12);
    assert_ok(dml_frechet_distance(&frechet, one, 1, &got));
    assert_true(fabs(got - 25 - 78.0 / 7) < 1e-12);

    const double ridge = 0.5; /* in the square root alone */
    assert_ok(dml_frechet_prepare(&frechet, x, N, ridge));
    assert_ok(dml_frechet_distance(&frechet, inner, 4, &got));
    double root =
        sqrt((s1 * s1 + ridge) * (t1 * t1 + ridge)) + sqrt((s2 * s2 + ridge) * (t2 * t2 + ridge));
    assert_true(fabs(got - s1 * s1 - s2 * s2 - t1 * t1 - t2 * t2 + 2 * root) < 1e-12);
    dml_frechet_close(&frechet);
}

/* A singular covariance: the factor comes from eigenvalues, and its product is the covariance. */
static void test_factor_of_a_singular_covariance(void **state) {
    (void)state;
    enum { N = 3, DIM = 5 };
    const double x[N * DIM] = {1, 2, 3, 4, 5, 0, 0, 1, 0, 7, 1, 2, 3, 4, 6};
    struct dml_gaussian g;
    assert_ok(dml_gaussian_open(&g, N, DIM));
    assert_ok(dml_gaussian_fit(&g, x, N, 0));
    for (size_t i = 0; i < DIM; i++)
        for (size_t j = 0; j < DIM; j++) {
            double product = 0;
            for (size_t k = 0; k < DIM; k++)
                product += g.factor[i * DIM + k] * g.factor[j * DIM + k];
            assert_true(fabs(product - g.covariance[i * DIM + j]) < 1e-12);
        }
    dml_gaussian_close(&g);
}

/* Histogram costs against a plain count, with pairs of one point and of copies in the batch. */
static void test_disthist_against_a_plain_count(void **state) {
    (void)state;
    enum { N = 5 };
    const double x[N] = {0, 1, 3, 7, 7}; /* distances from 0 to 7: bins of 0.14 */
    struct dml_disthist d;
    assert_ok(dml_disthist_open(&d, N, 1));
    dml_disthist_prepare(&d, x);
    const uint32_t all[] = {0, 1, 2, 3, 4}, same[] = {2, 2}, pair[] = {0, 3};
    assert_true(dml_disthist_cost(&d, all, N) < 1e-15);
    /* Of 10 pairs two each are 4, 6 and 7 apart, one each 0, 1, 2 and 3; a batch has one bin of 1.
     */
    double wasserstein = (4 * 0.1 + 2 * 0.2 + 0.8) / 50, mean = 3.6, deviation = sqrt(8.64);
    assert_true(fabs(dml_disthist_cost(&d, same, 2) -
                     (fabs(mean - 3) + deviation + 150 * wasserstein)) < 1e-12);
    assert_true(fabs(dml_disthist_cost(&d, pair, 2) -
                     (fabs(mean - 3.5) + fabs(deviation - 3.5) + 150 * wasserstein)) < 1e-12);
    /* Without copies a point's distance to itself is below the range, and not counted at all. */
    const double apart[N] = {0, 1, 3, 7, 12};
    dml_disthist_prepare(&d, apart);
    mean = 4.6;
    deviation = sqrt(40.6 - 4.6 * 4.6);
    assert_true(fabs(dml_disthist_cost(&d, same, 2) -
                     (fabs(mean - 3) + deviation + 150 * 1.0 / 50)) < 1e-12);
    dml_disthist_close(&d);
}

static void test_self_distances(void **state) {
    (void)state;
    enum { N = 70, DIM = 9 };
    double x[N * DIM], *d2 = malloc(N * N * sizeof *d2);
    struct dml_rng rng = dml_rng_make(3, DML_PURPOSE_OTHER, 0, 0);
    for (size_t i = 0; i < N * DIM; i++)
        x[i] = 5 + dml_rng_normal(&rng);
    memcpy(x + 40 * DIM, x + 3 * DIM, DIM * sizeof *x);
    dml_self_distances2(x, N, DIM, d2);
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < N; j++) {
            double expected = 0;
            for (size_t k = 0; k < DIM; k++)
                expected += pow(x[i * DIM + k] - x[j * DIM + k], 2);
            assert_true(fabs(d2[i * N + j] - expected) < 1e-11);
            assert_true(d2[i * N + j] == d2[j * N + i]);
        }
    assert_true(d2[3 * N + 40] == 0 && d2[5 * N + 5] == 0);
    free(d2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_takes_the_farthest_image),
        cmocka_unit_test(test_softened_greedy),
        cmocka_unit_test(test_d2_takes_far_images_for_a_large_exponent),
        cmocka_unit_test(test_d2_follows_the_density),
        cmocka_unit_test(test_d2_starts_near_a_draw_from_the_gaussian),
        cmocka_unit_test(test_greedy_spreads),
        cmocka_unit_test(test_projections),
        cmocka_unit_test(test_matchers_match),
        cmocka_unit_test(test_updates),
        cmocka_unit_test(test_update_with_momentum),
        cmocka_unit_test(test_plans_follow_the_store),
        cmocka_unit_test(test_degenerate_spaces),
        cmocka_unit_test(test_embeddings_that_are_not_finite),
        cmocka_unit_test(test_too_few_candidates),
        cmocka_unit_test(test_greedy_with_copies),
        cmocka_unit_test(test_greedy_limit),
        cmocka_unit_test(test_d2_probabilities_at_their_limits),
        cmocka_unit_test(test_frechet_of_known_gaussians),
        cmocka_unit_test(test_factor_of_a_singular_covariance),
        cmocka_unit_test(test_disthist_against_a_plain_count),
        cmocka_unit_test(test_self_distances),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
