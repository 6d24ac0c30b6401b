/* Means of average precisions, from the ranks of the positives.
 *
 * freq(q) counts the query's class, the query included: its positives plus one. In a set with a
 * separate gallery the positives are the gallery's samples of the class, so that freq(q) is their
 * number plus one there, too.
 *
 * mAP_per_class@R is the mean over classes of their queries' mAP@R. */
#include "metrics/hits.h"

/* The study's: divided by freq, over all queries. */
static double over_freq(const struct dml_ranks *ranks, size_t q, size_t limit) {
    size_t positives = ranks->positives[q];
    if (positives == 0)
        return dml_failed_query(ranks);
    return dml_sum_precisions(ranks, q, limit) / (double)(positives + 1);
}

static double map(const struct dml_ranks *ranks, long k, size_t q) {
    (void)k;
    return over_freq(ranks, q, SIZE_MAX);
}

static double map_1000(const struct dml_ranks *ranks, long k, size_t q) {
    (void)k;
    return over_freq(ranks, q, 1000);
}

static double map_lim(const struct dml_ranks *ranks, long k, size_t q) {
    (void)k;
    return over_freq(ranks, q, 1023);
}

static double map_c(const struct dml_ranks *ranks, long k, size_t q) {
    (void)k;
    return over_freq(ranks, q, ranks->positives[q] + 1);
}

/* Musgrave's: R = freq - 1 positives, queries without one left out. */
static double map_at_r(const struct dml_ranks *ranks, long k, size_t q) {
    (void)k;
    size_t r = ranks->positives[q];
    return r ? dml_sum_precisions(ranks, q, r) / (double)r : NAN;
}

static double r_precision(const struct dml_ranks *ranks, long k, size_t q) {
    (void)k;
    size_t r = ranks->positives[q];
    return r ? (double)dml_hits_within(ranks, q, r) / (double)r : NAN;
}

static size_t at_1000(long k, size_t positives) {
    (void)k, (void)positives;
    return 1000;
}

static size_t at_1023(long k, size_t positives) {
    (void)k, (void)positives;
    return 1023;
}

static size_t at_freq(long k, size_t positives) {
    (void)k;
    return positives + 1;
}

static const char study[] = "Roth et al. 2020, Revisiting training strategies and generalization "
                            "performance in deep metric learning";
static const char musgrave[] = "Musgrave et al. 2020, A metric learning reality check";

#define METRIC(id, spelt, text, source, space, depth, function, classes)                           \
    const struct dml_metric dml_metric_##id = {                                                    \
        .method = {.name = spelt, .summary = text, .paper = source},                               \
        .needs = space,                                                                            \
        .order = DML_METRIC_LARGER,                                                                \
        .deepest = depth,                                                                          \
        .of_query = function,                                                                      \
        .over_classes = classes,                                                                   \
    }

METRIC(e_map, "mAP", "Mean average precision over all ranks (Euclidean)", study,
       DML_NEEDS_RANKS_EUCLIDEAN, NULL, map, false);
METRIC(e_map_1000, "mAP_1000", "Mean average precision over the first 1000 (Euclidean)", study,
       DML_NEEDS_RANKS_EUCLIDEAN, at_1000, map_1000, false);
METRIC(e_map_lim, "mAP_lim", "Mean average precision over the first 1023 (Euclidean)", study,
       DML_NEEDS_RANKS_EUCLIDEAN, at_1023, map_lim, false);
METRIC(e_map_c, "mAP_c", "Mean average precision over as many as the class has (Euclidean)", study,
       DML_NEEDS_RANKS_EUCLIDEAN, at_freq, map_c, false);
METRIC(e_map_at_r, "mAP@R", "Mean average precision at R, Musgrave's definition (Euclidean)",
       musgrave, DML_NEEDS_RANKS_EUCLIDEAN, dml_deepest_r, map_at_r, false);
METRIC(e_r_precision, "r_precision", "Share of the class among the R nearest (Euclidean)", musgrave,
       DML_NEEDS_RANKS_EUCLIDEAN, dml_deepest_r, r_precision, false);
METRIC(c_map, "c_mAP", "Mean average precision over all ranks (cosine)", study,
       DML_NEEDS_RANKS_COSINE, NULL, map, false);
METRIC(c_map_1000, "c_mAP_1000", "Mean average precision over the first 1000 (cosine)", study,
       DML_NEEDS_RANKS_COSINE, at_1000, map_1000, false);
METRIC(c_map_lim, "c_mAP_lim", "Mean average precision over the first 1023 (cosine)", study,
       DML_NEEDS_RANKS_COSINE, at_1023, map_lim, false);
METRIC(c_map_c, "c_mAP_c", "Mean average precision over as many as the class has (cosine)", study,
       DML_NEEDS_RANKS_COSINE, at_freq, map_c, false);
METRIC(c_map_at_r, "c_mAP@R", "Mean average precision at R, Musgrave's definition (cosine)",
       musgrave, DML_NEEDS_RANKS_COSINE, dml_deepest_r, map_at_r, false);
METRIC(c_r_precision, "c_r_precision", "Share of the class among the R nearest (cosine)", musgrave,
       DML_NEEDS_RANKS_COSINE, dml_deepest_r, r_precision, false);
METRIC(e_map_per_class, "mAP_per_class@R", "Mean over classes of mAP@R (Euclidean)", musgrave,
       DML_NEEDS_RANKS_EUCLIDEAN, dml_deepest_r, map_at_r, true);
METRIC(c_map_per_class, "c_mAP_per_class@R", "Mean over classes of mAP@R (cosine)", musgrave,
       DML_NEEDS_RANKS_COSINE, dml_deepest_r, map_at_r, true);
