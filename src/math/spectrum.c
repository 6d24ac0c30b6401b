#include "math/spectrum.h"

#include "base/memory.h"
#include "math/lapack.h"
#include "math/linear.h"

#include <cblas.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 1024, PANEL = 32 };

/* gram (dim, dim), the part on and below the diagonal, of x (n, dim) minus `mean` (NULL: 0).
 * Threads take panels of columns, and sums run over rows in order: the bits do not depend on the
 * number of threads. */
static void add_gram(const struct dml_values *x, const double *mean, size_t n, size_t dim,
                     double *rows, double *gram) {
#pragma omp parallel
    for (size_t first = 0; first < n; first += ROWS) {
        size_t count = n - first < ROWS ? n - first : ROWS;
#pragma omp for schedule(static)
        for (size_t i = 0; i < count * dim; i++)
            rows[i] = dml_value(x, first * dim + i) - (mean ? mean[i % dim] : 0);
#pragma omp for schedule(dynamic, 1)
        for (size_t j = 0; j < dim; j += PANEL) {
            size_t width = dim - j < PANEL ? dim - j : PANEL;
            cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (blasint)(dim - j), (blasint)width,
                        (blasint)count, 1, rows + j, (blasint)dim, rows + j, (blasint)dim, 1,
                        gram + j * dim + j, (blasint)dim);
        }
    }
}

/* The Gram matrix of the rows, for sets smaller than their dimension: gram (n, n). */
static void row_gram(const struct dml_values *x, size_t n, size_t dim, double *gram) {
#pragma omp parallel for schedule(dynamic, 1)
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++)
            gram[i * n + j] = dml_values_dot(x, i * dim, x, j * dim, dim);
}

/* Inside a parallel region LAPACK's own calls take one thread, on any machine. */
static enum dml_status eigenvalues(double *gram, size_t size, double *values,
                                   const char *otherwise) {
    lapack_int failed = 0;
#pragma omp parallel
#pragma omp single
    failed = LAPACKE_dsyevd(LAPACK_ROW_MAJOR, 'N', 'L', (lapack_int)size, gram, (lapack_int)size,
                            values);
    return dml_lapack_check(failed, otherwise);
}

static void turn_round(double *values, size_t size) { /* LAPACK's order is ascending */
    for (size_t k = 0; k < size / 2; k++) {
        double swap = values[k];
        values[k] = values[size - 1 - k];
        values[size - 1 - k] = swap;
    }
}

enum dml_status dml_covariance(const struct dml_values *x, size_t n, size_t dim, double *mean,
                               double *covariance) {
    double *rows = dml_alloc_aligned(ROWS * dim, sizeof *rows);
    if (!rows)
        return DML_ERROR_MEMORY;
#pragma omp parallel for schedule(static)
    for (size_t k = 0; k < dim; k++) {
        double sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += dml_value(x, i * dim + k);
        mean[k] = sum / (double)n;
    }
    memset(covariance, 0, dim * dim * sizeof *covariance);
    add_gram(x, mean, n, dim, rows, covariance);
    for (size_t i = 0; i < dim * dim; i++)
        covariance[i] /= (double)n;
    free(rows);
    return DML_OK;
}

enum dml_status dml_covariance_eigenvalues(const struct dml_values *x, size_t n, size_t dim,
                                           double *values) {
    enum dml_status status = DML_ERROR_MEMORY;
    double *mean = dml_alloc(dim, sizeof *mean);
    double *covariance = dml_alloc(dim * dim, sizeof *covariance);
    if (mean && covariance)
        status = dml_covariance(x, n, dim, mean, covariance);
    if (!status)
        status = eigenvalues(covariance, dim, values,
                             "the eigenvalues of the embeddings' covariance did not converge");
    if (!status)
        turn_round(values, dim);
    free(mean);
    free(covariance);
    return status;
}

enum dml_status dml_singular_values(const struct dml_values *x, size_t n, size_t dim,
                                    double *values) {
    size_t size = n < dim ? n : dim;
    enum dml_status status = DML_OK;
    double *gram = dml_alloc(size * size, sizeof *gram);
    double *rows = dml_alloc_aligned(ROWS * dim, sizeof *rows);
    if (!gram || !rows) {
        status = DML_ERROR_MEMORY;
        goto out;
    }
    if (n < dim)
        row_gram(x, n, dim, gram);
    else
        add_gram(x, NULL, n, dim, rows, gram);
    status =
        eigenvalues(gram, size, values, "the singular values of the embeddings did not converge");
    if (status)
        goto out;
    double least = values[size - 1] * (double)size * DBL_EPSILON;
    for (size_t k = 0; k < size; k++)
        values[k] = values[k] > least ? sqrt(values[k]) : 0;
    turn_round(values, size);
out:
    free(gram);
    free(rows);
    return status;
}
