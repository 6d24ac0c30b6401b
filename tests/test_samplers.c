#include "support/chi_square.h"
#include "support/sampling.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* The largest number of images of one class in a batch. */
static size_t most_of_a_class(const struct sampling_world *w, const uint32_t *batch) {
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
    struct sampling_world w = sampling_world_make(700, 25);
    const struct dml_method *method;
    size_t m = 0;
    for (; (method = dml_method_at(DML_SAMPLER, m)); m++) {
        uint32_t *indices = sampling_plan_once(&w, method->name, "", 0);
        for (size_t b = 0; b < w.context.images / w.context.batch_size; b++)
            assert_true(most_of_a_class(&w, indices + b * w.context.batch_size) >= 2);
        free(indices);
    }
    assert_true(m >= 6);
    sampling_world_free(&w);
}

/* The same plan for any number of threads and again; another for another epoch or seed. */
static void test_plans_depend_on_seed_and_epoch_alone(void **state) {
    (void)state;
    struct sampling_world w = sampling_world_make(700, 25);
    size_t bytes = w.context.images / w.context.batch_size * w.context.batch_size * 4;
    int threads = omp_get_max_threads();
    const struct dml_method *method;
    for (size_t m = 0; (method = dml_method_at(DML_SAMPLER, m)); m++) {
        omp_set_num_threads(1);
        uint32_t *one = sampling_plan_once(&w, method->name, "", 3);
        omp_set_num_threads(3);
        uint32_t *three = sampling_plan_once(&w, method->name, "", 3);
        uint32_t *later = sampling_plan_once(&w, method->name, "", 4);
        w.context.seed++;
        uint32_t *other = sampling_plan_once(&w, method->name, "", 3);
        w.context.seed--;
        assert_memory_equal(one, three, bytes);
        assert_memory_not_equal(one, later, bytes);
        assert_memory_not_equal(one, other, bytes);
        free(one), free(three), free(later), free(other);
    }
    omp_set_num_threads(threads);
    sampling_world_free(&w);
}

/* class_random: classes uniform however many images they have, images uniform within a class. */
static void test_class_random_statistics(void **state) {
    (void)state;
    struct sampling_world w = sampling_world_make(700, 25);
    struct dml_sampling *sampling = sampling_open(&w, "class_random", "");
    size_t batches = dml_sampling_batches(sampling), drawn[700] = {0}, taken[25] = {0};
    assert_int_equal(batches, 700 / 24);
    for (uint64_t epoch = 0; epoch < 200; epoch++) {
        uint32_t *indices = sampling_plan(sampling, &w, epoch);
        for (size_t i = 0; i < batches * 24; i++) {
            assert_int_equal(w.labels[indices[i]], w.labels[indices[i / 4 * 4]]);
            drawn[indices[i]]++;
        }
        for (size_t i = 0; i < batches * 24; i += 4)
            taken[w.labels[indices[i]]]++;
        free(indices);
    }
    double share[25];
    for (size_t c = 0; c < 25; c++)
        share[c] = c == 3 ? 0 : 1.0 / 24; /* class 3 has no images */
    struct chi_square chi = {0, 0};
    chi_square_add(&chi, share, taken, 25);
    assert_true(chi_square_excess(&chi) < 4);
    for (size_t i = 0; i < 700; i++) {
        size_t c = (size_t)w.labels[i];
        double mean = 4.0 * (double)taken[c] / (double)w.class_sizes[c];
        assert_true(fabs((double)drawn[i] - mean) < 6 * sqrt(mean) + 1);
    }
    dml_sampling_free(sampling);
    sampling_world_free(&w);
}

