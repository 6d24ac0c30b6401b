/* dists@intra, dists@inter and their ratio: mean cosine distances within and between classes.
 *
 * Sums over pairs of unit vectors come from the norm of their sum: over i != j,
 * sum (1 - <u_i, u_j>) = m (m - 1) - (|sum u|^2 - sum |u_i|^2). */
#include "base/memory.h"
#include "dml/metrics.h"
#include "math/values.h"

#include <math.h>
#include <stdlib.h>

static double norm2_of(const double *x, size_t dim) {
    double sum = 0;
    for (size_t k = 0; k < dim; k++)
        sum += x[k] * x[k];
    return sum;
}

static double class_distance(const struct dml_metric_inputs *in, size_t c, double *sum) {
    size_t first = in->class_start[c], end = in->class_start[c + 1], dim = in->set->dim;
    const struct dml_values values = {in->set->embeddings, in->set->exact};
    double m = (double)(end - first);
    for (size_t k = 0; k < dim; k++)
        sum[k] = 0;
    for (size_t r = first; r < end; r++) {
        uint32_t i = in->by_class[r];
        for (size_t k = 0; k < dim; k++)
            sum[k] += dml_value(&values, i * dim + k) * in->inverse_norms[i];
    }
    return (m * m - norm2_of(sum, dim)) / (m * m - m);
}

static enum dml_status intra(const struct dml_metric_inputs *in, double *out) {
    double *sum = dml_alloc(in->set->dim, sizeof *sum), total = 0, largest = -INFINITY;
    if (!sum)
        return DML_ERROR_MEMORY;
    size_t alone = 0;
    for (size_t c = 0; c < in->classes; c++) {
        if (in->class_start[c + 1] - in->class_start[c] == 1) {
            alone++;
            continue;
        }
        double distance = class_distance(in, c, sum);
        total += distance;
        largest = fmax(largest, distance);
    }
    free(sum);
    *out = alone == in->classes ? NAN : (total + (double)alone * largest) / (double)in->classes;
    return DML_OK;
}

static enum dml_status inter(const struct dml_metric_inputs *in, double *out) {
    size_t dim = in->set->dim;
    double *sum = dml_alloc(dim, sizeof *sum), own = 0, classes = (double)in->classes;
    if (!sum)
        return DML_ERROR_MEMORY;
    for (size_t c = 0; c < in->classes; c++) {
        const double *mean = in->class_means + c * dim;
        double norm2 = norm2_of(mean, dim), scale = norm2 > 0 ? 1 / sqrt(norm2) : 0;
        for (size_t k = 0; k < dim; k++)
            sum[k] += mean[k] * scale;
        own += norm2 > 0;
    }
    double pairs = classes * (classes - 1);
    *out = in->classes > 1 ? (pairs - (norm2_of(sum, dim) - own)) / pairs : NAN;
    free(sum);
    return DML_OK;
}

static enum dml_status compute_intra(const struct dml_metric_inputs *in, long k,
                                     struct dml_metric_value *out) {
    (void)k;
    return intra(in, &out->value);
}

static enum dml_status compute_inter(const struct dml_metric_inputs *in, long k,
                                     struct dml_metric_value *out) {
    (void)k;
    return inter(in, &out->value);
}

static enum dml_status compute_ratio(const struct dml_metric_inputs *in, long k,
                                     struct dml_metric_value *out) {
    (void)k;
    double within, between;
    enum dml_status status = intra(in, &within);
    if (!status)
        status = inter(in, &between);
    if (!status)
        out->value = isnan(between) ? NAN : within / fmax(between, 1e-8);
    return status;
}

static const char study[] = "Roth et al. 2020, Revisiting training strategies and generalization "
                            "performance in deep metric learning";

const struct dml_metric dml_metric_intra = {
    .method = {.name = "dists@intra",
               .summary = "Mean cosine distance between samples of a class",
               .paper = study},
    .needs = DML_NEEDS_INVERSE_NORMS,
    .compute = compute_intra,
};

const struct dml_metric dml_metric_inter = {
    .method = {.name = "dists@inter",
               .summary = "Mean cosine distance between class means",
               .paper = study},
    .needs = DML_NEEDS_CLASS_MEANS,
    .compute = compute_inter,
};

const struct dml_metric dml_metric_intra_over_inter = {
    .method = {.name = "dists@intra_over_inter",
               .summary = "dists@intra over dists@inter",
               .paper = study},
    .needs = DML_NEEDS_INVERSE_NORMS | DML_NEEDS_CLASS_MEANS,
    .compute = compute_ratio,
};
