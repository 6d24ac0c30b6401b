#include "criteria/inner_products.h"

#include "math/gram.h"
#include "math/reduce.h"

#include <math.h>
#include <string.h>

/* Fewer numbers than this are not worth waking the other cores for. */
enum { FEW = 30000 };

/* The sums of columns, `count` of them from x on, whose rows are dim apart. */
static void sum_columns(const float *x, size_t n, size_t dim, size_t count, double *out) {
    dml_wide sums[DML_SUM_VECTORS];
    if (count < DML_SUM_LANES) {
        for (size_t k = 0; k < count; k++) {
            out[k] = 0;
            for (size_t i = 0; i < n; i++)
                out[k] += x[i * dim + k];
        }
        return;
    }
    for (size_t v = 0; v < DML_SUM_VECTORS; v++)
        sums[v] = (dml_wide){0};
    for (size_t i = 0; i < n; i++, x += dim)
        for (size_t v = 0; v < DML_SUM_VECTORS; v++)
            sums[v] += dml_wide_load(x + v * DML_WIDE);
    memcpy(out, sums, sizeof sums);
}

/* Writes the mean of the rows to `mean` (dim). */
static void find_mean(const float *x, size_t n, size_t dim, float *mean) {
#pragma omp parallel for if (n * dim > FEW)
    for (size_t first = 0; first < dim; first += DML_SUM_LANES) {
        const size_t count = dim - first < DML_SUM_LANES ? dim - first : DML_SUM_LANES;
        double sums[DML_SUM_LANES];
        sum_columns(x + first, n, dim, count, sums);
        for (size_t k = 0; k < count; k++)
            mean[first + k] = (float)(sums[k] / (double)n);
    }
}

/* Rows minus their mean, and shifts; returns the largest squared norm of a row. */
static double centre(struct dml_inner_products *p, const float *x, size_t dim, const float *mean) {
    const double half = dml_sum_products(mean, mean, dim) / 2;
    double most = 0;
#pragma omp parallel for reduction(max : most) if (p->n * dim > FEW)
    for (size_t i = 0; i < p->n; i++) {
        const float *from = x + i * dim;
        float *to = p->centred + i * dim;
#pragma omp simd
        for (size_t k = 0; k < dim; k++)
            to[k] = from[k] - mean[k];
        p->shifts[i] = dml_sum_products(mean, from, dim) - half;
        double square = dml_sum_products(to, to, dim);
        most = square > most ? square : most;
    }
    return most;
}

static enum dml_status lay_out(struct dml_inner_products *p, size_t n, size_t dim) {
    size_t numbers = n * n + n * dim;
    double *memory = dml_buffer_reserve(&p->memory, p->wide ? numbers : numbers / 2 + 1 + n + dim,
                                        sizeof *memory);
    if (!memory)
        return DML_ERROR_MEMORY;
    p->n = n;
    p->s = p->x = NULL;
    if (p->wide) {
        p->s = memory;
        p->x = memory + n * n;
    } else {
        p->shifts = memory;
        p->products = (float *)(memory + n + dim);
        p->centred = p->products + n * n;
    }
    return DML_OK;
}

static enum dml_status compute_wide(struct dml_inner_products *p, const float *x, size_t n,
                                    size_t dim) {
    p->wide = true;
    enum dml_status status = lay_out(p, n, dim);
    if (status)
        return status;
#pragma omp simd
    for (size_t k = 0; k < n * dim; k++)
        p->x[k] = x[k];
    dml_gram64(p->x, n, dim, p->s);
    return DML_OK;
}

enum dml_status dml_inner_products_centre(struct dml_inner_products *p, const float *x, size_t n,
                                          size_t dim) {
    p->wide = false;
    enum dml_status status = lay_out(p, n, dim);
    if (status)
        return status;
    float *mean = (float *)(p->shifts + n);
    find_mean(x, n, dim, mean);
    p->spread = centre(p, x, dim, mean);
    return DML_OK;
}

enum dml_status dml_inner_products(struct dml_inner_products *p, const float *x, size_t n,
                                   size_t dim, double slope) {
    if (slope == INFINITY)
        return compute_wide(p, x, n, dim);
    enum dml_status status = dml_inner_products_centre(p, x, n, dim);
    if (status)
        return status;
    if (!(slope * p->spread <= DML_NARROW_MOST))
        return compute_wide(p, x, n, dim);
    dml_gram(p->centred, n, dim, p->products);
    return DML_OK;
}

const double *dml_inner_products_row(const struct dml_inner_products *p, size_t i, double *work) {
    if (p->wide)
        return p->s + i * p->n;
    const float *row = p->products + i * p->n;
    const double own = p->shifts[i];
#pragma omp simd
    for (size_t j = 0; j < p->n; j++)
        work[j] = own + p->shifts[j] + row[j];
    return work;
}

void dml_inner_products_free(struct dml_inner_products *p) {
    dml_buffer_free(&p->memory);
}
