#include "criteria/similarities.h"

#include "math/gram.h"
#include "math/linear.h"
#include "math/transcendental.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum { ROOM = 2 }; /* doubles of room a column */

enum dml_status dml_similarities_forward(struct dml_similarities *s, const struct dml_batch *batch,
                                         size_t tuples) {
    size_t n = batch->n, dim = batch->dim, threads = (size_t)omp_get_max_threads();
    size_t doubles = n * dim + n * n + threads * ROOM * n, floats = n * n + n * dim;
    double *memory = dml_buffer_reserve(&s->memory, 2 * doubles + floats + n + tuples,
                                        sizeof(float)); /* as laid out below */
    if (!memory)
        return DML_ERROR_MEMORY;
    s->n = n;
    s->dim = dim;
    s->embeddings = batch->embeddings;
    s->s = memory;
    s->x = s->s + n * n;
    s->rows = s->x + n * dim;
    s->g = (float *)(s->rows + threads * ROOM * n);
    s->back = s->g + n * n;
    s->first = (uint32_t *)(s->back + n * dim);
    s->next = s->first + n;
    for (size_t i = 0; i < n * dim; i++)
        s->x[i] = batch->embeddings[i];
    dml_gram64(s->x, n, dim, s->s);
    memset(s->g, 0, n * n * sizeof *s->g);
    return DML_OK;
}

void dml_similarities_group(struct dml_similarities *s, const int32_t *samples, size_t count) {
    for (size_t i = 0; i < s->n; i++)
        s->first[i] = DML_NO_TUPLE;
    for (size_t t = count; t-- > 0;) {
        s->next[t] = s->first[samples[t]];
        s->first[samples[t]] = (uint32_t)t;
    }
}

double *dml_similarities_room(const struct dml_similarities *s) {
    return s->rows + (size_t)omp_get_thread_num() * ROOM * s->n;
}

enum { TILE = 32 };

void dml_fold(float *m, size_t n) {
#pragma omp parallel for schedule(dynamic, 1) if (n > 100)
    for (size_t row = 0; row < n; row += TILE)
        for (size_t column = 0; column <= row; column += TILE)
            for (size_t i = row; i < n && i < row + TILE; i++)
                for (size_t j = column; j <= i && j < column + TILE; j++) {
                    float sum = m[i * n + j] + m[j * n + i];
                    m[i * n + j] = sum;
                    m[j * n + i] = sum;
                }
}

float *dml_similarities_backward(struct dml_similarities *s) {
    dml_fold(s->g, s->n);
    dml_gemm(0, 0, s->n, s->dim, s->n, 1, s->g, s->n, s->embeddings, s->dim, 0, s->back, s->dim);
    return s->back;
}

double dml_softplus_negatives(const int32_t *labels, int32_t label, size_t n, const double *x,
                              float *e) {
    double most = 0, sum = 0;
#pragma omp simd reduction(max : most)
    for (size_t j = 0; j < n; j++) {
        double value = labels[j] != label ? x[j] : 0;
        most = value > most ? value : most;
    }
#pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < n; j++) {
        float value = dml_expf((float)(labels[j] != label ? x[j] - most : 0));
        e[j] = labels[j] != label ? value : 0.0f;
        sum += e[j];
    }
    double value = most == 0 ? log1p(sum) : most + log(exp(-most) + sum);
    float scale = (float)exp(most - value);
    for (size_t j = 0; j < n; j++)
        e[j] *= scale;
    return value;
}

void dml_similarities_free(struct dml_similarities *s) {
    dml_buffer_free(&s->memory);
    *s = (struct dml_similarities){0};
}
