/* Whitening by principal components. */
#include "dml/postprocess.h"

#include "base/memory.h"
#include "math/lapack.h"
#include "math/spectrum.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Ascending eigenvalues; `matrix` then holds the eigenvectors as rows. Inside a parallel region
 * LAPACK's own calls take one thread, so that bits do not depend on their number. */
static enum dml_status decompose(double *matrix, size_t dim, double *values) {
    lapack_int failed = 0;
#pragma omp parallel
#pragma omp single
    failed = LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', 'U', (lapack_int)dim, matrix, (lapack_int)dim,
                            values);
    return dml_lapack_check(failed, "whitening: the eigenvalues did not converge");
}

enum dml_status dml_whitening_fit(const double *x, size_t n, size_t dim, size_t kept,
                                  struct dml_whitening *out) {
    *out = (struct dml_whitening){.dim = dim, .kept = kept};
    out->mean = dml_alloc(dim, sizeof *out->mean);
    out->projection = dml_alloc(kept * dim, sizeof *out->projection);
    double *covariance = dml_alloc(dim * dim, sizeof *covariance);
    double *values = dml_alloc(dim, sizeof *values);
    enum dml_status status = DML_ERROR_MEMORY;
    if (out->mean && out->projection && covariance && values)
        status = dml_covariance(&(struct dml_values){.wide = x}, n, dim, out->mean, covariance);
    if (!status)
        status = decompose(covariance, dim, values);
    size_t rank = 0;
    double least = status ? 0 : values[dim - 1] * (double)dim * DBL_EPSILON;
    for (size_t k = 0; !status && k < dim; k++)
        rank += values[k] > least && values[k] > 0;
    if (!status && kept > rank)
        status = dml_fail(DML_ERROR_INPUT,
                          "whitening to %zu dimensions: the %zu embeddings that it is fitted to "
                          "vary in only %zu",
                          kept, n, rank);
    for (size_t k = 0; !status && k < kept; k++) {
        size_t from = dim - 1 - k; /* the largest come last */
        double scale = 1 / sqrt(values[from]);
        for (size_t i = 0; i < dim; i++)
            out->projection[k * dim + i] = covariance[from * dim + i] * scale;
    }
    free(covariance);
    free(values);
    if (status)
        dml_whitening_free(out);
    return status;
}

void dml_whitening_apply(const struct dml_whitening *whitening, const double *x, size_t n,
                         double *out) {
    size_t dim = whitening->dim, kept = whitening->kept;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++) {
        double norm2 = 0;
        for (size_t k = 0; k < kept; k++) {
            const double *row = whitening->projection + k * dim;
            double sum = 0;
            for (size_t d = 0; d < dim; d++)
                sum += row[d] * (x[i * dim + d] - whitening->mean[d]);
            out[i * kept + k] = sum;
            norm2 += sum * sum;
        }
        double scale = norm2 > 0 ? 1 / sqrt(norm2) : 0;
        for (size_t k = 0; k < kept; k++)
            out[i * kept + k] *= scale;
    }
}

void dml_whitening_free(struct dml_whitening *whitening) {
    free(whitening->mean);
    free(whitening->projection);
    memset(whitening, 0, sizeof *whitening);
}
