/* nmi, f1 and their c_ variants: how well k-means with as many clusters as classes recovers the
 * classes, with the random draws of faiss by default (math/kmeans.h). */
#include "metrics/clustering.h"

#include "base/memory.h"
#include "dml/metrics.h"

#include <math.h>
#include <stdlib.h>

static int by_cluster(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static double pairs(double count) {
    return count * (count - 1) / 2;
}

/* count log(count / n) / n, the term of an entropy up to its sign. */
static double entropy_term(double count, double n) {
    return count > 0 ? count / n * log(count / n) : 0;
}

/* Sums over the cells (class, cluster) that hold `common` samples: the joint entropy and the
 * pairs that share both. */
struct joint {
    double entropy, pairs;
};

static void add_class(const struct dml_metric_inputs *in, size_t c, const int32_t *assigned,
                      int32_t *found, struct joint *joint) {
    size_t size = in->class_start[c + 1] - in->class_start[c];
    for (size_t r = 0; r < size; r++)
        found[r] = assigned[in->by_class[in->class_start[c] + r]];
    qsort(found, size, sizeof *found, by_cluster);
    for (size_t r = 0, end; r < size; r = end) {
        for (end = r + 1; end < size && found[end] == found[r];)
            end++;
        joint->entropy -= entropy_term((double)(end - r), (double)in->set->n);
        joint->pairs += pairs((double)(end - r));
    }
}

enum dml_status dml_clustering_compare(const struct dml_metric_inputs *in, const int32_t *assigned,
                                       size_t clusters, struct dml_clustering_scores *out) {
    size_t n = in->set->n, used = 0;
    int32_t *found = dml_alloc(n, sizeof *found);
    double *sizes = dml_alloc(clusters, sizeof *sizes);
    if (!found || !sizes) {
        free(found);
        free(sizes);
        return DML_ERROR_MEMORY;
    }
    struct joint joint = {0, 0};
    double class_entropy = 0, cluster_entropy = 0, class_pairs = 0, cluster_pairs = 0;
    for (size_t i = 0; i < n; i++)
        sizes[assigned[i]]++;
    for (size_t c = 0; c < clusters; c++) {
        cluster_entropy -= entropy_term(sizes[c], (double)n);
        cluster_pairs += pairs(sizes[c]);
        used += sizes[c] > 0;
    }
    for (size_t c = 0; c < in->classes; c++) {
        double size = (double)(in->class_start[c + 1] - in->class_start[c]);
        class_entropy -= entropy_term(size, (double)n);
        class_pairs += pairs(size);
        add_class(in, c, assigned, found, &joint);
    }
    double information = class_entropy + cluster_entropy - joint.entropy;
    double mean = (class_entropy + cluster_entropy) / 2;
    out->nmi = in->classes == 1 && used == 1 ? 1 : fmax(information, 0) / mean;
    out->information = information;
    out->mean_entropy = mean;
    /* 2PR / (P + R) with P = TP / class pairs and R = TP / cluster pairs */
    double all = class_pairs + cluster_pairs;
    out->f1 = all > 0 ? 2 * joint.pairs / all : NAN;
    free(found);
    free(sizes);
    return DML_OK;
}

static enum dml_status nmi(const struct dml_metric_inputs *in, const struct dml_clusters *clusters,
                           struct dml_metric_value *out) {
    struct dml_clustering_scores scores = {0};
    enum dml_status status =
        dml_clustering_compare(in, clusters->assigned, clusters->count, &scores);
    out->value = scores.nmi;
    return status;
}

static enum dml_status f1(const struct dml_metric_inputs *in, const struct dml_clusters *clusters,
                          struct dml_metric_value *out) {
    struct dml_clustering_scores scores = {0};
    enum dml_status status =
        dml_clustering_compare(in, clusters->assigned, clusters->count, &scores);
    out->value = scores.f1;
    return status;
}

#define METRIC(id, spelt, text, source, space, need, function)                                     \
    static enum dml_status id(const struct dml_metric_inputs *in, long k,                          \
                              struct dml_metric_value *out) {                                      \
        (void)k;                                                                                   \
        return function(in, in->space.clusters, out);                                              \
    }                                                                                              \
    const struct dml_metric dml_metric_##id = {                                                    \
        .method = {.name = spelt, .summary = text, .paper = source},                               \
        .needs = need,                                                                             \
        .order = DML_METRIC_LARGER,                                                                \
        .compute = id,                                                                             \
    }

static const char mcdaid[] =
    "McDaid et al. 2011, Normalized mutual information to evaluate overlapping communities";
static const char song[] =
    "Song et al. 2016, Deep metric learning via lifted structured feature embedding";

METRIC(e_nmi, "nmi", "Normalised mutual information of classes and clusters of faiss's k-means",
       mcdaid, euclidean, DML_NEEDS_CLUSTERS_EUCLIDEAN, nmi);
METRIC(e_f1, "f1", "Pairwise F1 of classes and clusters of faiss's k-means", song, euclidean,
       DML_NEEDS_CLUSTERS_EUCLIDEAN, f1);
METRIC(c_nmi, "c_nmi", "NMI of the normalised embeddings", mcdaid, cosine,
       DML_NEEDS_CLUSTERS_COSINE, nmi);
METRIC(c_f1, "c_f1", "F1 of the normalised embeddings", song, cosine, DML_NEEDS_CLUSTERS_COSINE,
       f1);
