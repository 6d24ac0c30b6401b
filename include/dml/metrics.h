#ifndef DML_METRICS_H
#define DML_METRICS_H

#include "dml/method.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Distances other than those between embeddings, for example re-ranked ones (dml/postprocess.h).
 * `rows` writes out (count, n): from each of the samples queries[0..count) to every sample of the
 * set; distances to samples outside the gallery may be anything. Called from several threads at
 * once. */
struct dml_distance_source {
    enum dml_status (*rows)(void *data, const uint32_t *queries, size_t count, double *out);
    void *data;
};

/* A set to evaluate. Every query looks for samples of its class among the gallery, never for itself
 * (by index). Without masks every sample is both. Clusterings, dists@, rho_spectrum@ and pcf@ look
 * at all samples, whatever the masks.
 *
 * A query without a positive is left out of every mean; in a set without masks and groups it counts
 * as a failure in recalls and in the study's mAP. */
struct dml_evaluation_set {
    size_t n, dim;
    const float *embeddings;   /* (n, dim), row-major, finite */
    const int32_t *labels;     /* (n), any values */
    const uint8_t *is_query;   /* (n) or NULL */
    const uint8_t *is_gallery; /* (n) or NULL */

    /* (n) or NULL: cameras, sequences. A query sees no gallery sample of its own group and class.
     */
    const int32_t *groups;

    /* (n, dim) or NULL: the embeddings in float64, where float32 cannot hold them. They are then
     * what is evaluated; `embeddings` holds them rounded, for plugins' metrics. */
    const double *exact;

    /* (n, dim) or NULL: the samples' embeddings as queries, where they differ from those in the
     * gallery (query expansion). */
    const double *query_embeddings;

    /* NULL, or what ranks and fnmr@ use in place of Euclidean and cosine distances. */
    const struct dml_distance_source *euclidean_distances, *cosine_distances;
};

/* What is resampled for a bootstrap interval (Efron 1979). */
enum dml_interval { DML_INTERVAL_NONE, DML_INTERVAL_QUERIES, DML_INTERVAL_CLASSES };

struct dml_per_query;
struct dml_rank_counter;

/* All zero: nothing beyond the values. */
struct dml_evaluation_options {
    /* Called now and then with the share done, 0..1, and what is being done, always on the thread
     * that called dml_evaluate; may be NULL. */
    void (*progress)(void *data, double share, const char *what);
    void *data;

    /* > 0: this many queries are drawn at random, without replacement, and evaluated against the
     * whole gallery. What is computed from ranks is then an estimate, given with its interval: that
     * of `interval`, or, without one, that of the sampling error. If there are fewer queries, all
     * are evaluated. */
    size_t sample;

    enum dml_interval interval; /* of metrics that are means or ratios of sums over queries */
    double level;               /* of the interval, 0..1; 0: 0.95 */
    size_t resamples;           /* 0: 1000 */
    uint64_t seed;              /* of the sample and the bootstrap */

    const struct dml_rank_counter *counter; /* dml's own: a GPU that counts ranks; NULL: none */
    struct dml_per_query *per_query;        /* NULL, or filled; free with dml_per_query_free */
    struct dml_query_counts *counts;        /* NULL, or filled */
};

struct dml_query_counts {
    size_t queries;    /* evaluated */
    size_t population; /* those that they were drawn from */
    size_t lone;       /* evaluated, but without a positive */
    size_t first_lone; /* the first of those: index of the sample */
};

/* What ranks say about single queries, in order of the samples. Where a query has no positive,
 * first_hit is 0 and the others are NaN. */
struct dml_per_query {
    size_t queries;
    uint32_t *query, *positives; /* (queries) index of the sample; how many it has */
    struct dml_query_scores {
        uint32_t *first_hit; /* (queries) rank of the nearest positive */
        double *ap;          /* average precision over all ranks, divided by the positives */
        double *ap_at_r;     /* the same over the first R, R the number of positives */
        double *r_precision; /* share of positives among the first R */
    } euclidean, cosine;     /* NULL where no metric asked for that space; Euclidean if none did */
};
DML_API void dml_per_query_free(struct dml_per_query *per_query);

