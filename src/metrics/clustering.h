#ifndef DML_METRICS_CLUSTERING_H
#define DML_METRICS_CLUSTERING_H

#include "dml/metrics.h"

/* How well a clustering fits the classes. */
struct dml_clustering_scores {
    double nmi; /* mutual information over the arithmetic mean of the two entropies; 1 when there is
                   one class and one cluster */
    double f1;  /* pairwise F1; NaN when no class and no cluster has two samples */
    double information, mean_entropy; /* what nmi is made of, in nats */
};

/* Reads only `in`'s classes; `assigned` (n) is in 0..clusters-1. */
enum dml_status dml_clustering_compare(const struct dml_metric_inputs *in, const int32_t *assigned,
                                       size_t clusters, struct dml_clustering_scores *out);

/* Their adjusted mutual information (Vinh 2010); 1 where there is one class and one cluster. */
enum dml_status dml_clustering_adjusted(const struct dml_metric_inputs *in, const int32_t *assigned,
                                        size_t clusters, double *out);

#endif
