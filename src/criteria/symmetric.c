#include "criteria/symmetric.h"

#include "math/panels.h"
#include "math/reduce.h"

#include <math.h>
#include <omp.h>
#include <string.h>

/* Rows of f at a time. */
enum { HEIGHT = DML_PANEL_ROWS };

enum dml_status dml_symmetric_start(struct dml_symmetric *s, const struct dml_batch *batch,
                                    bool unit) {
    const size_t n = batch->n, dim = batch->dim, threads = (size_t)omp_get_max_threads();
    const size_t panels = dml_panels_size(n, dim), blocks = threads * HEIGHT * n;
    float *memory = dml_buffer_reserve(&s->memory, panels + blocks + n * dim + n, sizeof *memory);
    if (!memory)
        return DML_ERROR_MEMORY;
    s->n = n;
    s->dim = dim;
    s->x = batch->embeddings;
    s->norms = NULL;
    s->panels = memory;
    s->blocks = s->panels + panels;
    if (unit) {
        float *units = s->blocks + blocks;
        s->x = units;
        s->norms = units + n * dim;
        dml_units_forward(batch->embeddings, n, dim, units, s->norms);
    }
    return dml_inner_products_centre(&s->rows, s->x, n, dim);
}

double dml_symmetric_offsets(const struct dml_symmetric *s, double slope, float *offsets,
                             double *middle) {
    const double *shifts = s->rows.shifts;
    double sum = 0, most = 0;
    for (size_t i = 0; i < s->n; i++)
        sum += shifts[i];
    const double mean = sum / (double)s->n;
    for (size_t i = 0; i < s->n; i++) {
        const double offset = slope * (shifts[i] - mean), size = fabs(offset);
        offsets[i] = (float)offset;
        most = size > most ? size : most;
    }
    memset(offsets + s->n, 0, DML_PANEL * sizeof *offsets);
    *middle = 2 * slope * mean;
    return most;
}

void dml_symmetric_forward(const struct dml_symmetric *s, dml_gram_finish finish, const void *data,
                           float *const *outs, size_t count, size_t ld) {
    dml_gram_finished(s->rows.centred, s->n, s->dim, finish, data, outs, count, ld);
}

/* A row of f x becomes one of dL/dE. */
static void finish_row(const struct dml_symmetric *s, size_t i, double scale, float *grad) {
    const float *unit = s->x + i * s->dim;
    const float factor = (float)(s->norms ? scale / s->norms[i] : scale);
    if (!s->norms) {
#pragma omp simd
        for (size_t k = 0; k < s->dim; k++)
            grad[k] *= factor;
    } else if (s->norms[i] < 1e-12f) {
        memset(grad, 0, s->dim * sizeof *grad);
    } else {
        const float along = (float)dml_sum_products(unit, grad, s->dim);
#pragma omp simd
        for (size_t k = 0; k < s->dim; k++)
            grad[k] = (grad[k] - unit[k] * along) * factor;
    }
}

void dml_symmetric_backward(const struct dml_symmetric *s, dml_symmetric_fill fill,
                            const void *data, double scale, float *grad) {
    const size_t n = s->n, dim = s->dim;
#pragma omp parallel if (n > 128)
    {
        float *f = s->blocks + (size_t)omp_get_thread_num() * HEIGHT * n;
#pragma omp for
        for (size_t k = 0; k < dim; k += DML_PANEL)
            dml_panels_pack(n, dim - k < DML_PANEL ? dim - k : DML_PANEL, s->x + k, dim,
                            s->panels + k * n);
#pragma omp for schedule(dynamic, 1)
        for (size_t i = 0; i < n; i += HEIGHT) {
            const size_t rows = n - i < HEIGHT ? n - i : HEIGHT;
            for (size_t r = 0; r < rows; r++)
                fill(data, i + r, f + r * n);
            dml_panels_multiply(rows, dim, n, f, n, 1, s->panels, NULL, 0, grad + i * dim, dim);
            for (size_t r = i; r < i + rows; r++)
                finish_row(s, r, scale, grad + r * dim);
        }
    }
}

/* Adds a vector of a row to the sums of its own label and of the others. */
static inline void add_by_label(const float *row, const int32_t *labels, int32_t label,
                                dml_lanes *same, dml_lanes *others) {
    const dml_lane_bits value = (dml_lane_bits)dml_lanes_load(row);
    const dml_lane_bits alike = dml_lane_bits_load(labels) == label;
    *same += (dml_lanes)(value & alike);
    *others += (dml_lanes)(value & ~alike);
}

struct dml_label_sums dml_sum_by_label(const float *row, const int32_t *labels, int32_t label,
                                       size_t n) {
    dml_lanes same[2] = {{0}}, others[2] = {{0}};
    size_t j = 0;
    for (; j + 2 * DML_LANES <= n; j += 2 * DML_LANES)
        for (size_t v = 0; v < 2; v++)
            add_by_label(row + j + v * DML_LANES, labels + j + v * DML_LANES, label, &same[v],
                         &others[v]);
    for (; j + DML_LANES <= n; j += DML_LANES)
        add_by_label(row + j, labels + j, label, &same[0], &others[0]);
    struct dml_label_sums sums = {dml_lanes_total(same[0] + same[1]),
                                  dml_lanes_total(others[0] + others[1])};
    for (; j < n; j++) {
        sums.same += labels[j] == label ? row[j] : 0;
        sums.others += labels[j] != label ? row[j] : 0;
    }
    return sums;
}

void dml_symmetric_free(struct dml_symmetric *s) {
    dml_inner_products_free(&s->rows);
    dml_buffer_free(&s->memory);
    *s = (struct dml_symmetric){0};
}
