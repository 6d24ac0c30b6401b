/* Means of average precisions, from the ranks of the positives.
 *
 * freq(q) counts the query's class, the query included: its positives and one. In a set with a
 * separate gallery the positives are the gallery's samples of the class, so that freq(q) is their
 * number and one there, too. */
#include "metrics/families.h"

#include <math.h>

/* sum over hits at rank r <= limit of (hits up to r) / r. */
static double sum_precisions(const struct dml_ranks *ranks, size_t q, size_t limit) {
    double sum = 0;
    size_t first = ranks->start[q], count = ranks->start[q + 1] - first;
    for (size_t p = 0; p < count; p++) {
        uint32_t rank = ranks->rank[first + p];
        if (rank == 0 || rank > limit)
            break;
        sum += (double)(p + 1) / rank;
    }
    return sum;
}

static size_t count_hits(const struct dml_ranks *ranks, size_t q, size_t limit) {
    size_t first = ranks->start[q], count = ranks->start[q + 1] - first, hits = 0;
    while (hits < count && ranks->rank[first + hits] > 0 && ranks->rank[first + hits] <= limit)
        hits++;
    return hits;
}

/* The study's: divided by freq, over all queries. */
static double mean_over_freq(const struct dml_ranks *ranks, size_t (*deepest)(long, size_t)) {
    double sum = 0;
    for (size_t q = 0; q < ranks->queries; q++) {
        size_t positives = ranks->positives[q];
        size_t limit = deepest ? deepest(0, positives) : SIZE_MAX;
        sum += sum_precisions(ranks, q, limit) / (double)(positives + 1);
    }
    return sum / (double)ranks->queries;
}

/* Musgrave's: R = freq - 1 positives, queries without one left out; NaN when all are. */
static double mean_at_r(const struct dml_ranks *ranks, bool weighted) {
    double sum = 0;
    size_t counted = 0;
    for (size_t q = 0; q < ranks->queries; q++) {
        size_t r = ranks->positives[q];
        if (r == 0)
            continue;
        counted++;
        sum +=
            (weighted ? sum_precisions(ranks, q, r) : (double)count_hits(ranks, q, r)) / (double)r;
    }
    return counted ? sum / (double)counted : NAN;
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

static size_t at_r(long k, size_t positives) {
    (void)k;
    return positives;
}

#define MEAN_OVER_FREQ(id, space, depth)                                                           \
    static enum dml_status id(const struct dml_metric_inputs *in, long k,                          \
                              struct dml_metric_value *out) {                                      \
        (void)k;                                                                                   \
        out->value = mean_over_freq(in->space.ranks, depth);                                       \
        return DML_OK;                                                                             \
    }
#define MEAN_AT_R(id, space, weighted)                                                             \
    static enum dml_status id(const struct dml_metric_inputs *in, long k,                          \
                              struct dml_metric_value *out) {                                      \
        (void)k;                                                                                   \
        out->value = mean_at_r(in->space.ranks, weighted);                                         \
        return DML_OK;                                                                             \
    }

MEAN_OVER_FREQ(e_map, euclidean, NULL)
MEAN_OVER_FREQ(e_map_1000, euclidean, at_1000)
MEAN_OVER_FREQ(e_map_lim, euclidean, at_1023)
MEAN_OVER_FREQ(e_map_c, euclidean, at_freq)
MEAN_OVER_FREQ(c_map, cosine, NULL)
MEAN_OVER_FREQ(c_map_1000, cosine, at_1000)
MEAN_OVER_FREQ(c_map_lim, cosine, at_1023)
MEAN_OVER_FREQ(c_map_c, cosine, at_freq)
MEAN_AT_R(e_map_at_r, euclidean, true)
MEAN_AT_R(e_r_precision, euclidean, false)
MEAN_AT_R(c_map_at_r, cosine, true)
MEAN_AT_R(c_r_precision, cosine, false)

static const char study[] = "Roth et al. 2020, Revisiting training strategies and generalization "
                            "performance in deep metric learning";
static const char musgrave[] = "Musgrave et al. 2020, A metric learning reality check";

#define METRIC(id, spelt, text, source, space, depth, function)                                    \
    const struct dml_metric dml_metric_##id = {                                                    \
        .method = {.name = spelt, .summary = text, .paper = source},                               \
        .needs = space,                                                                            \
        .larger_is_better = true,                                                                  \
        .deepest = depth,                                                                          \
        .compute = function,                                                                       \
    }

METRIC(e_map, "mAP", "Mean average precision over all ranks (Euclidean)", study,
       DML_NEEDS_RANKS_EUCLIDEAN, NULL, e_map);
METRIC(e_map_1000, "mAP_1000", "Mean average precision over the first 1000 (Euclidean)", study,
       DML_NEEDS_RANKS_EUCLIDEAN, at_1000, e_map_1000);
METRIC(e_map_lim, "mAP_lim", "Mean average precision over the first 1023 (Euclidean)", study,
       DML_NEEDS_RANKS_EUCLIDEAN, at_1023, e_map_lim);
METRIC(e_map_c, "mAP_c", "Mean average precision over as many as the class has (Euclidean)", study,
       DML_NEEDS_RANKS_EUCLIDEAN, at_freq, e_map_c);
METRIC(e_map_at_r, "mAP@R", "Mean average precision at R, Musgrave's definition (Euclidean)",
       musgrave, DML_NEEDS_RANKS_EUCLIDEAN, at_r, e_map_at_r);
METRIC(e_r_precision, "r_precision", "Share of the class among the R nearest (Euclidean)", musgrave,
       DML_NEEDS_RANKS_EUCLIDEAN, at_r, e_r_precision);
METRIC(c_map, "c_mAP", "Mean average precision over all ranks (cosine)", study,
       DML_NEEDS_RANKS_COSINE, NULL, c_map);
METRIC(c_map_1000, "c_mAP_1000", "Mean average precision over the first 1000 (cosine)", study,
       DML_NEEDS_RANKS_COSINE, at_1000, c_map_1000);
METRIC(c_map_lim, "c_mAP_lim", "Mean average precision over the first 1023 (cosine)", study,
       DML_NEEDS_RANKS_COSINE, at_1023, c_map_lim);
METRIC(c_map_c, "c_mAP_c", "Mean average precision over as many as the class has (cosine)", study,
       DML_NEEDS_RANKS_COSINE, at_freq, c_map_c);
METRIC(c_map_at_r, "c_mAP@R", "Mean average precision at R, Musgrave's definition (cosine)",
       musgrave, DML_NEEDS_RANKS_COSINE, at_r, c_map_at_r);
METRIC(c_r_precision, "c_r_precision", "Share of the class among the R nearest (cosine)", musgrave,
       DML_NEEDS_RANKS_COSINE, at_r, c_r_precision);
