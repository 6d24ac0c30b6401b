#ifndef DML_REPORT_STATISTICS_H
#define DML_REPORT_STATISTICS_H

#include <stddef.h>

/* Mean and standard deviation over runs, of the population (divided by n) as in the study's tables.
 * NAN values are left out; n counts the others. */
struct dml_spread {
    double mean, deviation; /* NAN where n is 0 */
    size_t n;
};
struct dml_spread dml_spread_of(const double *values, size_t count);

/* Pearson correlation over the pairs in which both are finite; NAN below two of them or where one
 * side does not vary. */
double dml_correlation(const double *x, const double *y, size_t count);

/* Least squares line y = slope x + offset over the same pairs; slope is NAN where correlation is.
 */
struct dml_line {
    double slope, offset;
};
struct dml_line dml_fit_line(const double *x, const double *y, size_t count);

#endif