/* One metric's result. `value` is NaN where the metric is undefined for the set (dists@inter of a
 * single class). `vector` holds the values that it comes from, where it has them (the spectrum of
 * rho_spectrum@0), else NULL; freed by dml_metric_values_free. */
struct dml_metric_value {
    char name[56]; /* as asked for: "e_recall@1" */
    double value;
    double low, high; /* its interval; NaN where there is none */
    float *vector;
    size_t vector_count;
};

/* DML_OK when every name is a metric with a number that it allows; otherwise DML_ERROR_USAGE names
 * the first that is not. */
DML_API enum dml_status dml_metrics_check(const char *const *names, size_t count);

/* As dml_metrics_check, and DML_ERROR_INPUT where a set of this size, with these labels and masks,
 * does not allow one of them, as dml_evaluate would say; set->embeddings may be NULL. */
DML_API enum dml_status dml_metrics_check_set(const struct dml_evaluation_set *set,
                                              const char *const *names, size_t count);

/* Which values of a metric are better: larger ones (recall), smaller ones (an error rate), or
 * neither (a distance). */
enum dml_metric_order { DML_METRIC_UNORDERED, DML_METRIC_LARGER, DML_METRIC_SMALLER };

/* That of a metric by its full name; DML_METRIC_UNORDERED for an unknown one. */
DML_API enum dml_metric_order dml_metric_order_of(const char *name);

/* Whether a value is better than the best so far, NaN for none yet; a value that is not finite
 * never is. Without an order the smaller one counts as better. */
DML_API bool dml_metric_better(enum dml_metric_order order, double value, double best);

/* Computes all metrics together; what they share is computed once, and nothing that is not asked
 * for. Memory does not grow with n^2. The results are the same to the last bit whatever the number
 * of threads.
 *
 * Ranks are exact: distances are compared as if all were computed in double precision; equal ones
 * rank in the order of the samples' indices.
 *
 * DML_ERROR_INPUT: nothing to evaluate, embeddings that are not finite, a zero vector where a
 * cosine is asked for, a set with masks or groups where no query has a positive, a k beyond the
 * set; DML_ERROR_USAGE: as dml_metrics_check. On failure `out` needs no freeing. */
DML_API enum dml_status dml_evaluate(const struct dml_evaluation_set *set, const char *const *names,
                                     size_t count, const struct dml_evaluation_options *options,
                                     struct dml_metric_value *out);
DML_API void dml_metric_values_free(struct dml_metric_value *values, size_t count);

/* The metrics that the study computes when none are named; NULL-terminated. */
DML_API extern const char *const dml_default_metrics[];

/* --- For custom metrics ------------------------------------------------------------------- */

/* What a metric needs the evaluator to prepare. */
enum {
    DML_NEEDS_RANKS_EUCLIDEAN = 1u << 0, /* inputs->euclidean.ranks */
    DML_NEEDS_RANKS_COSINE = 1u << 1,
    DML_NEEDS_CLUSTERS_EUCLIDEAN = 1u << 2, /* inputs->euclidean.clusters */
    DML_NEEDS_CLUSTERS_COSINE = 1u << 3,    /* k-means of the normalised embeddings */
    DML_NEEDS_INVERSE_NORMS = 1u << 4,
    DML_NEEDS_NORMALISED = 1u << 5,
    DML_NEEDS_CLASS_MEANS = 1u << 6,
    DML_NEEDS_SINGULAR_VALUES = 1u << 7,
};

/* Ranks of the positives of all queries. A query's positives are the gallery samples of its class
 * except itself and those of its group; the first is its nearest. Rank 1 is the nearest of all
 * gallery samples that it sees (the query itself never counts). */
