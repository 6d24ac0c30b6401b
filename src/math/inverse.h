#ifndef DML_MATH_INVERSE_H
#define DML_MATH_INVERSE_H

#include <stddef.h>

/* Turns a symmetric, positive definite matrix a (n, n) into its inverse, in float64. `work` is a
 * workspace of n^2. The same bits whatever the number of threads. */
void dml_invert64(double *a, size_t n, double *work);

#endif
