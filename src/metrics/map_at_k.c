/* map@k, c_map@k: average precision over the k nearest, divided by the number of hits among them; 0
 * if there are none. A k beyond the gallery counts as all of it. */
#include "metrics/hits.h"

static double average_precision(const struct dml_ranks *ranks, long k, size_t q) {
    if (ranks->positives[q] == 0)
        return NAN;
    size_t hits = dml_hits_within(ranks, q, (size_t)k);
    return hits ? dml_sum_precisions(ranks, q, (size_t)k) / (double)hits : 0;
}

static const char paper[] = "Shabanov et al. 2023, OML: Open metric learning, a library";

#define METRIC(id, spelt, text, space)                                                             \
    const struct dml_metric dml_metric_##id = {                                                    \
        .method = {.name = spelt, .summary = text, .paper = paper},                                \
        .needs = space,                                                                            \
        .order = DML_METRIC_LARGER,                                                                \
        .least_k = 1,                                                                              \
        .deepest = dml_deepest_k,                                                                  \
        .of_query = average_precision,                                                             \
    }

METRIC(e_map_at_k, "map@", "Average precision of the k nearest over the hits there (Euclidean)",
       DML_NEEDS_RANKS_EUCLIDEAN);
METRIC(c_map_at_k, "c_map@", "Average precision of the k nearest over the hits there (cosine)",
       DML_NEEDS_RANKS_COSINE);
