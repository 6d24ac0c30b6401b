#ifndef DML_MATH_GAUSSIAN_H
#define DML_MATH_GAUSSIAN_H

#include "dml/error.h"

#include <stddef.h>
#include <stdint.h>

/* The Gaussian of a set of points, and what samplers ask of it. Works for any set: fewer points
 * than dimensions, identical points, a single one. In float64. Within a parallel region, where
 * planners call it, it runs on the calling thread alone, with the same bits (BLAS starts no threads
 * there). */
struct dml_gaussian {
    size_t dim, capacity;
    double *mean;       /* (dim) */
    double *covariance; /* (dim, dim), unbiased; 0 for a single point */
    double *factor;     /* (dim, dim), factor factor^T = covariance + ridge */
    double *centred;    /* (capacity, dim) points minus their mean */
    double trace;       /* of the covariance, without ridge */
};

/* Room for `capacity` points. */
enum dml_status dml_gaussian_open(struct dml_gaussian *gaussian, size_t capacity, size_t dim);
void dml_gaussian_close(struct dml_gaussian *gaussian);

/* Mean and covariance of the rows of x (n, dim), 1 <= n <= capacity, and the factor of the
 * covariance with `ridge` added to its diagonal: Cholesky's (lower triangular) where it exists,
 * else by eigenvalues. DML_ERROR_NUMERIC: x is not finite. */
enum dml_status dml_gaussian_fit(struct dml_gaussian *gaussian, const double *x, size_t n,
                                 double ridge);

/* The same with a ridge of `share` times the mean variance, so that any covariance but 0 has a
 * Cholesky factor. */
enum dml_status dml_gaussian_fit_relative(struct dml_gaussian *gaussian, const double *x, size_t n,
                                          double share);

/* Squared Mahalanobis distances of the n points of the last dml_gaussian_fit_relative; all 0 if the
 * points are identical. Overwrites `centred`. */
void dml_gaussian_mahalanobis2(struct dml_gaussian *gaussian, size_t n, double *out);

/* The Frechet distance (Dowson and Landau 1982; Heusel 2017) between the Gaussian of a set and
 * those of its subsets: |m1 - m2|^2 + tr S1 + tr S2 - 2 tr sqrt((S1 + ridge)(S2 + ridge)).
 *
 * With S1 + ridge = F F^T the product has the eigenvalues of F^T (S2 + ridge) F, which is
 * symmetric: the set is multiplied by F once, and each subset then costs a product and its
 * eigenvalues. */
struct dml_frechet {
    struct dml_gaussian set;
    double ridge;
    double *mapped;      /* (capacity, dim) centred points times F */
    double *ridge_part;  /* (dim, dim) ridge F^T F */
    double *rows;        /* (capacity, dim) mapped rows of the subset, centred */
    double *product;     /* (dim, dim) */
    double *eigenvalues; /* (dim) */
    double *mean;        /* (dim) */
};

enum dml_status dml_frechet_open(struct dml_frechet *frechet, size_t capacity, size_t dim);
void dml_frechet_close(struct dml_frechet *frechet);
enum dml_status dml_frechet_prepare(struct dml_frechet *frechet, const double *x, size_t n,
                                    double ridge);

/* The distance to the subset of n >= 1 rows, each in 0..n-1 of the set; rows may repeat. */
enum dml_status dml_frechet_distance(struct dml_frechet *frechet, const uint32_t *rows, size_t n,
                                     double *out);

#endif
