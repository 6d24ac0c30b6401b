/* ami, c_ami: adjusted mutual information of the classes and nmi's clustering (Vinh 2010): mutual
 * information minus what clusters of these sizes have by chance, over the arithmetic mean of the
 * two entropies minus the same. */
#include "base/memory.h"
#include "dml/metrics.h"
#include "metrics/clustering.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

/* Different sizes, and how many classes (or clusters) have each. */
struct sizes {
    size_t count;
    double *size, *many;
};

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Takes ownership of size (count), which is 0 for empty ones. */
static enum dml_status group_sizes(double *size, size_t count, struct sizes *out) {
    *out = (struct sizes){0, size, dml_alloc(count, sizeof *out->many)};
    if (!out->many)
        return DML_ERROR_MEMORY;
    qsort(size, count, sizeof *size, ascending);
    for (size_t i = 0; i < count; i++) {
        if (size[i] == 0)
            continue;
        if (out->count == 0 || size[out->count - 1] != size[i]) {
            size[out->count] = size[i];
            out->many[out->count++] = 0;
        }
        out->many[out->count - 1]++;
    }
    return DML_OK;
}

/* What a class of a samples and a cluster of b, drawn at random from n, contribute to the expected
 * mutual information: over the samples k that they may share, the probability (hypergeometric)
 * times k/n log(n k / (a b)). log_factorial (n + 1). */
static double expected_term(double a, double b, double n, const double *log_factorial) {
    double sum = 0, least = a + b > n ? a + b - n : 1, most = a < b ? a : b;
#define F(x) log_factorial[(size_t)(x)]
    double fixed = F(a) + F(b) + F(n - a) + F(n - b) - F(n);
    for (double k = least < 1 ? 1 : least; k <= most; k++) {
        double log_probability = fixed - F(k) - F(a - k) - F(b - k) - F(n - a - b + k);
        sum += k / n * log(n * k / (a * b)) * exp(log_probability);
    }
#undef F
    return sum;
}

static enum dml_status expected_information(const struct sizes *classes,
                                            const struct sizes *clusters, size_t n, double *out) {
    double *log_factorial = dml_alloc(n + 1, sizeof *log_factorial), sum = 0, carry = 0;
    if (!log_factorial)
        return DML_ERROR_MEMORY;
    for (size_t k = 2; k <= n; k++) { /* Kahan summation: differences of these matter */
        double term = log((double)k) - carry, next = sum + term;
        carry = (next - sum) - term;
        log_factorial[k] = sum = next;
    }
    double total = 0;
    for (size_t i = 0; i < classes->count; i++)
        for (size_t j = 0; j < clusters->count; j++)
            total += classes->many[i] * clusters->many[j] *
                     expected_term(classes->size[i], clusters->size[j], (double)n, log_factorial);
    free(log_factorial);
    *out = total;
    return DML_OK;
}

enum dml_status dml_clustering_adjusted(const struct dml_metric_inputs *in, const int32_t *assigned,
                                        size_t clusters, double *out) {
    struct dml_clustering_scores scores;
    struct sizes by_class = {0}, by_cluster = {0};
    double *class_sizes = dml_alloc(in->classes, sizeof *class_sizes), expected = 0;
    double *cluster_sizes = dml_alloc(clusters, sizeof *cluster_sizes);
    enum dml_status status = class_sizes && cluster_sizes ? DML_OK : DML_ERROR_MEMORY;
    if (!status)
        status = dml_clustering_compare(in, assigned, clusters, &scores);
    for (size_t c = 0; !status && c < in->classes; c++)
        class_sizes[c] = (double)(in->class_start[c + 1] - in->class_start[c]);
    for (size_t i = 0; !status && i < in->set->n; i++)
        cluster_sizes[assigned[i]]++;
    if (!status)
        status = group_sizes(class_sizes, in->classes, &by_class);
    if (!status)
        status = group_sizes(cluster_sizes, clusters, &by_cluster);
    if (!status)
        status = expected_information(&by_class, &by_cluster, in->set->n, &expected);
    if (!status) {
        double over = scores.mean_entropy - expected;
        over = over < 0 ? fmin(over, -DBL_EPSILON) : fmax(over, DBL_EPSILON);
        bool trivial = in->classes == 1 && by_cluster.count == 1 && by_cluster.many[0] == 1;
        *out = trivial ? 1 : (scores.information - expected) / over;
    }
    free(class_sizes);
    free(cluster_sizes);
    free(by_class.many);
    free(by_cluster.many);
    return status;
}

static enum dml_status euclidean(const struct dml_metric_inputs *in, long k,
                                 struct dml_metric_value *out) {
    (void)k;
    const struct dml_clusters *clusters = in->euclidean.clusters;
    return dml_clustering_adjusted(in, clusters->assigned, clusters->count, &out->value);
}

static enum dml_status cosine(const struct dml_metric_inputs *in, long k,
                              struct dml_metric_value *out) {
    (void)k;
    const struct dml_clusters *clusters = in->cosine.clusters;
    return dml_clustering_adjusted(in, clusters->assigned, clusters->count, &out->value);
}

static const char paper[] =
    "Vinh et al. 2010, Information theoretic measures for clusterings comparison";

const struct dml_metric dml_metric_e_ami = {
    .method = {.name = "ami",
               .summary = "Adjusted mutual information of classes and nmi's clusters",
               .paper = paper},
    .needs = DML_NEEDS_CLUSTERS_EUCLIDEAN,
    .order = DML_METRIC_LARGER,
    .compute = euclidean,
};

const struct dml_metric dml_metric_c_ami = {
    .method = {.name = "c_ami", .summary = "AMI of the normalised embeddings", .paper = paper},
    .needs = DML_NEEDS_CLUSTERS_COSINE,
    .order = DML_METRIC_LARGER,
    .compute = cosine,
};
