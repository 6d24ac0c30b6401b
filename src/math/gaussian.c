#include "math/gaussian.h"

#include "base/memory.h"
#include "math/lapack.h"

#include <cblas.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum dml_status dml_gaussian_open(struct dml_gaussian *g, size_t capacity, size_t dim) {
    memset(g, 0, sizeof *g);
    g->dim = dim;
    g->capacity = capacity;
    g->mean = dml_alloc_aligned(dim, sizeof(double));
    g->covariance = dml_alloc_aligned(dim, dim * sizeof(double));
    g->factor = dml_alloc_aligned(dim, dim * sizeof(double));
    g->centred = dml_alloc_aligned(capacity, dim * sizeof(double));
    if (!g->mean || !g->covariance || !g->factor || !g->centred) {
        dml_gaussian_close(g);
        return DML_ERROR_MEMORY;
    }
    return DML_OK;
}

void dml_gaussian_close(struct dml_gaussian *g) {
    free(g->mean);
    free(g->covariance);
    free(g->factor);
    free(g->centred);
    memset(g, 0, sizeof *g);
}

static void mean_of_rows(const double *x, size_t n, size_t dim, double *mean) {
    memset(mean, 0, dim * sizeof *mean);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < dim; k++)
            mean[k] += x[i * dim + k];
    for (size_t k = 0; k < dim; k++)
        mean[k] /= (double)n;
}

static void subtract_from_rows(double *x, size_t n, size_t dim, const double *mean) {
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < dim; k++)
            x[i * dim + k] -= mean[k];
}

/* c (dim, dim) = scale * x^T x + beta * c in its lower triangle. */
static void scatter(const double *x, size_t n, size_t dim, double scale, double beta, double *c) {
    cblas_dsyrk(CblasRowMajor, CblasLower, CblasTrans, (blasint)dim, (blasint)n, scale, x,
                (blasint)dim, beta, c, (blasint)dim);
}

static enum dml_status moments(struct dml_gaussian *g, const double *x, size_t n) {
    size_t dim = g->dim;
    mean_of_rows(x, n, dim, g->mean);
    memcpy(g->centred, x, n * dim * sizeof *x);
    subtract_from_rows(g->centred, n, dim, g->mean);
    scatter(g->centred, n, dim, n > 1 ? 1.0 / (double)(n - 1) : 0.0, 0.0, g->covariance);
    g->trace = 0;
    for (size_t k = 0; k < dim; k++) {
        g->trace += g->covariance[k * dim + k];
        for (size_t l = k + 1; l < dim; l++)
            g->covariance[k * dim + l] = g->covariance[l * dim + k];
    }
    return isfinite(g->trace) ? DML_OK : dml_fail(DML_ERROR_NUMERIC, "points are not finite");
}

/* The covariance with a ridge, into `factor`. */
static void with_ridge(struct dml_gaussian *g, double ridge) {
    memcpy(g->factor, g->covariance, g->dim * g->dim * sizeof(double));
    for (size_t k = 0; k < g->dim; k++)
        g->factor[k * g->dim + k] += ridge;
}

/* Column-major upper is row-major lower: nothing is transposed. */
static bool cholesky(double *a, size_t dim) {
    if (LAPACKE_dpotrf(LAPACK_COL_MAJOR, 'U', (lapack_int)dim, a, (lapack_int)dim) != 0)
        return false;
    for (size_t k = 0; k < dim; k++)
        for (size_t l = k + 1; l < dim; l++)
            a[k * dim + l] = 0;
    return true;
}

/* a (dim, dim), symmetric, becomes V sqrt(eigenvalues); negative ones come from rounding. */
static enum dml_status eigen_factor(double *a, size_t dim) {
    double *values = dml_alloc(dim, sizeof *values), *vectors = dml_alloc(dim, dim * sizeof *a);
    enum dml_status status = DML_ERROR_MEMORY;
    if (!values || !vectors)
        goto out;
    memcpy(vectors, a, dim * dim * sizeof *a);
    status = dml_lapack_check(LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', 'U', (lapack_int)dim, vectors,
                                             (lapack_int)dim, values),
                              "the eigenvalues of a covariance did not converge");
    if (status)
        goto out;
    for (size_t j = 0; j < dim; j++) /* row j of `vectors` is the j-th eigenvector */
        for (size_t k = 0; k < dim; k++)
            a[k * dim + j] = vectors[j * dim + k] * sqrt(fmax(values[j], 0));
    status = DML_OK;
out:
    free(values);
    free(vectors);
    return status;
}

enum dml_status dml_gaussian_fit(struct dml_gaussian *g, const double *x, size_t n, double ridge) {
    enum dml_status status = moments(g, x, n);
    if (status)
        return status;
    with_ridge(g, ridge);
    if (cholesky(g->factor, g->dim))
        return DML_OK;
    with_ridge(g, ridge);
    return eigen_factor(g->factor, g->dim);
}