/* full_random: about as many classes in a batch as independent draws give, one pair at least. */
static void test_full_random_statistics(void **state) {
    (void)state;
    struct sampling_world w = sampling_world_make(3000, 500);
    struct dml_sampling *sampling = sampling_open(&w, "full_random", "");
    size_t batches = dml_sampling_batches(sampling), total = 0, different = 0, paired = 0;
    for (uint64_t epoch = 0; epoch < 20; epoch++) {
        uint32_t *indices = sampling_plan(sampling, &w, epoch);
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
    sampling_world_free(&w);
}

/* Independent draws with replacement leave (1 - 1/n)^n of n equally likely images out; those of
 * class_random come in runs of 4 from one of 100 classes of 24, 600 runs in an epoch. */
static void test_coverage_of_an_epoch(void **state) {
    (void)state;
    enum { CLASSES = 100, EACH = 24 };
    struct sampling_world w = sampling_world_make(CLASSES * EACH, CLASSES);
    for (size_t i = 0; i < w.context.images; i++)
        w.labels[i] = (int32_t)(i / EACH);
    static const char *const names[] = {"class_random", "full_random"};
    const double expected[] = {1 - pow(1 - (1 - pow(23.0 / 24, 4)) / 100, 600), 1 - exp(-1)};
    for (size_t n = 0; n < 2; n++) {
        double share = 0;
        for (uint64_t epoch = 0; epoch < 20; epoch++) {
            uint32_t *indices = sampling_plan_once(&w, names[n], "", epoch);
            char *seen = calloc(w.context.images, 1);
            for (size_t i = 0; i < w.context.images; i++)
                if (!seen[indices[i]]++)
                    share += 1.0 / (20 * CLASSES * EACH);
            free(seen);
            free(indices);
        }
        assert_true(fabs(share - expected[n]) < 0.01);
    }
    sampling_world_free(&w);
}

static void count_progress(void *data, size_t done) {
    size_t *last = data;
    assert_int_equal(done, *last + 1);
    *last = done;
}

static void test_progress_is_told(void **state) {
    (void)state;
    struct sampling_world w = sampling_world_make(700, 25);
    const struct dml_method *method;
    for (size_t m = 0; (method = dml_method_at(DML_SAMPLER, m)); m++) {
        struct dml_sampling *sampling = sampling_open(&w, method->name, "");
        uint32_t indices[700];
        size_t last = 0;
        assert_ok(dml_sampling_plan(sampling, 0, indices, count_progress, &last));
        assert_int_equal(last, 700 / 24);
        dml_sampling_free(sampling);
    }
    sampling_world_free(&w);
}

static void test_bad_contexts_are_refused(void **state) {
    (void)state;
    struct sampling_world w = sampling_world_make(100, 10);
    const struct dml_method *method;
    for (size_t m = 0; (method = dml_method_at(DML_SAMPLER, m)); m++) {
        struct sampling_world bad = w;
        bad.context.batch_size = 23;
        sampling_expect_refused(&bad, method->name, DML_ERROR_USAGE, "--bs 23: not a multiple of");
        bad.context.batch_size = 104;
        sampling_expect_refused(&bad, method->name, DML_ERROR_USAGE, "training set of 100 images");
        bad.context.batch_size = 0;
        sampling_expect_refused(&bad, method->name, DML_ERROR_USAGE, "--bs 0");
        bad.context.batch_size = 24;
        bad.context.samples_per_class = 0;
        sampling_expect_refused(&bad, method->name, DML_ERROR_USAGE, "--samples_per_class 0");
        bad.context.samples_per_class = 4;
        w.labels[40] = 10;
        sampling_expect_refused(&bad, method->name, DML_ERROR_INPUT, "training image 40: label 10");
        w.labels[40] = -1;
        sampling_expect_refused(&bad, method->name, DML_ERROR_INPUT, "training image 40: label -1");
        w.labels[40] = 1;
    }
    sampling_world_free(&w);
}

/* At the study's sizes, where BLAS would use threads of its own; and for an epoch of one batch. */
static void test_threads_at_full_size(void **state) {
    (void)state;
    int threads = omp_get_max_threads();
    for (size_t images = 120; images <= 600; images += 480) {
        struct sampling_world w = sampling_world_make(images, 60);
        w.context.batch_size = 112;
        w.context.dim = 128;
        w.shared.batchmatch_bigbs = 512;
        const struct dml_method *method;
        for (size_t m = 0; (method = dml_method_at(DML_SAMPLER, m)); m++) {
            omp_set_num_threads(1);
            uint32_t *one = sampling_plan_once(&w, method->name, "", 0);
            omp_set_num_threads(4);
            uint32_t *four = sampling_plan_once(&w, method->name, "", 0);
            assert_memory_equal(one, four, images / 112 * 112 * sizeof *one);
            free(one), free(four);
        }
        sampling_world_free(&w);
    }
    omp_set_num_threads(threads);
}

/* One image in all, batches of one, and batches of all images. */
static void test_smallest_sets(void **state) {
    (void)state;
    const struct dml_method *method;
    for (size_t m = 0; (method = dml_method_at(DML_SAMPLER, m)); m++) {
        struct sampling_world w = sampling_world_make(12, 5);
        w.context.batch_size = 12;
        w.context.samples_per_class = 3;
        free(sampling_plan_once(&w, method->name, "", 0));
        w.context.images = w.context.batch_size = w.context.samples_per_class = 1;
        uint32_t *indices = sampling_plan_once(&w, method->name, "", 0);
        assert_int_equal(indices[0], 0);
        free(indices);
        sampling_world_free(&w);
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

/* By name and with flags: the same plan as with tables filled by hand. */
static void test_samplers_open_by_name(void **state) {
    (void)state;
    struct sampling_world w = sampling_world_make(700, 25);
    const char *const names[] = {"class_random", "full_random"};
    for (size_t i = 0; i < 2; i++) {
        struct dml_sampling *sampling = NULL;
        uint32_t *expected = sampling_plan_once(&w, names[i], "", 1);
        w.context.shared = NULL;
        assert_ok(dml_sampling_open(names[i], i ? "--data_batchmatch_bigbs 64" : NULL, &w.context,
                                    &sampling));
        uint32_t *found = sampling_plan(sampling, &w, 1);
        assert_memory_equal(found, expected, dml_sampling_batches(sampling) * 24 * sizeof *found);
        free(found), free(expected);
        dml_sampling_free(sampling);
    }
    struct dml_sampling *none = NULL;
    assert_int_equal(dml_sampling_open("clas_random", NULL, &w.context, &none), DML_ERROR_USAGE);
    assert_non_null(strstr(dml_error(), "did you mean 'class_random'?"));
    assert_int_equal(
        dml_sampling_open("class_random", "--data_batchmatch_bigbs 0", &w.context, &none),
        DML_ERROR_USAGE);
    assert_int_equal(dml_sampling_open("class_random", "--bs 7", &w.context, &none),
                     DML_ERROR_USAGE);
    assert_null(none);
    sampling_world_free(&w);
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
        cmocka_unit_test(test_threads_at_full_size),
        cmocka_unit_test(test_smallest_sets),
        cmocka_unit_test(test_defaults_of_the_shared_table),
        cmocka_unit_test(test_samplers_open_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
