#include "criteria/class_cosines.h"

#include "math/products.h"

#include <omp.h>

/* Classes per block where each has its own loss. */
enum { BLOCK = 8192 };

static size_t most(size_t a, size_t b) {
    return a > b ? a : b;
}

/* Memory for `rows` vectors at a time, with `length` numbers in a row of c, and for losses. */
static bool lay_out(struct dml_class_cosines *c, const struct dml_batch *batch, size_t rows,
                    size_t length, size_t losses) {
    size_t n = batch->n, dim = batch->dim, threads = (size_t)omp_get_max_threads();
    size_t packed =
        most(dml_product_workspace(most(n, rows), dim), dml_product_workspace(dim, most(n, rows)));
    size_t floats =
        2 * losses + packed + n * rows + n * (dim + 1) + rows * dim + 3 * threads * length;
    double *memory = dml_buffer_reserve(&c->memory, floats, sizeof(float));
    if (!memory)
        return false;
    c->n = n;
    c->rows = rows;
    c->dim = dim;
    c->length = length;
    c->losses = memory;
    c->packed = (float *)(memory + losses);
    c->c = c->packed + packed;
    c->units = c->c + n * rows;
    c->norms = c->units + n * dim;
    c->directions = c->norms + n;
    c->rooms = c->directions + rows * dim;
    dml_units_forward(batch->embeddings, n, dim, c->units, c->norms);
    return true;
}

enum dml_status dml_class_cosines_forward(struct dml_class_cosines *c,
                                          struct dml_class_scores *scores,
                                          const struct dml_batch *batch) {
    size_t n = batch->n, rows = scores->classes, dim = batch->dim;
    if (!lay_out(c, batch, rows, rows, n))
        return DML_ERROR_MEMORY;
    dml_units_forward(scores->vectors, rows, dim, c->directions, scores->norms);
    dml_product(0, 1, n, rows, dim, c->units, dim, c->directions, dim, NULL, c->c, rows, c->packed);
    return DML_OK;
}

void dml_class_cosines_backward(const struct dml_class_cosines *c, struct dml_class_scores *scores,
                                float *grad) {
    size_t n = c->n, rows = c->rows, dim = c->dim;
    dml_product(0, 0, n, dim, rows, c->c, rows, c->directions, dim, NULL, grad, dim, c->packed);
    dml_units_backward(c->units, c->norms, n, dim, grad);
    dml_product(1, 0, rows, dim, n, c->c, rows, c->units, dim, NULL, scores->grad, dim, c->packed);
    dml_units_backward(c->directions, scores->norms, rows, dim, scores->grad);
}

/* One block: the classes from `first` on. */
static void block(const struct dml_class_cosines *c, struct dml_class_scores *scores, size_t first,
                  dml_class_row row, const void *data, float *grad) {
    size_t left = scores->classes - first, rows = left < BLOCK ? left : BLOCK;
    size_t n = c->n, dim = c->dim;
    float *units = c->directions, *norms = scores->norms + first;
    float *w_grad = scores->grad + first * dim;
    const struct dml_product_start sum = {.matrix = grad, .ld = dim};
    dml_units_forward(scores->vectors + first * dim, rows, dim, units, norms);
    dml_product(0, 1, rows, n, dim, units, dim, c->units, dim, NULL, c->c, n, c->packed);
#pragma omp parallel for if (n * rows > 2000)
    for (size_t i = 0; i < rows; i++)
        c->losses[first + i] = row(data, first + i, c->c + i * n, dml_class_cosines_work(c));
    dml_product(1, 0, n, dim, rows, c->c, n, units, dim, first > 0 ? &sum : NULL, grad, dim,
                c->packed);
    dml_product(0, 0, rows, dim, n, c->c, n, c->units, dim, NULL, w_grad, dim, c->packed);
    dml_units_backward(units, norms, rows, dim, w_grad);
}

enum dml_status dml_class_cosines_by_class(struct dml_class_cosines *c,
                                           struct dml_class_scores *scores,
                                           const struct dml_batch *batch, dml_class_row row,
                                           const void *data, float *grad, double *loss) {
    size_t classes = scores->classes;
    if (!lay_out(c, batch, classes < BLOCK ? classes : BLOCK, batch->n, classes))
        return DML_ERROR_MEMORY;
    for (size_t first = 0; first < classes; first += BLOCK)
        block(c, scores, first, row, data, grad);
    dml_units_backward(c->units, c->norms, c->n, c->dim, grad);
    *loss = 0;
    for (size_t i = 0; i < classes; i++)
        *loss += c->losses[i];
    return DML_OK;
}

float *dml_class_cosines_work(const struct dml_class_cosines *c) {
    return c->rooms + 3 * c->length * (size_t)omp_get_thread_num();
}

void dml_class_cosines_destroy(void *data) {
    struct dml_class_cosines_state *state = data;
    if (state)
        dml_buffer_free(&state->cosines.memory);
    dml_class_scores_destroy(state);
}
