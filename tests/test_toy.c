#include "support/golden.h"
#include "toy/lines.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Four points of each class, embedded by a network with random weights. */
enum { N = 16 };
static const double margin = 0.4;

static void make_batch(const struct dml_toy_data *data, double (*points)[2], int *labels) {
    for (int i = 0; i < N; i++) {
        int at = i / 4 * DML_TOY_POINTS + i % 4;
        memcpy(points[i], data->train[at], sizeof points[i]);
        labels[i] = data->labels[at];
    }
}

static double loss_of(struct dml_toy_net *net, double (*points)[2], const int *labels,
                      const unsigned char *swapped, double (*grad)[2]) {
    dml_toy_net_forward(net, (const double(*)[2])points, N);
    return dml_toy_loss((const double(*)[2])net->embeddings, labels, N, margin, swapped, grad);
}

/* Every weight's gradient against finite differences, for both losses. */
static void test_gradients(void **state) {
    (void)state;
    struct dml_toy_data data;
    struct dml_toy_net *net = calloc(1, sizeof *net);
    double points[N][2], grad[N][2];
    int labels[N];
    unsigned char swapped[N * N * N];
    dml_toy_make_data(&data, 3);
    make_batch(&data, points, labels);
    assert_int_equal(dml_toy_triplets(labels, N), 16 * 3 * 12);
    for (size_t i = 0; i < sizeof swapped; i++)
        swapped[i] = i % 3 == 0;
    for (int with = 0; with < 2; with++) {
        const unsigned char *which = with ? swapped : NULL;
        dml_toy_net_init(net, 5);
        assert_true(loss_of(net, points, labels, which, grad) > 0);
        dml_toy_net_backward(net, (const double(*)[2])grad);
        double *weights = &net->weights.w1[0][0], largest = 0;
        struct dml_toy_weights exact = net->grad;
        for (size_t i = 0; i < DML_TOY_WEIGHTS; i++)
            largest = fmax(largest, fabs((&exact.w1[0][0])[i]));
        assert_true(largest > 1e-3);
        for (size_t i = 0; i < DML_TOY_WEIGHTS; i += 7) {
            const double step = 1e-6;
            double before = weights[i];
            weights[i] = before + step;
            double above = loss_of(net, points, labels, which, grad);
            weights[i] = before - step;
            double below = loss_of(net, points, labels, which, grad);
            weights[i] = before;
            double numeric = (above - below) / (2 * step);
            if (fabs(numeric - (&exact.w1[0][0])[i]) > 1e-4 * largest)
                fail_msg("weight %zu: %g, by differences %g", i, (&exact.w1[0][0])[i], numeric);
        }
    }
    free(net);
}

static void test_data(void **state) {
    (void)state;
    struct dml_toy_data data, again;
    dml_toy_make_data(&data, 1);
    dml_toy_make_data(&again, 1);
    assert_memory_equal(&data, &again, sizeof data);
    for (int i = 0; i < DML_TOY_ALL; i++) {
        assert_true(data.train[i][0] == data.train[i][1]); /* on the diagonal */
        double from = 0.1 + 0.25 * data.labels[i];
        assert_true(data.train[i][0] >= from && data.train[i][0] <= from + 0.2 + 1e-12);
        assert_true(data.test[i][0] == 0.2 || data.test[i][1] == 0.2);
    }
}

/* The study's finding: with swapped negatives the spectrum is flatter. */
static void test_training(void **state) {
    (void)state;
    for (int64_t seed = 1; seed <= 3; seed++) {
        struct dml_toy_data data;
        struct dml_toy_options options = {
            .seed = seed, .iterations = 200, .batch = 24, .lr = 0.03, .margin = 0.1, .swap = 0.001};
        struct dml_toy_result *results = calloc(2, sizeof *results);
        dml_toy_make_data(&data, (uint64_t)seed);
        assert_ok(dml_toy_train(&data, &options, false, &results[0]));
        assert_ok(dml_toy_train(&data, &options, true, &results[1]));
        for (int r = 0; r < 2; r++) {
            assert_true(results[r].last < results[r].first);
            assert_true(fabs(results[r].spectrum[0] + results[r].spectrum[1] - 1) < 1e-12);
            for (int i = 0; i < DML_TOY_ALL; i++)
                assert_true(fabs(hypot(results[r].train[i][0], results[r].train[i][1]) - 1) < 1e-9);
        }
        assert_true(results[1].spectrum[1] > results[0].spectrum[1]);
        free(results);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_data),
        cmocka_unit_test(test_training),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
