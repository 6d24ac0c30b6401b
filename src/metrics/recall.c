/* e_recall@k, c_recall@k: the share of queries with a sample of their class among the k nearest. */
#include "metrics/families.h"

static enum dml_status check(const struct dml_metric_inputs *in, long k) {
    bool alone = !in->set->is_query && !in->set->is_gallery;
    size_t others = in->gallery - (alone ? 1 : 0);
    if ((size_t)k > others)
        return dml_fail(DML_ERROR_INPUT,
                        "recall@%ld: k is beyond the set, where a query has %zu "
                        "others to find",
                        k, others);
    return DML_OK;
}

static size_t deepest(long k, size_t positives) {
    (void)positives;
    return (size_t)k;
}

static double recall(const struct dml_ranks *ranks, long k) {
    size_t hits = 0;
    for (size_t q = 0; q < ranks->queries; q++) {
        uint32_t nearest = ranks->positives[q] ? ranks->rank[ranks->start[q]] : 0;
        hits += nearest > 0 && nearest <= (size_t)k;
    }
    return (double)hits / (double)ranks->queries;
}

static enum dml_status euclidean(const struct dml_metric_inputs *in, long k,
                                 struct dml_metric_value *out) {
    out->value = recall(in->euclidean.ranks, k);
    return DML_OK;
}

static enum dml_status cosine(const struct dml_metric_inputs *in, long k,
                              struct dml_metric_value *out) {
    out->value = recall(in->cosine.ranks, k);
    return DML_OK;
}

static const char paper[] = "Jegou et al. 2011, Product quantization for nearest neighbor search";

const struct dml_metric dml_metric_e_recall = {
    .method = {.name = "e_recall@",
               .summary = "Queries with a sample of their class among the k nearest (Euclidean)",
               .paper = paper},
    .needs = DML_NEEDS_RANKS_EUCLIDEAN,
    .larger_is_better = true,
    .least_k = 1,
    .check = check,
    .deepest = deepest,
    .nearest_only = true,
    .compute = euclidean,
};

const struct dml_metric dml_metric_c_recall = {
    .method = {.name = "c_recall@",
               .summary = "Queries with a sample of their class among the k nearest (cosine)",
               .paper = paper},
    .needs = DML_NEEDS_RANKS_COSINE,
    .larger_is_better = true,
    .least_k = 1,
    .check = check,
    .deepest = deepest,
    .nearest_only = true,
    .compute = cosine,
};