struct dml_ranks {
    size_t queries;
    bool plain;                /* without masks and groups: a query without positives fails */
    const uint32_t *query;     /* (queries) index of the sample */
    const uint32_t *positives; /* (queries) how many positives it has */
    const size_t *start;       /* (queries + 1) where its ranks begin in `rank`; as many as metrics
                                  look at, not all of its positives */
    const uint32_t *rank;      /* ascending; 0 from the first that no metric looks at */
};

struct dml_clusters {
    size_t count;            /* as many as the set has classes */
    const int32_t *assigned; /* (n) 0..count-1 */
    double objective;        /* sum of squared distances to the centroids */
};

struct dml_space {
    const struct dml_ranks *ranks;
    const struct dml_clusters *clusters;
};

/* What the evaluator prepared. Members that no metric asked for are NULL. */
struct dml_metric_inputs {
    const struct dml_evaluation_set *set;
    const uint8_t *asked;      /* (n) queries that are evaluated: those drawn, or set->is_query */
    size_t queries, gallery;   /* how many samples are queries, and how many are in the gallery */
    size_t classes;            /* number of distinct labels */
    const int32_t *class_of;   /* (n) 0..classes-1, in the order of the labels' values */
    const size_t *class_start; /* (classes + 1) into by_class */
    const uint32_t *by_class;  /* (n) samples ordered by class, then index */
    struct dml_space euclidean, cosine;
    const double *inverse_norms;       /* (n) 1 / ||e_i|| */
    const double *query_inverse_norms; /* (n) of set->query_embeddings, else NULL */
    const float *normalised;           /* (n, dim) */
    const double *class_means;         /* (classes, dim) of the embeddings as given */
    const double *singular;            /* (singular_count) of the embeddings, descending */
    size_t singular_count;             /* min(n, dim) */
};

/* A metric or a family of them ("e_recall@k"), as a method that plugins can add. */
struct dml_metric {
    struct dml_method method; /* name: "e_recall@" for a family with a number after the @ */
    unsigned needs;           /* DML_NEEDS_*, or'ed */
    enum dml_metric_order order;
    long least_k; /* smallest k of a family; LONG_MIN: any */

    /* Whether `k` is within the set, asked before anything is computed (of the inputs, only the set
     * and the counts are filled in). NULL: it always is. */
    enum dml_status (*check)(const struct dml_metric_inputs *inputs, long k);

    /* For a metric that needs ranks: the largest rank it looks at, for a query with that many
     * positives (>= 1). The smaller, the faster. NULL: all of them. */
    size_t (*deepest)(long k, size_t positives);
    bool nearest_only; /* it looks at the rank of the nearest positive alone */

    /* `k` is the number after the @, 0 for a metric without one. Sets out->value (and may set
     * vector and vector_count); the name is set already. */
    enum dml_status (*compute)(const struct dml_metric_inputs *inputs, long k,
                               struct dml_metric_value *out);

    /* In place of `compute`, for a mean over queries: the value of query number q of the ranks that
     * it needs (one of DML_NEEDS_RANKS_*), NaN where the query is left out. Such a metric has
     * intervals. */
    double (*of_query)(const struct dml_ranks *ranks, long k, size_t q);
    bool over_classes; /* the mean over classes of the mean over their queries */

    /* In place of `compute`, for a family whose number is a share, 0 < at < 1 ("fnmr@0.001"). */
    enum dml_status (*compute_at)(const struct dml_metric_inputs *inputs, double at,
                                  struct dml_metric_value *out);

    /* In place of compute_at, where the value is a ratio of two sums over queries: for each sample
     * that is asked, how many were counted out of how many; both (n) start at 0, and a query with 0
     * of 0 is left out. Such a metric has intervals, in which everything else it found is held
     * fixed. */
    enum dml_status (*ratio_at)(const struct dml_metric_inputs *inputs, double at, double *counted,
                                double *of);
};

#ifdef __cplusplus
}
#endif
#endif
