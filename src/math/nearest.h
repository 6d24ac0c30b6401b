#ifndef DML_MATH_NEAREST_H
#define DML_MATH_NEAREST_H

#include "dml/error.h"

#include <stdbool.h>
#include <stddef.h>

struct dml_neighbour {
    size_t index;
    double distance; /* Euclidean, or 1 - cosine */
};

/* The k nearest rows of gallery (n, dim) to query (dim), nearest first, equal ones by index, in
 * float64; k <= n. DML_ERROR_INPUT: a value that is not finite, or a zero vector under cosine. */
enum dml_status dml_nearest(const float *query, const float *gallery, size_t n, size_t dim,
                            bool cosine, size_t k, struct dml_neighbour *out);

#endif
