#include "criteria/exponentials.h"

#include "math/transcendental.h"

/* How a product of centred rows becomes an exponent: slope times it, plus the offsets of both. */
struct finish {
    float slope;
    float *offsets; /* (n) and as many more as a block may have columns beyond */
};

/* A block of products becomes one of k. */
static void exponentiate(const void *data, size_t row, size_t rows, size_t column, float *block) {
    const struct finish *f = data;
    const float slope = f->slope, *offsets = f->offsets + column;
    for (size_t i = row; i < row + rows; i++, block += DML_PANEL) {
        const float own = f->offsets[i];
#pragma omp simd
        for (size_t j = 0; j < DML_PANEL; j++)
            block[j] = dml_expf_normal(slope * block[j] + (own + offsets[j]));
        if (i - column < DML_PANEL)
            block[i - column] = 0;
    }
}

enum dml_status dml_exponentials_forward(struct dml_exponentials *e, const struct dml_batch *batch,
                                         bool unit, double slope, bool *fits) {
    struct dml_symmetric *s = &e->symmetric;
    struct finish finish = {(float)slope, NULL};
    *fits = false;
    finish.offsets = dml_buffer_reserve(&e->memory, batch->n + DML_PANEL, sizeof *finish.offsets);
    enum dml_status status =
        finish.offsets ? dml_symmetric_start(s, batch, unit) : DML_ERROR_MEMORY;
    if (status)
        return status;
    double middle; /* e to that is the factor that k lacks */
    const double most = dml_symmetric_offsets(s, slope, finish.offsets, &middle);
    *fits = slope * s->rows.spread + 2 * most <= DML_EXPONENT_MOST;
    e->k = s->rows.products;
    if (*fits)
        dml_symmetric_forward(s, exponentiate, &finish, &e->k, 1, s->n);
    return DML_OK;
}

void dml_exponentials_free(struct dml_exponentials *e) {
    dml_symmetric_free(&e->symmetric);
    dml_buffer_free(&e->memory);
    *e = (struct dml_exponentials){0};
}
