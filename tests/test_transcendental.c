#include "math/transcendental.h"

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_within_its_error),
        cmocka_unit_test(exp_holds_at_the_ends),
        cmocka_unit_test(log_is_within_its_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
