#include "base/builtin.h"
#include "base/memory.h"
#include "dml/samplers.h"
#include "support/golden.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* A training set with classes of different sizes; class 0 has one image, class 3 none. Images of a
 * class lie together in the embedding space. */
struct world {
    struct dml_sampler_context context;
    struct dml_sampling_options shared;
    int32_t *labels;
    size_t *class_sizes;
};

static struct world make_world(size_t images, size_t classes) {
    struct world w = {
        .labels = malloc(images * sizeof(int32_t)),
        .class_sizes = calloc(classes, sizeof(size_t)),
        .shared = {.batchmatch_bigbs = 128, .batchmatch_ncomps = 4, .mb_mom = -1},
    };
    struct dml_rng rng = dml_rng_make(77, DML_PURPOSE_OTHER, 0, 0);
    for (size_t i = 0; i < images; i++) {
        size_t c = dml_rng_below(&rng, classes);
        if (c == 3 || (c == 0 && w.class_sizes[0]))
            c = 1;
        w.labels[i] = (int32_t)c;
        w.class_sizes[c]++;
    }
    w.context = (struct dml_sampler_context){
        .images = images,
        .classes = classes,
        .labels = w.labels,
        .batch_size = 24,
        .samples_per_class = 4,
        .dim = 12,
        .seed = 5,
    };
    return w;
}

static void free_world(struct world *w) {
    free(w->labels);
    free(w->class_sizes);
}

static void fill_store(const struct world *w, struct dml_store *store) {
    if (!store)
        return;
    for (size_t i = 0; i < store->images; i++) {
        struct dml_rng center = dml_rng_make(1, DML_PURPOSE_OTHER, 1, (uint64_t)w->labels[i]);
        struct dml_rng noise = dml_rng_make(1, DML_PURPOSE_OTHER, 2, i);
        for (size_t k = 0; k < store->dim; k++)
            store->embeddings[i * store->dim + k] =
                (float)(dml_rng_normal(&center) + 0.3 * dml_rng_normal(&noise));
    }
}

static const struct dml_sampler *find(const char *name) {
    const struct dml_method *method = dml_method_find(DML_SAMPLER, name);
    assert_non_null(method);
    return (const struct dml_sampler *)method;
}

/* Opens a sampler on the world with its flags, and a filled store. */
static struct dml_sampling *open_sampling(struct world *w, const char *name, const char *flags) {
    const struct dml_sampler *sampler = find(name);
    struct dml_params *params;
    assert_ok(dml_params_new(&params));
    if (sampler->method.params)
        assert_ok(dml_params_add(params, sampler->method.params));
    assert_ok(dml_params_parse_text(params, flags));
    struct dml_sampling *sampling;
    w->context.shared = &w->shared;
    assert_ok(dml_sampling_create(sampler, dml_params_options(params, sampler->method.params),
                                  &w->context, &sampling));
    dml_params_free(params);
    fill_store(w, dml_sampling_store(sampling));
    return sampling;
}

static uint32_t *plan(struct dml_sampling *sampling, const struct world *w, uint64_t epoch) {
    size_t count = dml_sampling_batches(sampling) * w->context.batch_size;
    uint32_t *indices = malloc((count + 1) * sizeof *indices);
    memset(indices, 0xff, (count + 1) * sizeof *indices);
    assert_ok(dml_sampling_plan(sampling, epoch, indices, NULL, NULL));
    assert_int_equal(indices[count], UINT32_MAX);
    for (size_t i = 0; i < count; i++)
        assert_true(indices[i] < w->context.images);
    return indices;
}

static uint32_t *plan_once(struct world *w, const char *name, const char *flags, uint64_t epoch) {
    struct dml_sampling *sampling = open_sampling(w, name, flags);
    uint32_t *indices = plan(sampling, w, epoch);
    dml_sampling_free(sampling);
    return indices;
}

/* The largest number of images of one class in a batch. */
static size_t most_of_a_class(const struct world *w, const uint32_t *batch) {
    size_t most = 0;
    for (size_t i = 0; i < w->context.batch_size; i++) {
        size_t same = 0;
        for (size_t j = 0; j < w->context.batch_size; j++)
            same += w->labels[batch[i]] == w->labels[batch[j]];
        most = same > most ? same : most;
    }
    return most;
}

static void test_every_sampler_fills_its_batches(void **state) {
    (void)state;
    struct world w = make_world(700, 25);
    const struct dml_method *method;
    for (size_t m = 0; (method = dml_method_at(DML_SAMPLER, m)); m++) {
        uint32_t *indices = plan_once(&w, method->name, "", 0);
        for (size_t b = 0; b < w.context.images / w.context.batch_size; b++)
            assert_true(most_of_a_class(&w, indices + b * w.context.batch_size) >= 2);
        free(indices);
    }
    assert_true(dml_method_at(DML_SAMPLER, 1) != NULL);
    free_world(&w);
}

