#include "math/reduce.h"
#include "math/turn.h"

#include "support/golden.h"

#include <float.h>

enum { BLOCK = 1024 };

static void exp_is_within_its_error(void **state) {
    (void)state;
    double worst = 0;
    for (int block = 0; block < 400; block++) {
        float x[BLOCK], y[BLOCK];
        for (int i = 0; i < BLOCK; i++)
            x[i] = -86.9f + 175.6f * (float)(block * BLOCK + i) / (400.0f * BLOCK);
#pragma omp simd
        for (int i = 0; i < BLOCK; i++)
            y[i] = dml_expf(x[i]);
        for (int i = 0; i < BLOCK; i++)
            worst = fmax(worst, fabs(y[i] / exp((double)x[i]) - 1));
    }
    assert_true(worst < 1.5e-7);
}

static void exp_holds_at_the_ends(void **state) {
    (void)state;
    assert_true(dml_expf(0.0f) == 1.0f);
    assert_true(dml_expf(-88.0f) == 0.0f && dml_expf(-FLT_MAX) == 0.0f);
    assert_true(dml_expf(-INFINITY) == 0.0f);
    assert_true(isinf(dml_expf(89.0f)) && isinf(dml_expf(INFINITY)));
    assert_true(isfinite(dml_expf(88.72f)) && dml_expf(88.72f) > 3.3e38f);
    assert_true(isnan(dml_expf(NAN)));
}

static void log_is_within_its_error(void **state) {
    (void)state;
    double worst = 0;
    for (int block = 0; block < 400; block++) {
        float x[BLOCK], y[BLOCK];
        for (int i = 0; i < BLOCK; i++)
            x[i] = powf(10.0f, -37.0f + 75.0f * (float)(block * BLOCK + i) / (400.0f * BLOCK));
        for (int i = 0; i < BLOCK && block % 4 == 0; i++) /* and near 1 */
            x[i] = 0.5f + (float)(block * BLOCK + i) / (400.0f * BLOCK);
#pragma omp simd
        for (int i = 0; i < BLOCK; i++)
            y[i] = dml_logf(x[i]);
        for (int i = 0; i < BLOCK; i++) {
            double truth = log((double)x[i]);
            worst = fmax(worst, fabs(y[i] - truth) / fmax(1, fabs(truth)));
        }
    }
    assert_true(worst < 1.5e-7);
    assert_true(dml_logf(1.0f) == 0.0f);
    assert_true(fabs(dml_logf(FLT_MIN) - log((double)FLT_MIN)) < 1e-5);
    assert_true(fabs(dml_logf(FLT_MAX) - log((double)FLT_MAX)) < 1e-5);
}

static void logarithms_in_float64(void **state) {
    (void)state;
    double worst = 0;
    for (int i = 1; i < 1000000; i++) {
        const double values[] = {i * 1e-6, 1 - i * 0x1p-53, 1 + i * 0x1p-52,
                                 pow(2, i % 2000 - 1000.5)};
        for (size_t v = 0; v < 4; v++)
            worst = fmax(worst, fabs(dml_log64(values[v]) / log(values[v]) - 1));
    }
    assert_true(worst < 5e-16);
    assert_true(dml_log64(1) == 0);
    assert_true(fabs(dml_log64(DBL_MIN) / log(DBL_MIN) - 1) < 5e-16);
    assert_true(fabs(dml_log64(DBL_MAX) / log(DBL_MAX) - 1) < 5e-16);
}

static void cosines_of_turns(void **state) {
    (void)state;
    long double worst = 0;
    for (int i = -1000; i < 1000000; i++) {
        double v = i * 0x1.0c6f7a0b5ed8dp-20; /* about 1e-6 */
        worst = fmaxl(worst, fabsl(dml_cos_turns(v) - cosl(2 * 3.14159265358979323846L * v)));
    }
    assert_true(worst < 3e-16L);
    assert_true(dml_cos_turns(0) == 1 && dml_cos_turns(0.25) == 0);
    assert_true(dml_cos_turns(0.5) == -1 && dml_cos_turns(0.75) == 0 && dml_cos_turns(1) == 1);
}

static void rows_are_summed_whatever_their_length(void **state) {
    (void)state;
    enum { MOST = 40 };
    float x[MOST], y[MOST], signs[MOST], kept[MOST];
    for (int i = 0; i < MOST; i++) {
        x[i] = (float)(i * i + 1);
        y[i] = 0x1p-30f - (float)i;
        signs[i] = (float)(i % 3 - 1);
        kept[i] = signs[i] != 0 ? x[i] : 0;
    }
    for (size_t n = 0; n <= MOST; n++) {
        double sum = 0, product = 0, of_sign[2] = {0}, found[2];
        for (size_t i = 0; i < n; i++) {
            sum += x[i];
            product += (double)x[i] * y[i];
            of_sign[signs[i] > 0] += kept[i];
        }
        dml_sum_by_sign(kept, signs, n, &found[1], &found[0]);
        assert_true(dml_sum(x, n) == sum);
        assert_true(fabs(dml_sum_products(x, y, n) - product) <= 1e-12 * fabs(product));
        assert_true(found[0] == of_sign[0] && found[1] == of_sign[1]);
    }
}

static void integers_have_the_order_of_numbers(void **state) {
    (void)state;
    const float ascending[] = {-INFINITY, -FLT_MAX, -2, -1,      -FLT_MIN,
                               0,         FLT_MIN,  1,  FLT_MAX, INFINITY};
    for (size_t i = 0; i < sizeof ascending / sizeof *ascending; i++) {
        assert_true(dml_from_order(dml_order(ascending[i])) == ascending[i]);
        assert_true(i == 0 || dml_order(ascending[i - 1]) < dml_order(ascending[i]));
    }
}

static void a_square_is_turned(void **state) {
    (void)state;
    enum { FROM = 11, TO = 9 };
    float from[DML_TURN * FROM], to[DML_TURN * TO];
    for (int i = 0; i < DML_TURN * FROM; i++)
        from[i] = (float)i;
    dml_turn(from, FROM, to, TO);
    for (size_t i = 0; i < DML_TURN; i++)
        for (size_t j = 0; j < DML_TURN; j++)
            assert_true(to[j * TO + i] == from[i * FROM + j]);
    dml_turn(from, FROM, from, FROM);
    for (size_t i = 0; i < DML_TURN; i++)
        for (size_t j = 0; j < DML_TURN; j++)
            assert_true(from[i * FROM + j] == to[i * TO + j]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_within_its_error),
        cmocka_unit_test(exp_holds_at_the_ends),
        cmocka_unit_test(log_is_within_its_error),
        cmocka_unit_test(logarithms_in_float64),
        cmocka_unit_test(cosines_of_turns),
        cmocka_unit_test(rows_are_summed_whatever_their_length),
        cmocka_unit_test(integers_have_the_order_of_numbers),
        cmocka_unit_test(a_square_is_turned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
