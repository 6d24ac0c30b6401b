/* pcf@v: how many principal components hold a share v of the variance, as a share of all: with the
 * covariance's eigenvalues, largest first, and their running shares, (number of shares <= v, plus
 * one) / dim. Small where the embedding collapses to few directions. */
#include "base/memory.h"
#include "dml/metrics.h"
#include "math/spectrum.h"

#include <math.h>
#include <stdlib.h>

static enum dml_status compute(const struct dml_metric_inputs *in, double v,
                               struct dml_metric_value *out) {
    const struct dml_evaluation_set *set = in->set;
    const struct dml_values x = {set->embeddings, set->exact};
    double *values = dml_alloc(set->dim, sizeof *values), total = 0, running = 0;
    enum dml_status status =
        values ? dml_covariance_eigenvalues(&x, set->n, set->dim, values) : DML_ERROR_MEMORY;
    size_t within = 0;
    for (size_t k = 0; !status && k < set->dim; k++)
        total += values[k] = fmax(values[k], 0);
    for (size_t k = 0; !status && k < set->dim; k++) {
        running += values[k];
        within += running / total <= v;
    }
    out->value = total > 0 ? (double)(within + 1) / (double)set->dim : NAN;
    free(values);
    return status;
}

const struct dml_metric dml_metric_pcf = {
    .method = {.name = "pcf@",
               .summary = "Share of principal components that hold the share v of the variance",
               .paper = "Shabanov et al. 2023, OML: Open metric learning, a library"},
    .compute_at = compute,
};