/* The same plan for any number of threads and again; another for another epoch or seed. */
static void test_plans_depend_on_seed_and_epoch_alone(void **state) {
    (void)state;
    struct world w = make_world(700, 25);
    size_t bytes = w.context.images / w.context.batch_size * w.context.batch_size * 4;
    int threads = omp_get_max_threads();
    const struct dml_method *method;
    for (size_t m = 0; (method = dml_method_at(DML_SAMPLER, m)); m++) {
        omp_set_num_threads(1);
        uint32_t *one = plan_once(&w, method->name, "", 3);
        omp_set_num_threads(3);
        uint32_t *three = plan_once(&w, method->name, "", 3);
        uint32_t *later = plan_once(&w, method->name, "", 4);
        w.context.seed++;
        uint32_t *other = plan_once(&w, method->name, "", 3);
        w.context.seed--;
        assert_memory_equal(one, three, bytes);
        assert_memory_not_equal(one, later, bytes);
        assert_memory_not_equal(one, other, bytes);
        free(one), free(three), free(later), free(other);
    }
    omp_set_num_threads(threads);
    free_world(&w);
}

/* class_random: classes uniform however many images they have, images uniform within a class. */
static void test_class_random_statistics(void **state) {
    (void)state;
    struct world w = make_world(700, 25);
    struct dml_sampling *sampling = open_sampling(&w, "class_random", "");
    size_t batches = dml_sampling_batches(sampling), runs = 0, drawn[700] = {0}, taken[25] = {0};
    assert_int_equal(batches, 700 / 24);
    for (uint64_t epoch = 0; epoch < 200; epoch++) {
        uint32_t *indices = plan(sampling, &w, epoch);
        for (size_t i = 0; i < batches * 24; i++) {
            assert_int_equal(w.labels[indices[i]], w.labels[indices[i / 4 * 4]]);
            drawn[indices[i]]++;
        }
        for (size_t i = 0; i < batches * 24; i += 4, runs++)
            taken[w.labels[indices[i]]]++;
        free(indices);
    }
    double chi2 = 0, expected = (double)runs / 24;
    for (size_t c = 0; c < 25; c++)
        if (c != 3)
            chi2 += pow((double)taken[c] - expected, 2) / expected;
    assert_int_equal(taken[3], 0);
    assert_true(chi2 < 49.7); /* 0.1 percent of 23 degrees of freedom */
    for (size_t i = 0; i < 700; i++) {
        size_t c = (size_t)w.labels[i];
        double mean = 4.0 * (double)taken[c] / (double)w.class_sizes[c];
        assert_true(fabs((double)drawn[i] - mean) < 6 * sqrt(mean) + 1);
    }
    dml_sampling_free(sampling);
    free_world(&w);
}

/* full_random: about as many classes in a batch as independent draws give, one pair at least. */
static void test_full_random_statistics(void **state) {
    (void)state;
    struct world w = make_world(3000, 500);
    struct dml_sampling *sampling = open_sampling(&w, "full_random", "");
    size_t batches = dml_sampling_batches(sampling), total = 0, different = 0, paired = 0;
    for (uint64_t epoch = 0; epoch < 20; epoch++) {
        uint32_t *indices = plan(sampling, &w, epoch);
        for (size_t b = 0; b < batches; b++, total++) {
            const uint32_t *batch = indices + b * 24;
            for (size_t i = 0; i < 24; i++) {
                size_t earlier = 0;
                for (size_t j = 0; j < i; j++)
                    earlier += w.labels[batch[i]] == w.labels[batch[j]];
                different += earlier == 0;
                paired += i == 23 && earlier > 0;
            }
        }
        free(indices);
    }
    assert_int_equal(paired, total);
    double expected = 499 * (1 - pow(1 - 1.0 / 499, 23));
    assert_true(fabs((double)different / (double)total - expected) < 0.06);
    dml_sampling_free(sampling);
    free_world(&w);
}

/* Independent draws with replacement leave (1 - 1/n)^n of n equally likely images out; those of
 * class_random come in runs of 4 from one of 100 classes of 24, 600 runs in an epoch. */
static void test_coverage_of_an_epoch(void **state) {
    (void)state;
    enum { CLASSES = 100, EACH = 24 };
    struct world w = make_world(CLASSES * EACH, CLASSES);
    for (size_t i = 0; i < w.context.images; i++)
        w.labels[i] = (int32_t)(i / EACH);
    static const char *const names[] = {"class_random", "full_random"};
    const double expected[] = {1 - pow(1 - (1 - pow(23.0 / 24, 4)) / 100, 600), 1 - exp(-1)};
    for (size_t n = 0; n < 2; n++) {
        double share = 0;
        for (uint64_t epoch = 0; epoch < 20; epoch++) {
            uint32_t *indices = plan_once(&w, names[n], "", epoch);
            char *seen = calloc(w.context.images, 1);
            for (size_t i = 0; i < w.context.images; i++)
                if (!seen[indices[i]]++)
                    share += 1.0 / (20 * CLASSES * EACH);
            free(seen);
            free(indices);
        }
        assert_true(fabs(share - expected[n]) < 0.01);
    }
    free_world(&w);
}

static void count_progress(void *data, size_t done) {
    size_t *last = data;
    assert_int_equal(done, *last + 1);
    *last = done;
}

