/* precision@k, c_precision@k: hits among the k nearest over min(k, R), R being the number of
 * positives, so that a perfect ranking scores 1. A k beyond the gallery counts as all of it. */
#include "metrics/hits.h"

static double precision(const struct dml_ranks *ranks, long k, size_t q) {
    size_t most = ranks->positives[q] < (size_t)k ? ranks->positives[q] : (size_t)k;
    return most ? (double)dml_hits_within(ranks, q, (size_t)k) / (double)most : NAN;
}

static const char paper[] = "Shabanov et al. 2023, OML: Open metric learning, a library";

#define METRIC(id, spelt, text, space)                                                             \
    const struct dml_metric dml_metric_##id = {                                                    \
        .method = {.name = spelt, .summary = text, .paper = paper},                                \
        .needs = space,                                                                            \
        .order = DML_METRIC_LARGER,                                                                \
        .least_k = 1,                                                                              \
        .deepest = dml_deepest_k,                                                                  \
        .of_query = precision,                                                                     \
    }

METRIC(e_precision, "precision@", "Hits among the k nearest over min(k, R) (Euclidean)",
       DML_NEEDS_RANKS_EUCLIDEAN);
METRIC(c_precision, "c_precision@", "Hits among the k nearest over min(k, R) (cosine)",
       DML_NEEDS_RANKS_COSINE);
