#ifndef DML_MATH_NEAREST_H
#define DML_MATH_NEAREST_H

#include "dml/error.h"
#include "math/values.h"

#include <stdbool.h>
#include <stddef.h>

struct dml_neighbour {
    size_t index;
    double distance; /* Euclidean, or 1 - cosine */
};

/* The k nearest rows of gallery (n, dim) to row `query` of queries, nearest first, equal ones by
 * index, in float64; k <= n. DML_ERROR_INPUT: a value that is not finite, or a zero vector under
 * cosine. */
enum dml_status dml_nearest(const struct dml_values *queries, size_t query,
                            const struct dml_values *gallery, size_t n, size_t dim, bool cosine,
                            size_t k, struct dml_neighbour *out);

/* The nearest of all candidates offered so far: a heap of at most k, the farthest on top. */
struct dml_nearest_heap {
    struct dml_neighbour *items; /* (k) */
    size_t count, k;
};
void dml_nearest_offer(struct dml_nearest_heap *heap, size_t index, double distance);
/* The largest distance that would still be taken; infinite until the heap is full. */
double dml_nearest_bound(const struct dml_nearest_heap *heap);
/* Sorts the items, nearest first. After that they are no longer a heap. */
void dml_nearest_sort(struct dml_nearest_heap *heap);

#endif
