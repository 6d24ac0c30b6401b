#ifndef DML_MATH_GRAM_H
#define DML_MATH_GRAM_H

#include <stddef.h>

/* All inner products between the rows of x (n, dim), n and dim at least 1: out (n, n), exactly
 * symmetric, computed for one half only. Distances of a batch follow from it: d2_ij = out_ii +
 * out_jj - 2 out_ij. */
void dml_gram(const float *x, size_t n, size_t dim, float *out);

/* The same with each tile passed on while it is in cache, before its mirror image is written: part
 * (rows, width) of `out` from (row, column) on, whose rows are `ld` apart. What becomes of a tile
 * must be symmetric like the products. On any of the threads. */
typedef void (*dml_gram_finish)(const void *data, size_t row, size_t rows, size_t column,
                                size_t width, float *tile, size_t ld);
void dml_gram_finished(const float *x, size_t n, size_t dim, dml_gram_finish finish,
                       const void *data, float *out);

/* The plain one in float64. */
void dml_gram64(const double *x, size_t n, size_t dim, double *out);

#endif
