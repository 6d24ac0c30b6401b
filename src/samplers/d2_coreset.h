#ifndef DML_SAMPLERS_D2_CORESET_H
#define DML_SAMPLERS_D2_CORESET_H

#include <stddef.h>

/* Probabilities (n) of the next draw: proportional to density * sums^lambda, 0 for chosen points.
 * log_density (n) up to a constant; sums (n) are of squared distances to the chosen points, NaN for
 * those themselves. Uniform over the others where all their sums are 0. */
void dml_d2_probabilities(const double *log_density, const double *sums, size_t n, double lambda,
                          double *out);

#endif
