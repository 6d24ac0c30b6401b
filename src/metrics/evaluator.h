#ifndef DML_METRICS_EVALUATOR_H
#define DML_METRICS_EVALUATOR_H

#include "dml/metrics.h"
#include "math/rows.h"

/* A metric as asked for: "e_recall@4" is the family "e_recall@" with k = 4. */
struct dml_metric_request {
    const char *name;
    const struct dml_metric *metric;
    long k;
    double at; /* the number of a family with a share */
};

enum dml_status dml_metric_resolve(const char *name, struct dml_metric_request *out);

/* What the evaluator prepares for metrics; `inputs` points into the rest. */
struct dml_prepared {
    struct dml_metric_inputs inputs;
    size_t population;       /* queries, of which inputs.queries are evaluated */
    size_t lone, first_lone; /* those without a positive */
    uint8_t *asked;
    int32_t *class_of;
    size_t *class_start;
    uint32_t *by_class;
    double *inverse_norms, *query_inverse_norms;
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
    double done, span; /* share of all work done, and that of the work under way */
    const char *what;
};

void dml_prepared_free(struct dml_prepared *prepared);

/* The values of a set's embeddings that count: float64 where it has them. */
struct dml_values dml_set_values(const struct dml_evaluation_set *set);

/* Whether a query without a positive counts as a failed one: no masks, no groups. */
bool dml_set_is_plain(const struct dml_evaluation_set *set);

/* The two sides of the frame of a space; *query is NULL where the two are one. */
void dml_prepared_sides(const struct dml_prepared *prepared, bool cosine, struct dml_side *gallery,
                        struct dml_side *query, const struct dml_side **different);

/* How many samples of its class query i sees in the gallery. */
size_t dml_count_positives(const struct dml_metric_inputs *inputs, size_t i);

/* Classes, masks, the sample of queries and the checks of the set; those of the embeddings where
 * there are any. */
enum dml_status dml_prepare_classes(const struct dml_evaluation_set *set,
                                    struct dml_prepared *prepared);

/* Norms, normalised embeddings, class means and singular values, as `needs` says. */
enum dml_status dml_prepare_statistics(struct dml_prepared *prepared, unsigned needs);

/* Ranks of one space from the frame, or from the set's own distances where it has them. */
enum dml_status dml_prepare_ranks(struct dml_prepared *prepared, bool cosine,
                                  const struct dml_metric_request *requests, size_t count,
                                  const struct dml_frame *frame, const struct dml_rows *rows);

/* Ranks and clusterings of one space, as the requests need them. */
enum dml_status dml_prepare_space(struct dml_prepared *prepared, bool cosine,
                                  const struct dml_metric_request *requests, size_t count);

#endif
