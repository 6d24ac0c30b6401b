#ifndef DML_MATH_SPECTRUM_H
#define DML_MATH_SPECTRUM_H

#include "dml/error.h"
#include "math/values.h"

#include <stddef.h>

/* The min(n, dim) largest singular values of x (n, dim), descending, into `values`, as square
 * roots of the eigenvalues of the smaller Gram matrix in float64. That resolves values down to
 * about 1e-7 of the largest, which is what float32 embeddings resolve; smaller ones are 0. */
enum dml_status dml_singular_values(const struct dml_values *x, size_t n, size_t dim,
                                    double *values);

/* The dim eigenvalues of the covariance matrix of the rows (divided by n), descending. */
enum dml_status dml_covariance_eigenvalues(const struct dml_values *x, size_t n, size_t dim,
                                           double *values);

/* The covariance (dim, dim) itself, on and below the diagonal, and the mean (dim). */
enum dml_status dml_covariance(const struct dml_values *x, size_t n, size_t dim, double *mean,
                               double *covariance);

#endif
