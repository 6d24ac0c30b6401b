/* fnmr@f, c_fnmr@f: the false non-match rate at a false match rate of f. T is the f-quantile of the
 * distances between queries and gallery samples of other classes, interpolated linearly between
 * order statistics; the value is the share of distances within classes that are at least T. Smaller
 * is better.
 *
 * Intervals are those of the share at this T, which is held fixed: queries are resampled with all
 * their pairs (Bolle, Ratha, Pankanti 2004, "Error analysis of pattern recognition systems - the
 * subsets bootstrap"). */
#include "dml/metrics.h"
#include "metrics/pairs.h"

#include <math.h>

static enum dml_status rate(const struct dml_metric_inputs *in, bool cosine, double f, double *far,
                            double *count) {
    struct dml_pairs pairs;
    enum dml_status status = dml_pairs_open(in, cosine, &pairs);
    if (status)
        return status;
    if (pairs.negatives > 0) {
        double at = f * (double)(pairs.negatives - 1), whole = floor(at), keys[2];
        status = dml_pairs_order(&pairs, (uint64_t)whole, keys);
        if (!status) {
            double low = dml_pairs_distance(&pairs, keys[0]);
            double threshold = low + (dml_pairs_distance(&pairs, keys[1]) - low) * (at - whole);
            status = dml_pairs_count(&pairs, threshold, count, far);
        }
    }
    dml_pairs_close(&pairs);
    return status;
}

static enum dml_status euclidean(const struct dml_metric_inputs *in, double f, double *far,
                                 double *count) {
    return rate(in, false, f, far, count);
}

static enum dml_status cosine(const struct dml_metric_inputs *in, double f, double *far,
                              double *count) {
    return rate(in, true, f, far, count);
}

static const char paper[] = "ISO/IEC 19795-1, Biometric performance testing and reporting";

const struct dml_metric dml_metric_e_fnmr = {
    .method = {.name = "fnmr@",
               .summary = "False non-match rate at a false match rate of f (Euclidean)",
               .paper = paper},
    .order = DML_METRIC_SMALLER,
    .ratio_at = euclidean,
};

const struct dml_metric dml_metric_c_fnmr = {
    .method = {.name = "c_fnmr@",
               .summary = "False non-match rate at a false match rate of f (cosine)",
               .paper = paper},
    .order = DML_METRIC_SMALLER,
    .needs = DML_NEEDS_INVERSE_NORMS,
    .ratio_at = cosine,
};
