#include "criteria/class_cosines.h"

#include "math/products.h"

#include <omp.h>

static size_t length(const struct dml_class_cosines *c) {
    return c->by_class ? c->n : c->rows;
}

enum dml_status dml_class_cosines_forward(struct dml_class_cosines *c,
                                          struct dml_class_scores *scores,
                                          const struct dml_batch *batch, bool by_class) {
    size_t n = batch->n, rows = scores->classes, dim = batch->dim;
    size_t doubles = by_class ? rows : n, threads = (size_t)omp_get_max_threads();
    size_t rooms = 3 * threads * (by_class ? n : rows);
    size_t across = dml_product_room(by_class ? n : rows, dim);
    size_t along = dml_product_room(dim, n > rows ? n : rows);
    size_t packed = across > along ? across : along;
    size_t floats = 2 * doubles + packed + n * rows + n * (dim + 1) + rooms;
    double *memory = dml_buffer_reserve(&c->memory, floats, sizeof(float));
    if (!memory)
        return DML_ERROR_MEMORY;
    c->n = n;
    c->rows = rows;
    c->dim = dim;
    c->by_class = by_class;
    c->losses = memory;
    c->packed = (float *)(memory + doubles);
    c->c = c->packed + packed;
    c->units = c->c + n * rows;
    c->norms = c->units + n * dim;
    c->rooms = c->norms + n;
    dml_units_forward(batch->embeddings, n, dim, c->units, c->norms);
    dml_units_forward(scores->vectors, rows, dim, scores->units, scores->norms);
    if (by_class)
        dml_product(0, 1, rows, n, dim, scores->units, dim, c->units, dim, 0, c->c, n, c->packed);
    else
        dml_product(0, 1, n, rows, dim, c->units, dim, scores->units, dim, 0, c->c, rows,
                    c->packed);
    return DML_OK;
}

void dml_class_cosines_backward(const struct dml_class_cosines *c, struct dml_class_scores *scores,
                                float *grad) {
    size_t n = c->n, rows = c->rows, dim = c->dim, lda = length(c);
    dml_product(c->by_class, 0, n, dim, rows, c->c, lda, scores->units, dim, 0, grad, dim,
                c->packed);
    dml_units_backward(c->units, c->norms, n, dim, grad);
    dml_product(!c->by_class, 0, rows, dim, n, c->c, lda, c->units, dim, 0, scores->grad, dim,
                c->packed);
    dml_units_backward(scores->units, scores->norms, rows, dim, scores->grad);
}

float *dml_class_cosines_room(const struct dml_class_cosines *c) {
    return c->rooms + 3 * length(c) * (size_t)omp_get_thread_num();
}

void dml_class_cosines_destroy(void *data) {
    struct dml_class_cosines_state *state = data;
    if (state)
        dml_buffer_free(&state->cosines.memory);
    dml_class_scores_destroy(state);
}