enum dml_status dml_gaussian_fit_relative(struct dml_gaussian *g, const double *x, size_t n,
                                          double share) {
    enum dml_status status = moments(g, x, n);
    if (status)
        return status;
    with_ridge(g, share * g->trace / (double)g->dim);
    if (!cholesky(g->factor, g->dim)) {
        memset(g->factor, 0, g->dim * g->dim * sizeof(double));
        g->trace = 0;
    }
    return DML_OK;
}

void dml_gaussian_mahalanobis2(struct dml_gaussian *g, size_t n, double *out) {
    if (!(g->trace > 0)) {
        memset(out, 0, n * sizeof *out);
        return;
    }
    cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, (blasint)n,
                (blasint)g->dim, 1.0, g->factor, (blasint)g->dim, g->centred, (blasint)g->dim);
    for (size_t i = 0; i < n; i++)
        out[i] =
            cblas_ddot((blasint)g->dim, g->centred + i * g->dim, 1, g->centred + i * g->dim, 1);
}

enum dml_status dml_frechet_open(struct dml_frechet *f, size_t capacity, size_t dim) {
    memset(f, 0, sizeof *f);
    enum dml_status status = dml_gaussian_open(&f->set, capacity, dim);
    if (status)
        return status;
    f->mapped = dml_alloc_aligned(capacity, dim * sizeof(double));
    f->ridge_part = dml_alloc_aligned(dim, dim * sizeof(double));
    f->rows = dml_alloc_aligned(capacity, dim * sizeof(double));
    f->product = dml_alloc_aligned(dim, dim * sizeof(double));
    f->eigenvalues = dml_alloc_aligned(dim, sizeof(double));
    f->mean = dml_alloc_aligned(dim, sizeof(double));
    if (!f->mapped || !f->ridge_part || !f->rows || !f->product || !f->eigenvalues || !f->mean) {
        dml_frechet_close(f);
        return DML_ERROR_MEMORY;
    }
    return DML_OK;
}

void dml_frechet_close(struct dml_frechet *f) {
    dml_gaussian_close(&f->set);
    free(f->mapped);
    free(f->ridge_part);
    free(f->rows);
    free(f->product);
    free(f->eigenvalues);
    free(f->mean);
    memset(f, 0, sizeof *f);
}

enum dml_status dml_frechet_prepare(struct dml_frechet *f, const double *x, size_t n,
                                    double ridge) {
    enum dml_status status = dml_gaussian_fit(&f->set, x, n, ridge);
    if (status)
        return status;
    size_t dim = f->set.dim;
    f->ridge = ridge;
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)n, (blasint)dim, (blasint)dim,
                1.0, f->set.centred, (blasint)dim, f->set.factor, (blasint)dim, 0.0, f->mapped,
                (blasint)dim);
    scatter(f->set.factor, dim, dim, ridge, 0.0, f->ridge_part);
    return DML_OK;
}

/* Trace of the subset's covariance and |difference of means|^2, from the set's centred points. */
static void subset_moments(struct dml_frechet *f, const uint32_t *rows, size_t n, double *trace,
                           double *shift) {
    size_t dim = f->set.dim;
    memset(f->mean, 0, dim * sizeof *f->mean);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < dim; k++)
            f->mean[k] += f->set.centred[rows[i] * dim + k] / (double)n;
    double spread = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < dim; k++) {
            double difference = f->set.centred[rows[i] * dim + k] - f->mean[k];
            spread += difference * difference;
        }
    *trace = n > 1 ? spread / (double)(n - 1) : 0;
    *shift = cblas_ddot((blasint)dim, f->mean, 1, f->mean, 1);
}

enum dml_status dml_frechet_distance(struct dml_frechet *f, const uint32_t *rows, size_t n,
                                     double *out) {
    size_t dim = f->set.dim;
    double trace, shift, root = 0;
    subset_moments(f, rows, n, &trace, &shift);
    for (size_t i = 0; i < n; i++)
        memcpy(f->rows + i * dim, f->mapped + rows[i] * dim, dim * sizeof *f->rows);
    mean_of_rows(f->rows, n, dim, f->mean);
    subtract_from_rows(f->rows, n, dim, f->mean);
    memcpy(f->product, f->ridge_part, dim * dim * sizeof *f->product);
    scatter(f->rows, n, dim, n > 1 ? 1.0 / (double)(n - 1) : 0.0, 1.0, f->product);
    enum dml_status status =
        dml_lapack_check(LAPACKE_dsyev(LAPACK_COL_MAJOR, 'N', 'U', (lapack_int)dim, f->product,
                                       (lapack_int)dim, f->eigenvalues),
                         "the eigenvalues of a product of covariances did not converge");
    if (status)
        return status;
    for (size_t k = 0; k < dim; k++)
        root += sqrt(fmax(f->eigenvalues[k], 0));
    *out = shift + f->set.trace + trace - 2 * root;
    return DML_OK;
}
