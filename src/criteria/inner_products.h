#ifndef DML_CRITERIA_INNER_PRODUCTS_H
#define DML_CRITERIA_INNER_PRODUCTS_H

#include "criteria/common.h"

#include <stdbool.h>

/* All inner products between the rows of a batch, in float32 where that makes no difference and
 * otherwise in float64. The float32 product is of the rows minus their mean m, and the rest is
 * added in float64:
 *
 *     <x_i, x_j> = shift_i + shift_j + <x_i - m, x_j - m>,  shift_i = <m, x_i> - <m, m> / 2
 *
 * so that its error scales not with the rows but with how far apart they are: 4e-8 of |x_i - m|
 * |x_j - m| for equal rows of 128 components, and a quarter of that for most. Keeps its memory
 * between steps; all zero is empty. */
struct dml_inner_products {
    size_t n;
    bool wide;       /* in float64 */
    double spread;   /* largest squared distance from the mean; only where not wide */
    double *x;       /* (n, dim): the rows, only where wide */
    double *s;       /* (n, n), only where wide */
    float *centred;  /* (n, dim): x - m */
    float *products; /* (n, n): of the centred rows */
    double *shifts;  /* (n) */
    struct dml_buffer memory;
};

/* Computes those of the rows of x (n, dim). `slope` bounds what an error of a product is multiplied
 * by: the products are in float32 where slope times spread is at most DML_NARROW_MOST. INFINITY
 * asks for float64. */
#define DML_NARROW_MOST 40.0
enum dml_status dml_inner_products(struct dml_inner_products *products, const float *x, size_t n,
                                   size_t dim, double slope);

/* Only rows minus their mean, shifts and spread, and memory for products. */
enum dml_status dml_inner_products_centre(struct dml_inner_products *products, const float *x,
                                          size_t n, size_t dim);

/* The products of row i with all rows. They are written to work (n doubles) where they are not in
 * memory already. */
const double *dml_inner_products_row(const struct dml_inner_products *products, size_t i,
                                     double *work);

void dml_inner_products_free(struct dml_inner_products *products);

#endif
