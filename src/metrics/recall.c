/* e_recall@k, c_recall@k: the share of queries with a sample of their class among the k nearest;
 * e_recall_per_class@k, c_recall_per_class@k: the mean over classes of their queries' share. */
#include "metrics/hits.h"

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

static double recall(const struct dml_ranks *ranks, long k, size_t q) {
    if (ranks->positives[q] == 0)
        return dml_failed_query(ranks);
    return dml_hits_within(ranks, q, (size_t)k) > 0;
}

static const char jegou[] = "Jegou et al. 2011, Product quantization for nearest neighbor search";
static const char musgrave[] = "Musgrave et al. 2020, A metric learning reality check";

#define METRIC(id, spelt, text, source, space, function, classes)                                  \
    const struct dml_metric dml_metric_##id = {                                                    \
        .method = {.name = spelt, .summary = text, .paper = source},                               \
        .needs = space,                                                                            \
        .order = DML_METRIC_LARGER,                                                                \
        .least_k = 1,                                                                              \
        .check = check,                                                                            \
        .deepest = dml_deepest_k,                                                                  \
        .nearest_only = true,                                                                      \
        .of_query = function,                                                                      \
        .over_classes = classes,                                                                   \
    }

METRIC(e_recall, "e_recall@",
       "Queries with a sample of their class among the k nearest (Euclidean)", jegou,
       DML_NEEDS_RANKS_EUCLIDEAN, recall, false);
METRIC(c_recall, "c_recall@", "Queries with a sample of their class among the k nearest (cosine)",
       jegou, DML_NEEDS_RANKS_COSINE, recall, false);
METRIC(e_recall_per_class, "e_recall_per_class@", "Mean over classes of their recall (Euclidean)",
       musgrave, DML_NEEDS_RANKS_EUCLIDEAN, recall, true);
METRIC(c_recall_per_class, "c_recall_per_class@", "Mean over classes of their recall (cosine)",
       musgrave, DML_NEEDS_RANKS_COSINE, recall, true);
