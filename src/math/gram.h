#ifndef DML_MATH_GRAM_H
#define DML_MATH_GRAM_H

#include "math/panels.h"

#include <stddef.h>

/* All inner products between the rows of x (n, dim), n and dim at least 1: out (n, n), exactly
 * symmetric, computed for one half only. Distances of a batch follow from it: d2_ij = out_ii +
 * out_jj - 2 out_ij. */
void dml_gram(const float *x, size_t n, size_t dim, float *out);

/* The same for functions of the products, each computed while these are in cache. `finish` gets
 * blocks of them: `rows` rows from `row` on, and DML_PANEL columns from `column` on, of which those
 * beyond column n mean nothing. Block o, DML_GRAM_BLOCK after the one before and with rows
 * DML_PANEL apart, ends in outs[o] (n, n), rows `ld`
 * apart, and its mirror image too: what becomes of a product must
 * be symmetric like it. Block 0 holds the products; `count`, at most DML_GRAM_MOST, is how many
 * there are. Called on any of the threads. Only for files that are compiled for every level. */
enum { DML_GRAM_MOST = 3, DML_GRAM_ROWS = 24, DML_GRAM_BLOCK = DML_GRAM_ROWS * DML_PANEL };
typedef void (*dml_gram_finish)(const void *data, size_t row, size_t rows, size_t column,
                                float *blocks);
void dml_gram_finished(const float *x, size_t n, size_t dim, dml_gram_finish finish,
                       const void *data, float *const *outs, size_t count, size_t ld);

/* The plain one in float64. */
void dml_gram64(const double *x, size_t n, size_t dim, double *out);

#endif