static void test_progress_is_told(void **state) {
    (void)state;
    struct world w = make_world(700, 25);
    const struct dml_method *method;
    for (size_t m = 0; (method = dml_method_at(DML_SAMPLER, m)); m++) {
        struct dml_sampling *sampling = open_sampling(&w, method->name, "");
        uint32_t indices[700];
        size_t last = 0;
        assert_ok(dml_sampling_plan(sampling, 0, indices, count_progress, &last));
        assert_int_equal(last, 700 / 24);
        dml_sampling_free(sampling);
    }
    free_world(&w);
}

static void expect_refused(const struct world *w, const char *name, enum dml_status expected,
                           const char *message) {
    struct dml_sampling *sampling = NULL;
    enum dml_status status = dml_sampling_create(find(name), NULL, &w->context, &sampling);
    assert_null(sampling);
    assert_int_equal(status, expected);
    if (!strstr(dml_error(), message))
        fail_msg("'%s' does not say '%s'", dml_error(), message);
}

static void test_bad_contexts_are_refused(void **state) {
    (void)state;
    struct world w = make_world(100, 10);
    const struct dml_method *method;
    for (size_t m = 0; (method = dml_method_at(DML_SAMPLER, m)); m++) {
        struct world bad = w;
        bad.context.batch_size = 23;
        expect_refused(&bad, method->name, DML_ERROR_USAGE, "--bs 23: not a multiple of");
        bad.context.batch_size = 104;
        expect_refused(&bad, method->name, DML_ERROR_USAGE, "training set of 100 images");
        bad.context.batch_size = 0;
        expect_refused(&bad, method->name, DML_ERROR_USAGE, "--bs 0");
        bad.context.batch_size = 24;
        bad.context.samples_per_class = 0;
        expect_refused(&bad, method->name, DML_ERROR_USAGE, "--samples_per_class 0");
        bad.context.samples_per_class = 4;
        w.labels[40] = 10;
        expect_refused(&bad, method->name, DML_ERROR_INPUT, "training image 40: label 10");
        w.labels[40] = -1;
        expect_refused(&bad, method->name, DML_ERROR_INPUT, "training image 40: label -1");
        w.labels[40] = 1;
    }
    free_world(&w);
}

/* One image in all, batches of one, and batches of all images. */
static void test_smallest_sets(void **state) {
    (void)state;
    const struct dml_method *method;
    for (size_t m = 0; (method = dml_method_at(DML_SAMPLER, m)); m++) {
        struct world w = make_world(12, 5);
        w.context.batch_size = 12;
        w.context.samples_per_class = 3;
        free(plan_once(&w, method->name, "", 0));
        w.context.images = w.context.batch_size = w.context.samples_per_class = 1;
        uint32_t *indices = plan_once(&w, method->name, "", 0);
        assert_int_equal(indices[0], 0);
        free(indices);
        free_world(&w);
    }
}

static void test_defaults_of_the_shared_table(void **state) {
    (void)state;
    struct dml_params *params;
    assert_ok(dml_params_new(&params));
    assert_ok(dml_params_add(params, &dml_sampling_params));
    const struct dml_method *method;
    for (size_t m = 0; (method = dml_method_at(DML_SAMPLER, m)); m++)
        if (method->params)
            assert_ok(dml_params_add(params, method->params));
    const struct dml_sampling_options *options = dml_params_options(params, &dml_sampling_params);
    assert_int_equal(options->batchmatch_bigbs, 512);
    assert_int_equal(options->batchmatch_ncomps, 10);
    assert_false(options->storage_no_update);
    assert_true(options->mb_mom == -1 && options->mb_lr == 1);
    assert_int_equal(options->lowproj_dim, -1);
    assert_string_equal(options->sim_measure, "euclidean");
    assert_ok(dml_params_parse_text(
        params, "--data_storage_no_update --data_idx_full_prec --data_mb_lr 0.5 --data_mb_mom 0.9 "
                "--data_sampler_lowproj_dim 32 --data_batchmatch_bigbs 64"));
    assert_true(options->storage_no_update && options->mb_mom == 0.9);
    assert_int_equal(dml_params_parse_text(params, "--data_sim_measure cosine"), DML_ERROR_USAGE);
    assert_int_equal(dml_params_parse_text(params, "--data_batchmatch_bigbs 0"), DML_ERROR_USAGE);
    assert_int_equal(dml_params_parse_text(params, "--data_mb_mom 1.5"), DML_ERROR_USAGE);
    dml_params_free(params);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_sampler_fills_its_batches),
        cmocka_unit_test(test_plans_depend_on_seed_and_epoch_alone),
        cmocka_unit_test(test_class_random_statistics),
        cmocka_unit_test(test_full_random_statistics),
        cmocka_unit_test(test_coverage_of_an_epoch),
        cmocka_unit_test(test_progress_is_told),
        cmocka_unit_test(test_bad_contexts_are_refused),
        cmocka_unit_test(test_smallest_sets),
        cmocka_unit_test(test_defaults_of_the_shared_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
