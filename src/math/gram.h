#ifndef DML_MATH_GRAM_H
#define DML_MATH_GRAM_H

#include <stddef.h>

/* All inner products between the rows of x (n, dim), n and dim at least 1: out (n, n), exactly
 * symmetric, computed for one half only. Distances of a batch follow from it: d2_ij = out_ii +
 * out_jj - 2 out_ij. */
void dml_gram(const float *x, size_t n, size_t dim, float *out);

/* The same in float64. */
void dml_gram64(const double *x, size_t n, size_t dim, double *out);

#endif
