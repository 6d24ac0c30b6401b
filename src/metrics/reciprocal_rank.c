/* mrr, c_mrr: the mean of 1 / rank of the nearest positive; mrr_per_class, c_mrr_per_class: its
 * mean over classes. */
#include "dml/metrics.h"

#include <math.h>

static double reciprocal(const struct dml_ranks *ranks, long k, size_t q) {
    (void)k;
    return ranks->positives[q] ? 1.0 / ranks->rank[ranks->start[q]] : NAN;
}

static const char paper[] = "Voorhees 1999, The TREC-8 question answering track report";

#define METRIC(id, spelt, text, space, classes)                                                    \
    const struct dml_metric dml_metric_##id = {                                                    \
        .method = {.name = spelt, .summary = text, .paper = paper},                                \
        .needs = space,                                                                            \
        .order = DML_METRIC_LARGER,                                                                \
        .nearest_only = true,                                                                      \
        .of_query = reciprocal,                                                                    \
        .over_classes = classes,                                                                   \
    }

METRIC(e_mrr, "mrr", "Mean reciprocal rank of the nearest sample of the class (Euclidean)",
       DML_NEEDS_RANKS_EUCLIDEAN, false);
METRIC(c_mrr, "c_mrr", "Mean reciprocal rank of the nearest sample of the class (cosine)",
       DML_NEEDS_RANKS_COSINE, false);
METRIC(e_mrr_per_class, "mrr_per_class", "Mean over classes of mrr (Euclidean)",
       DML_NEEDS_RANKS_EUCLIDEAN, true);
METRIC(c_mrr_per_class, "c_mrr_per_class", "Mean over classes of mrr (cosine)",
       DML_NEEDS_RANKS_COSINE, true);
