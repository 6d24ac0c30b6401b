#ifndef DML_METRICS_EVALUATOR_H
#define DML_METRICS_EVALUATOR_H

#include "dml/metrics.h"

/* A metric as asked for: "e_recall@4" is the family "e_recall@" with k = 4. */
struct dml_metric_request {
    const char *name;
    const struct dml_metric *metric;
    long k;
};

enum dml_status dml_metric_resolve(const char *name, struct dml_metric_request *out);

/* What the evaluator prepares for metrics; `inputs` points into the rest. */
struct dml_prepared {
    struct dml_metric_inputs inputs;
    int32_t *class_of;
    size_t *class_start;
    uint32_t *by_class;
    double *inverse_norms;
    float *normalised;
    double *class_means;
    double *singular;
    struct dml_prepared_space {
        struct dml_ranks ranks;
        struct dml_clusters clusters;
        uint32_t *query, *positives, *rank;
        size_t *start;
        int32_t *assigned;
    } euclidean, cosine;
    const struct dml_evaluation_options *options;
    double done, span; /* share of all work done, and the share of what is under way */
    const char *what;
};

void dml_prepared_free(struct dml_prepared *prepared);

/* Classes, masks and the checks of the set; those of the embeddings where there are any. */
enum dml_status dml_prepare_classes(const struct dml_evaluation_set *set,
                                    struct dml_prepared *prepared);

/* Norms, normalised embeddings, class means and singular values, as `needs` says. */
enum dml_status dml_prepare_statistics(struct dml_prepared *prepared, unsigned needs);

/* Ranks and clusterings of one space, as the requests need them. */
enum dml_status dml_prepare_space(struct dml_prepared *prepared, bool cosine,
                                  const struct dml_metric_request *requests, size_t count);

#endif
