#ifndef DML_METRICS_MEANS_H
#define DML_METRICS_MEANS_H

#include "metrics/evaluator.h"

/* A metric that is a mean over queries (of_query), or a ratio of sums over them (ratio_at): its
 * value, NaN where every query is left out, and the interval that the options ask for.
 *
 * Intervals are the bootstrap's percentiles (Efron and Tibshirani 1993, "An introduction to the
 * bootstrap", 13.3): queries, or classes with all their queries, are resampled with replacement.
 * Where the queries are a sample and no interval is asked for, it is that over queries, narrowed by
 * sqrt(1 - sample / all) (Cochran 1977, "Sampling techniques", 2.6). */
enum dml_status dml_metric_mean(const struct dml_prepared *prepared,
                                const struct dml_metric_request *request,
                                struct dml_metric_value *out);

/* Fills options->per_query. */
enum dml_status dml_per_query_fill(const struct dml_prepared *prepared, struct dml_per_query *out);

#endif
