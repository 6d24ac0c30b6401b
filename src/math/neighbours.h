#ifndef DML_MATH_NEIGHBOURS_H
#define DML_MATH_NEIGHBOURS_H

#include "dml/error.h"

#include <stddef.h>
#include <stdint.h>

#define DML_NO_SAMPLE UINT32_MAX

/* The k nearest rows of a gallery for many queries, by squared Euclidean distance in float64: over
 * tiles of products, whose elements are recomputed as sums of squared differences where their
 * rounding could matter. It takes no more memory than the result. */
struct dml_neighbour_task {
    const double *queries; /* (m, dim) */
    const double *gallery; /* (n, dim) */
    size_t m, n, dim, k;   /* k at most n, or n - 1 where queries have rows of their own */
    const uint32_t *own;   /* (m) a query's own row of the gallery, which it never finds, or
                              DML_NO_SAMPLE; NULL: none has one */
    uint32_t *index;       /* out: (m, k) nearest first, equal ones by row */
    double *distance2;     /* out: (m, k), or NULL */
    double *farthest2;     /* out: (m) over all rows, its own included, or NULL */
};
enum dml_status dml_neighbours(const struct dml_neighbour_task *task);

#endif
