#ifndef DML_METRICS_H
#define DML_METRICS_H

#include "dml/method.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A set to evaluate. Every query looks for samples of its class among the gallery, never for
 * itself (by index). Without masks every sample is both. */
struct dml_evaluation_set {
    size_t n, dim;
    const float *embeddings;   /* (n, dim), row-major, finite */
    const int32_t *labels;     /* (n), any values */
    const uint8_t *is_query;   /* (n) or NULL */
    const uint8_t *is_gallery; /* (n) or NULL */
};

struct dml_evaluation_options {
    uint64_t seed; /* of k-means */
    /* Called now and then with the share done, 0..1, and what is being done; may be NULL. */
    void (*progress)(void *data, double share, const char *what);
    void *data;
};

/* One metric's result. `vector` holds the values behind it where it has them (the spectrum of
 * rho_spectrum@0), else NULL; freed by dml_metric_values_free. */
struct dml_metric_value {
    char name[56]; /* as asked for: "e_recall@1" */
    double value;
    float *vector;
    size_t vector_count;
};

/* DML_OK when every name is a metric; otherwise DML_ERROR_USAGE names the first that is not. */
enum dml_status dml_metrics_check(const char *const *names, size_t count);

/* Whether a larger value is better (recall) or there is no such order (a distance). */
bool dml_metric_larger_is_better(const char *name);

/* Computes all metrics together; what they share is computed once. Memory does not grow with
 * n^2. Reproducible for a seed, whatever the number of threads. */
enum dml_status dml_evaluate(const struct dml_evaluation_set *set, const char *const *names,
                             size_t count, const struct dml_evaluation_options *options,
                             struct dml_metric_value *out);
void dml_metric_values_free(struct dml_metric_value *values, size_t count);

/* A metric or a family of them ("e_recall@k"), as a method that plugins can add. `inputs` is what
 * the evaluator prepared; see src/metrics/evaluator.h for what can be asked for. */
struct dml_metric_inputs;
struct dml_metric {
    struct dml_method method; /* name: "e_recall@" for a family with a number behind the @ */
    unsigned needs;           /* DML_NEEDS_* */
    bool larger_is_better;
    /* `k` is the number behind the @, 0 for a metric without one. */
    enum dml_status (*compute)(const struct dml_metric_inputs *inputs, long k,
                               struct dml_metric_value *out);
};

#ifdef __cplusplus
}
#endif
#endif
