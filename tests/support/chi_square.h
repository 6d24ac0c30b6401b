#ifndef TESTS_SUPPORT_CHI_SQUARE_H
#define TESTS_SUPPORT_CHI_SQUARE_H

#include <stddef.h>

/* Pearson's statistic, pooled over many small tables. */
struct chi_square {
    double statistic, freedom;
};

/* Adds one table: counts (n) of draws with probabilities (n) that sum to 1. Cells that expect
 * fewer than 5 draws are put together. A count where the probability is 0 fails the test. */
void chi_square_add(struct chi_square *chi, const double *probabilities, const size_t *counts,
                    size_t n);

/* How many standard deviations the statistic lies above what is expected (Wilson and Hilferty's
 * normal approximation); 0 without a table. Above 4: one in 30,000. */
double chi_square_excess(const struct chi_square *chi);

#endif
