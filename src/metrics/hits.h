#ifndef DML_METRICS_HITS_H
#define DML_METRICS_HITS_H

#include "dml/metrics.h"

#include <math.h>

/* What metrics read from the ranks of one query's positives. */

/* How many are among the first `limit`. */
static inline size_t dml_hits_within(const struct dml_ranks *ranks, size_t q, size_t limit) {
    size_t first = ranks->start[q], count = ranks->start[q + 1] - first, hits = 0;
    while (hits < count && ranks->rank[first + hits] > 0 && ranks->rank[first + hits] <= limit)
        hits++;
    return hits;
}

/* The sum over hits at rank r <= limit of (hits up to r) / r. */
static inline double dml_sum_precisions(const struct dml_ranks *ranks, size_t q, size_t limit) {
    double sum = 0;
    size_t first = ranks->start[q], hits = dml_hits_within(ranks, q, limit);
    for (size_t p = 0; p < hits; p++)
        sum += (double)(p + 1) / ranks->rank[first + p];
    return sum;
}

/* What a query without positives counts as where it is not always left out. */
static inline double dml_failed_query(const struct dml_ranks *ranks) {
    return ranks->plain ? 0 : NAN;
}

static inline size_t dml_deepest_k(long k, size_t positives) {
    (void)positives;
    return (size_t)k;
}

static inline size_t dml_deepest_r(long k, size_t positives) {
    (void)k;
    return positives;
}

#endif
