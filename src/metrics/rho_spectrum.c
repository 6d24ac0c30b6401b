/* rho_spectrum@k: how far the singular values of the embeddings are from all being equal. */
#include "base/memory.h"
#include "dml/metrics.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>

/* The study's truncated decomposition gives one value fewer than there are dimensions. */
static size_t spectrum_count(const struct dml_metric_inputs *in) {
    size_t most = in->set->dim - 1;
    return in->set->n < most ? in->set->n : most;
}

static enum dml_status check(const struct dml_metric_inputs *in, long k) {
    size_t from = k < 0 ? 0 - (size_t)k : (size_t)k, count = spectrum_count(in);
    if (count == 0)
        return dml_fail(DML_ERROR_INPUT,
                        "rho_spectrum@%ld: embeddings of one dimension have no "
                        "spectrum",
                        k);
    if (from > count)
        return dml_fail(DML_ERROR_INPUT,
                        "rho_spectrum@%ld: k is beyond the %zu singular values of "
                        "the set",
                        k, count);
    return DML_OK;
}

/* k > 0: KL(u||p), infinite where a value is 0. k < 0: KL(p||u). p: `values` from the |k|-th on,
 * normalised to a sum of 1; u: uniform. For k = 0 the value is KL(u||p), and the vector p. */
static enum dml_status compute(const struct dml_metric_inputs *in, long k,
                               struct dml_metric_value *out) {
    size_t first = k == 0 ? 0 : (size_t)labs(k) - 1, count = spectrum_count(in) - first;
    const double *values = in->singular + first;
    double sum = 0, divergence = 0, uniform = 1 / (double)count;
    for (size_t i = 0; i < count; i++)
        sum += values[i];
    for (size_t i = 0; i < count && sum > 0; i++) {
        double p = values[i] / sum;
        if (k < 0)
            divergence += p > 0 ? p * log(p / uniform) : 0;
        else
            divergence += uniform * log(uniform / p);
    }
    out->value = sum > 0 ? divergence : NAN;
    if (k != 0)
        return DML_OK;
    out->vector = dml_alloc(count, sizeof *out->vector);
    if (!out->vector)
        return DML_ERROR_MEMORY;
    out->vector_count = count;
    for (size_t i = 0; i < count; i++)
        out->vector[i] = sum > 0 ? (float)(values[i] / sum) : 0;
    return DML_OK;
}

const struct dml_metric dml_metric_rho_spectrum = {
    .method = {.name = "rho_spectrum@",
               .summary = "Divergence of the singular values of the embeddings from uniform",
               .paper = "Roth et al. 2020, Revisiting training strategies and generalization "
                        "performance in deep metric learning"},
    .needs = DML_NEEDS_SINGULAR_VALUES,
    .least_k = LONG_MIN,
    .check = check,
    .compute = compute,
};
