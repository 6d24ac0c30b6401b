#include "support/chi_square.h"

#include "support/golden.h"

#include <math.h>

void chi_square_add(struct chi_square *chi, const double *probabilities, const size_t *counts,
                    size_t n) {
    size_t total = 0;
    for (size_t i = 0; i < n; i++)
        total += counts[i];
    double small_expected = 0, small_count = 0;
    int cells = 0;
    for (size_t i = 0; i < n; i++) {
        double expected = probabilities[i] * (double)total, count = (double)counts[i];
        if (probabilities[i] == 0 && counts[i] > 0)
            fail_msg("drew %zu, which has probability 0, %zu times", i, counts[i]);
        if (expected < 5) {
            small_expected += expected;
            small_count += count;
            continue;
        }
        chi->statistic += (count - expected) * (count - expected) / expected;
        cells++;
    }
    if (small_expected >= 5) {
        double difference = small_count - small_expected;
        chi->statistic += difference * difference / small_expected;
        cells++;
    }
    if (cells > 1)
        chi->freedom += cells - 1;
}

double chi_square_excess(const struct chi_square *chi) {
    if (chi->freedom == 0)
        return 0;
    double spread = 2 / (9 * chi->freedom);
    return (cbrt(chi->statistic / chi->freedom) - (1 - spread)) / sqrt(spread);
}
