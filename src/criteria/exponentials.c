#include "criteria/exponentials.h"

#include "math/gram.h"
#include "math/panels.h"
#include "math/transcendental.h"

#include <math.h>
#include <omp.h>

/* Rows of f at a time. */
enum { HEIGHT = DML_PANEL_ROWS };

static enum dml_status lay_out(struct dml_exponentials *e, const float *x, size_t n, size_t dim) {
    const size_t panels = dml_panels_size(n, dim), threads = (size_t)omp_get_max_threads();
    float *memory =
        dml_buffer_reserve(&e->memory, panels + threads * HEIGHT * n + n, sizeof *memory);
    if (!memory)
        return DML_ERROR_MEMORY;
    e->n = n;
    e->dim = dim;
    e->x = x;
    e->panels = memory;
    e->blocks = e->panels + panels;
    e->offsets = e->blocks + threads * HEIGHT * n;
    return DML_OK;
}

/* Offsets from the shifts of centred rows; a common factor of k makes their mean 0. Returns the
 * largest. */
static double find_offsets(struct dml_exponentials *e, double slope) {
    const double *shifts = e->rows.shifts;
    double sum = 0, most = 0;
    for (size_t i = 0; i < e->n; i++)
        sum += shifts[i];
    const double mean = sum / (double)e->n;
    for (size_t i = 0; i < e->n; i++) {
        const double offset = slope * (shifts[i] - mean), size = fabs(offset);
        e->offsets[i] = (float)offset;
        most = size > most ? size : most;
    }
    return most;
}

struct finish {
    const float *offsets;
    float slope;
};

/* A tile of products becomes one of k. */
static void exponentiate(const void *data, size_t row, size_t rows, size_t column, size_t width,
                         float *tile, size_t ld) {
    const struct finish *f = data;
    const float slope = f->slope, *offsets = f->offsets + column;
    for (size_t i = 0; i < rows; i++, tile += ld) {
        const float own = f->offsets[row + i];
#pragma omp simd
        for (size_t j = 0; j < width; j++)
            tile[j] = dml_expf_normal(slope * tile[j] + (own + offsets[j]));
        if (row + i - column < width)
            tile[row + i - column] = 0;
    }
}

enum dml_status dml_exponentials_forward(struct dml_exponentials *e, const float *x, size_t n,
                                         size_t dim, double slope, bool *fits) {
    *fits = false;
    enum dml_status status = lay_out(e, x, n, dim);
    if (!status)
        status = dml_inner_products_centre(&e->rows, x, n, dim);
    if (status)
        return status;
    *fits = slope * e->rows.spread + 2 * find_offsets(e, slope) <= DML_EXPONENT_MOST;
    e->k = e->rows.products;
    const struct finish finish = {e->offsets, (float)slope};
    if (*fits)
        dml_gram_finished(e->rows.centred, n, dim, exponentiate, &finish, e->k);
    return DML_OK;
}

/* Sixteen lanes of the compiler's own vectors. */
enum { LANES = 16 };
typedef float lanes __attribute__((vector_size(64)));
typedef float unaligned_lanes __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t integers __attribute__((vector_size(64)));
typedef int32_t unaligned_integers __attribute__((vector_size(64), aligned(4), may_alias));

static double total(lanes x) {
    double sums[4] = {0};
    for (size_t i = 0; i < LANES; i += 4)
        for (size_t v = 0; v < 4; v++)
            sums[v] += x[i + v];
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

struct dml_label_sums dml_sum_by_label(const float *k, const int32_t *labels, int32_t label,
                                       size_t n) {
    lanes same[2] = {{0}, {0}}, others[2] = {{0}, {0}};
    size_t j = 0;
    for (; j + 2 * LANES <= n; j += 2 * LANES)
        for (size_t v = 0; v < 2; v++) {
            const integers value = (integers) * (const unaligned_lanes *)(k + j + v * LANES);
            const integers alike = *(const unaligned_integers *)(labels + j + v * LANES) == label;
            same[v] += (lanes)(value & alike);
            others[v] += (lanes)(value & ~alike);
        }
    struct dml_label_sums sums = {total(same[0] + same[1]), total(others[0] + others[1])};
    for (; j < n; j++) {
        sums.same += labels[j] == label ? k[j] : 0;
        sums.others += labels[j] != label ? k[j] : 0;
    }
    return sums;
}

void dml_exponentials_backward(const struct dml_exponentials *e, dml_exponentials_fill fill,
                               const void *data, float *grad) {
    const size_t n = e->n, dim = e->dim;
#pragma omp parallel if (n > 128)
    {
        float *f = e->blocks + (size_t)omp_get_thread_num() * HEIGHT * n;
#pragma omp for
        for (size_t k = 0; k < dim; k += DML_PANEL)
            dml_panels_pack(n, dim - k < DML_PANEL ? dim - k : DML_PANEL, e->x + k, dim,
                            e->panels + k * n);
#pragma omp for schedule(dynamic, 1)
        for (size_t i = 0; i < n; i += HEIGHT) {
            const size_t rows = n - i < HEIGHT ? n - i : HEIGHT;
            for (size_t r = 0; r < rows; r++)
                fill(data, i + r, f + r * n);
            dml_panels_multiply(rows, dim, n, f, n, 1, e->panels, false, grad + i * dim, dim);
        }
    }
}

void dml_exponentials_free(struct dml_exponentials *e) {
    dml_inner_products_free(&e->rows);
    dml_buffer_free(&e->memory);
    *e = (struct dml_exponentials){0};
}
