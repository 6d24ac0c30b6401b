/* Counting values above levels: between what is certain and what is possible, and sharp where
 * values and levels are apart. */
#include "dml/rng.h"
#include "math/above.h"
#include "support/golden.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int descending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* `grid`: how many different values there are between -spread and spread. */
static void check(struct dml_above *work, size_t count, size_t levels, double spread, uint64_t grid,
                  float error, uint64_t seed) {
    struct dml_rng rng = dml_rng_make(seed, DML_PURPOSE_OTHER, count, levels);
    float level[DML_ABOVE_LEVELS];
    size_t kept = 0;
    for (size_t p = 0; p < levels; p++)
        level[p] = (float)(((double)dml_rng_below(&rng, grid) / (double)grid * 2 - 1) * spread);
    qsort(level, levels, sizeof *level, descending);
    for (size_t c = 0; c < count; c++) {
        double share = (double)dml_rng_below(&rng, grid) / (double)grid * 2 - 1;
        work->value[kept] = (float)(share * spread * 1.5);
        kept += work->value[kept] >= level[levels - 1] - error;
    }
    bool unsure = dml_count_above(work, kept, level, levels, error), differ = false;
    for (size_t p = 0; p < levels; p++) {
        int surely = 0, maybe = 0;
        for (size_t c = 0; c < kept; c++) {
            surely += work->value[c] > level[p] + error;
            maybe += work->value[c] >= level[p] - error;
        }
        assert_in_range(work->surely[p], 0, surely);
        assert_in_range(work->maybe[p], maybe, kept);
        assert_true(work->surely[p] <= work->maybe[p]);
        differ |= work->surely[p] != work->maybe[p];
        if (grid < 5000 && error < 1e-5 * spread && surely == maybe) {
            assert_int_equal(work->surely[p], surely);
            assert_int_equal(work->maybe[p], maybe);
        }
    }
    assert_int_equal(unsure, differ);
}

static void test_counts(void **state) {
    (void)state;
    static const size_t levels[] = {1, 2, 8, 9, 16, 17, 59, 64, 255, DML_ABOVE_LEVELS};
    static const size_t counts[] = {0, 1, 7, 8, 9, 100, 384, DML_ABOVE_VALUES};
    static const uint64_t grids[] = {1, 3, 1000, 1ull << 40};
    static const double spreads[] = {1e-15, 1e-6, 0.3, 1e20};
    struct dml_above *work = aligned_alloc(64, sizeof *work);
    assert_non_null(work);
    memset(work, 0, sizeof *work);
    for (size_t l = 0; l < sizeof levels / sizeof *levels; l++)
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
            for (size_t g = 0; g < 4; g++)
                for (size_t s = 0; s < 4; s++) {
                    check(work, counts[c], levels[l], spreads[s], grids[g],
                          (float)(spreads[s] * 1e-6), g);
                    check(work, counts[c], levels[l], spreads[s], grids[g],
                          (float)(spreads[s] * 0.01), g + 4);
                }
    free(work);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_counts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
