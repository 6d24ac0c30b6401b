#include "criteria/pairwise.h"

#include "base/memory.h"
#include "criteria/similarities.h"
#include "math/gram.h"
#include "math/linear.h"
#include "math/products.h"
#include "math/reduce.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { WORK = 8 }; /* floats of work per column */

/* Squared distances below this share of the squared norms cancel: they are computed from the
 * differences, and so is their gradient. */
static const double NEAR = 1e-3, SAME = 1e-10;

static bool lay_out(struct dml_pairwise *p, const struct dml_batch *batch) {
    size_t n = batch->n, m = batch->reference ? batch->reference->n : n, dim = batch->dim;
    size_t threads = (size_t)omp_get_max_threads();
    size_t doubles = 2 * n + m + (p->narrow ? 0 : (n + m) * dim + n * m);
    size_t packed = dml_product_workspace(dim, m);
    size_t floats = n * m + n * dim + m * dim + n + threads * WORK * m + packed;
    size_t size = doubles * sizeof(double) + (floats + 2 * n) * sizeof(float) + n * m;
    double *memory = dml_buffer_reserve(&p->memory, size, 1);
    if (!memory)
        return false;
    p->n = n;
    p->m = m;
    p->dim = dim;
    p->mutual = !batch->reference;
    p->losses = memory;
    p->sx = p->losses + n;
    p->sy = p->sx + n;
    p->s = p->narrow ? NULL : p->sy + m;
    p->x = p->narrow ? NULL : p->s + n * m;
    p->y = p->narrow ? NULL : p->x + n * dim;
    p->g = (float *)(memory + doubles);
    p->units = p->g + n * m;
    p->floats = p->units + n * dim;
    p->norms = p->floats + m * dim;
    p->rows = p->norms + n;
    p->packed = p->rows + threads * WORK * m;
    p->positives = (uint32_t *)(p->packed + packed);
    p->negatives = p->positives + n;
    p->relation = (uint8_t *)(p->negatives + n);
    return true;
}

static void relate_by_labels(struct dml_pairwise *p, const struct dml_batch *batch) {
    const int32_t *columns = p->mutual ? batch->labels : batch->reference->labels;
#pragma omp parallel for if (p->n * p->m > 20000)
    for (size_t i = 0; i < p->n; i++) {
        uint8_t *row = p->relation + i * p->m;
        const int32_t label = batch->labels[i];
        uint32_t alike = 0;
#pragma omp simd
        for (size_t j = 0; j < p->m; j++)
            row[j] = columns[j] == label ? DML_POSITIVE : DML_NEGATIVE;
        for (size_t j = 0; j < p->m; j++)
            alike += columns[j] == label;
        long long self = p->mutual               ? (long long)i
                         : batch->reference->own ? batch->reference->own[i]
                                                 : -1;
        p->negatives[i] = (uint32_t)p->m - alike;
        if (self >= 0) {
            row[self] = DML_UNRELATED;
            alike -= columns[self] == label;
            p->negatives[i] -= columns[self] != label;
        }
        p->positives[i] = alike;
    }
}

static void relate_pairs(struct dml_pairwise *p, const struct dml_pairs *pairs,
                         enum dml_relation relation, uint32_t *counts) {
    for (size_t t = 0; t < pairs->count; t++) {
        uint8_t *at = p->relation + (size_t)pairs->anchors[t] * p->m + pairs->others[t];
        counts[pairs->anchors[t]] += *at != relation;
        *at = (uint8_t)relation;
    }
}

static void relate(struct dml_pairwise *p, const struct dml_batch *batch,
                   const struct dml_tuples *tuples) {
    if (!tuples) {
        relate_by_labels(p, batch);
        return;
    }
    memset(p->relation, DML_UNRELATED, p->n * p->m);
    memset(p->positives, 0, p->n * sizeof *p->positives);
    memset(p->negatives, 0, p->n * sizeof *p->negatives);
    relate_pairs(p, &tuples->positive_pairs, DML_POSITIVE, p->positives);
    relate_pairs(p, &tuples->negative_pairs, DML_NEGATIVE, p->negatives);
}

/* Rows in float64, of length 1 where `unit`, shifted, and their squared norms. */
static void take_rows(const float *from, size_t count, size_t dim, bool unit, double shift,
                      double *to, double *squares) {
#pragma omp parallel for if (count * dim > 100000)
    for (size_t i = 0; i < count; i++) {
        const float *row = from + i * dim;
        double square = dml_dot(row, row, dim), norm = sqrt(square), *out = to + i * dim;
        double scale = !unit ? 1 : norm < 1e-12 ? 0 : 1 / norm;
#pragma omp simd
        for (size_t k = 0; k < dim; k++)
            out[k] = scale * row[k] + shift;
        square *= scale * scale;
        if (shift != 0) {
            square = 0;
            for (size_t k = 0; k < dim; k++)
                square += out[k] * out[k];
        }
        squares[i] = square;
    }
}

static enum dml_status start(struct dml_pairwise *p, const struct dml_batch *batch,
                             const struct dml_tuples *tuples, bool unit) {
    p->narrow = false;
    if (!lay_out(p, batch))
        return DML_ERROR_MEMORY;
    p->unit = unit;
    take_rows(batch->embeddings, p->n, p->dim, unit, p->mutual ? 0 : p->shift, p->x, p->sx);
    if (p->mutual) {
        p->y = p->x;
        memcpy(p->sy, p->sx, p->n * sizeof *p->sy);
    } else {
        take_rows(batch->reference->embeddings, p->m, p->dim, unit, 0, p->y, p->sy);
    }
    if (unit)
        dml_units_forward(batch->embeddings, p->n, p->dim, p->units, p->norms);
#pragma omp simd
    for (size_t k = 0; k < p->m * p->dim; k++)
        p->floats[k] = (float)p->y[k];
    if (p->mutual)
        dml_gram64(p->x, p->n, p->dim, p->s);
    else
        dml_gemm64(0, 1, p->n, p->m, p->dim, 1, p->x, p->dim, p->y, p->dim, 0, p->s, p->m);
    memset(p->g, 0, p->n * p->m * sizeof *p->g);
    relate(p, batch, tuples);
    return DML_OK;
}

enum dml_status dml_pairwise_cosines(struct dml_pairwise *p, const struct dml_batch *batch,
                                     const struct dml_tuples *tuples) {
    enum dml_status status = start(p, batch, tuples, true);
    for (size_t i = 0; !status && p->mutual && i < p->n; i++)
        p->s[i * p->m + i] = 1;
    return status;
}

enum dml_status dml_pairwise_narrow_cosines(struct dml_pairwise *p, const struct dml_batch *batch,
                                            const struct dml_tuples *tuples, double slope) {
    if (batch->reference || slope > DML_NARROW_MOST)
        return dml_pairwise_cosines(p, batch, tuples);
    p->narrow = true;
    if (!lay_out(p, batch))
        return DML_ERROR_MEMORY;
    p->unit = true;
    dml_units_forward(batch->embeddings, p->n, p->dim, p->units, p->norms);
    memcpy(p->floats, p->units, p->n * p->dim * sizeof *p->floats);
    memset(p->g, 0, p->n * p->m * sizeof *p->g);
    relate(p, batch, tuples);
    return dml_inner_products(&p->products, p->units, p->n, p->dim, slope);
}

const double *dml_pairwise_row_of(const struct dml_pairwise *p, size_t i, float *work) {
    if (!p->narrow)
        return p->s + i * p->m;
    double *cosines = (double *)(work + (WORK - 2) * p->m);
    const double *row = dml_inner_products_row(&p->products, i, cosines);
    if (row == cosines)
        cosines[i] = 1;
    return row;
}

static double near_distance2(const struct dml_pairwise *p, size_t i, size_t j) {
    double sum = 0;
    for (size_t k = 0; k < p->dim; k++) {
        double difference = p->x[i * p->dim + k] - p->y[j * p->dim + k];
        sum += difference * difference;
    }
    return sum;
}

enum dml_status dml_pairwise_distances(struct dml_pairwise *p, const struct dml_batch *batch,
                                       const struct dml_tuples *tuples, bool unit) {
    enum dml_status status = start(p, batch, tuples, unit);
    if (status)
        return status;
#pragma omp parallel for if (p->n * p->m > 20000)
    for (size_t i = 0; i < p->n; i++) {
        double *row = p->s + i * p->m;
        const double *sy = p->sy, own = p->sx[i];
        int same = 0;
#pragma omp simd reduction(| : same)
        for (size_t j = 0; j < p->m; j++) {
            double d2 = own + sy[j] - 2 * row[j];
            same |= !(d2 > SAME * (own + sy[j]));
            row[j] = d2;
        }
        for (size_t j = 0; same && j < p->m; j++)
            if (!(row[j] > SAME * (own + sy[j])))
                row[j] = near_distance2(p, i, j);
#pragma omp simd
        for (size_t j = 0; j < p->m; j++)
            row[j] = sqrt(row[j]);
        if (p->mutual)
            row[i] = 0;
    }
    return DML_OK;
}

void dml_pairwise_cosines_backward(struct dml_pairwise *p, double scale, float *grad) {
    size_t n = p->n, m = p->m, dim = p->dim;
    for (size_t i = 0; p->mutual && i < n; i++)
        p->g[i * m + i] = 0;
    if (p->mutual)
        dml_fold(p->g, n);
    dml_product(0, 0, n, dim, m, p->g, m, p->floats, dim, NULL, grad, dim, p->packed);
    const float factor = (float)scale;
    for (size_t k = 0; k < n * dim; k++)
        grad[k] *= factor;
    dml_units_backward(p->units, p->norms, n, dim, grad);
}

/* Row i: samples that nearly coincide pull on each other one by one; their weight in g becomes
 * 0. */
static void pull_near(struct dml_pairwise *p, size_t i, float *grad) {
    size_t m = p->m, dim = p->dim;
    float *g = p->g + i * m, *to = grad + i * dim;
    const double *s = p->s + i * m, *sy = p->sy, own = p->sx[i];
    int near = 0;
#pragma omp simd reduction(| : near)
    for (size_t j = 0; j < m; j++) {
        g[j] = s[j] > 0 ? g[j] : 0;
        near |= g[j] != 0 && s[j] * s[j] <= NEAR * (own + sy[j]);
    }
    for (size_t j = 0; near && j < m; j++) {
        if (g[j] == 0 || s[j] * s[j] > NEAR * (own + sy[j]))
            continue;
        double weight = g[j] / s[j];
        for (size_t k = 0; k < dim; k++)
            to[k] -= (float)(weight * (p->x[i * dim + k] - p->y[j * dim + k]));
        g[j] = 0;
    }
}

void dml_pairwise_distances_backward(struct dml_pairwise *p, double scale, float *grad) {
    size_t n = p->n, m = p->m, dim = p->dim;
    if (p->mutual)
        dml_fold(p->g, n);
    memset(grad, 0, n * dim * sizeof *grad);
#pragma omp parallel for if (n * m > 20000)
    for (size_t i = 0; i < n; i++) {
        float *g = p->g + i * m;
        const double *s = p->s + i * m, *x = p->x + i * dim;
        double sum = 0;
        pull_near(p, i, grad);
#pragma omp simd reduction(+ : sum)
        for (size_t j = 0; j < m; j++) {
            g[j] = (float)(g[j] == 0 ? 0 : g[j] / s[j]);
            sum += g[j];
        }
#pragma omp simd
        for (size_t k = 0; k < dim; k++)
            grad[i * dim + k] -= (float)(sum * x[k]);
    }
    const struct dml_product_start sum = {.matrix = grad, .ld = dim};
    dml_product(0, 0, n, dim, m, p->g, m, p->floats, dim, &sum, grad, dim, p->packed);
    const float factor = (float)-scale;
    for (size_t k = 0; k < n * dim; k++)
        grad[k] *= factor;
    if (p->unit)
        dml_units_backward(p->units, p->norms, n, dim, grad);
}

float *dml_pairwise_work(const struct dml_pairwise *p) {
    return p->rows + (size_t)omp_get_thread_num() * WORK * p->m;
}

double dml_pairwise_sum(struct dml_pairwise *p, dml_pairwise_row row, const void *options) {
#pragma omp parallel for schedule(dynamic, 4) if (p->n * p->m > 2000)
    for (size_t i = 0; i < p->n; i++)
        p->losses[i] = row(options, p, i, dml_pairwise_work(p));
    double sum = 0;
    for (size_t i = 0; i < p->n; i++)
        sum += p->losses[i];
    return sum;
}

size_t dml_pairwise_count(const struct dml_pairwise *p, enum dml_relation relation) {
    const uint32_t *counts = relation == DML_POSITIVE ? p->positives : p->negatives;
    size_t sum = 0;
    for (size_t i = 0; i < p->n; i++)
        sum += counts[i];
    return sum;
}

size_t dml_pairwise_anchors(const struct dml_pairwise *p, bool both) {
    size_t count = 0;
    for (size_t i = 0; i < p->n; i++)
        count += p->positives[i] > 0 && (!both || p->negatives[i] > 0);
    return count;
}

double dml_row_lse(const uint8_t *relations, enum dml_relation relation, size_t m, const double *z,
                   float *e) {
    const uint8_t wanted = (uint8_t)relation;
    double most = -INFINITY, sum = 0;
#pragma omp simd reduction(max : most)
    for (size_t j = 0; j < m; j++) {
        double value = relations[j] == wanted ? z[j] : -INFINITY;
        most = value > most ? value : most;
    }
    if (most == -INFINITY) {
        memset(e, 0, m * sizeof *e);
        return most;
    }
#pragma omp simd
    for (size_t j = 0; j < m; j++) {
        float value = dml_expf((float)(relations[j] == wanted ? z[j] - most : -1e4));
        e[j] = relations[j] == wanted ? value : 0.0f;
    }
#pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < m; j++)
        sum += e[j];
    float scale = (float)(1 / sum);
    for (size_t j = 0; j < m; j++)
        e[j] *= scale;
    return most + log(sum);
}

void dml_row_signs(const uint8_t *relations, size_t m, float *signs) {
#pragma omp simd
    for (size_t j = 0; j < m; j++)
        signs[j] = (float)((relations[j] == DML_POSITIVE) - (relations[j] == DML_NEGATIVE));
}

/* e_j = exp(z_j - shift of its relation). */
static void relative_exponentials(const float *signs, size_t m, const double *z, double positive,
                                  double negative, float *e) {
    if (positive == negative) {
#pragma omp simd
        for (size_t j = 0; j < m; j++)
            e[j] = (float)(z[j] - positive);
    } else {
#pragma omp simd
        for (size_t j = 0; j < m; j++)
            e[j] = (float)(z[j] - (signs[j] > 0 ? positive : negative));
    }
#pragma omp simd
    for (size_t j = 0; j < m; j++) {
        float value = dml_expf(e[j]);
        e[j] = signs[j] != 0 ? value : 0.0f;
    }
}

/* The largest number of each sign, -INFINITY where there is none. */
static void largest_by_sign(const float *x, const float *signs, size_t m, double *positive,
                            double *negative) {
    const int32_t none = dml_order(-INFINITY);
    int32_t most_positive = none, most_negative = none;
    for (size_t j = 0; j < m; j++) {
        int32_t order = dml_order(x[j]);
        int32_t if_positive = signs[j] > 0 ? order : none,
                if_negative = signs[j] < 0 ? order : none;
        most_positive = if_positive > most_positive ? if_positive : most_positive;
        most_negative = if_negative > most_negative ? if_negative : most_negative;
    }
    *positive = dml_from_order(most_positive);
    *negative = dml_from_order(most_negative);
}

struct dml_row_lses dml_row_lse_both(const uint8_t *relations, size_t m, const double *z, float *e,
                                     float *signs) {
    const double apart = 30; /* nearer, exponentials with one shift are normal numbers for both */
    double of_positives, of_negatives, positives, negatives;
    dml_row_signs(relations, m, signs);
#pragma omp simd
    for (size_t j = 0; j < m; j++)
        e[j] = (float)z[j];
    largest_by_sign(e, signs, m, &of_positives, &of_negatives);
    if (fabs(of_positives - of_negatives) < apart) /* false where there is only one relation */
        of_positives = of_negatives = fmax(of_positives, of_negatives);
    relative_exponentials(signs, m, z, of_positives, of_negatives, e);
    dml_sum_by_sign(e, signs, m, &positives, &negatives);
    return (struct dml_row_lses){of_positives,
                                 positives,
                                 of_negatives,
                                 negatives,
                                 positives > 0 ? (float)(1 / positives) : 0,
                                 negatives > 0 ? (float)(1 / negatives) : 0};
}

struct dml_hinge dml_pairwise_hinge(const struct dml_pairwise *p, enum dml_relation relation,
                                    double margin, double sign) {
    struct dml_hinge hinge = {0};
    double sum = 0;
    for (size_t k = 0; k < p->n * p->m; k++) {
        double term = sign * (p->s[k] - margin);
        bool above = p->relation[k] == relation && term > 0;
        sum += above ? term : 0;
        hinge.active += above;
    }
    if (hinge.active) {
        hinge.share = 1 / (double)hinge.active;
        hinge.mean = sum * hinge.share;
    }
    return hinge;
}

void dml_pairwise_hinge_backward(struct dml_pairwise *p, enum dml_relation relation, double margin,
                                 double sign, double weight) {
    const float slope = (float)(sign * weight);
    for (size_t k = 0; k < p->n * p->m; k++)
        p->g[k] += p->relation[k] == relation && sign * (p->s[k] - margin) > 0 ? slope : 0;
}

static size_t divisor(const struct dml_pairwise *p, enum dml_pairwise_over over) {
    switch (over) {
    case DML_OVER_ANCHORS:
    case DML_OVER_ANCHORS_WITH_BOTH:
        return dml_pairwise_anchors(p, over == DML_OVER_ANCHORS_WITH_BOTH);
    case DML_OVER_POSITIVE_PAIRS:
        return dml_pairwise_count(p, DML_POSITIVE);
    case DML_OVER_SAMPLES:
        break;
    }
    return p->n;
}

/* From similarities to gradients. */
static enum dml_status run(struct dml_pairwise_state *state, const struct dml_batch *batch,
                           enum dml_pairwise_measure measure, enum dml_pairwise_over over,
                           dml_pairwise_row row, float *grad, struct dml_loss *loss) {
    struct dml_pairwise *p = &state->pairs;
    size_t count = divisor(p, over);
    dml_loss_none(batch, count, grad, loss);
    if (count == 0)
        return DML_OK;
    loss->value = dml_pairwise_sum(p, row, state->options) / (double)count;
    for (size_t i = 0; i < p->n; i++)
        if (p->losses[i] > 0)
            loss->active += over == DML_OVER_POSITIVE_PAIRS ? p->positives[i] : 1;
    if (measure == DML_COSINES)
        dml_pairwise_cosines_backward(p, 1 / (double)count, grad);
    else
        dml_pairwise_distances_backward(p, 1 / (double)count, grad);
    return DML_OK;
}

enum dml_status dml_pairwise_step(struct dml_pairwise_state *state, const struct dml_batch *batch,
                                  const struct dml_tuples *tuples,
                                  enum dml_pairwise_measure measure, enum dml_pairwise_over over,
                                  dml_pairwise_row row, float *grad, struct dml_loss *loss) {
    enum dml_status status = measure == DML_COSINES
                                 ? dml_pairwise_cosines(&state->pairs, batch, tuples)
                                 : dml_pairwise_distances(&state->pairs, batch, tuples, true);
    return status ? status : run(state, batch, measure, over, row, grad, loss);
}

enum dml_status dml_pairwise_narrow_step(struct dml_pairwise_state *state,
                                         const struct dml_batch *batch,
                                         const struct dml_tuples *tuples, double slope,
                                         enum dml_pairwise_over over, dml_pairwise_row row,
                                         float *grad, struct dml_loss *loss) {
    enum dml_status status = dml_pairwise_narrow_cosines(&state->pairs, batch, tuples, slope);
    return status ? status : run(state, batch, DML_COSINES, over, row, grad, loss);
}

void dml_pairwise_free(struct dml_pairwise *p) {
    dml_inner_products_free(&p->products);
    dml_buffer_free(&p->memory);
}

enum dml_status dml_pairwise_create(const void *options,
                                    const struct dml_criterion_context *context, void **out) {
    (void)context;
    return dml_pairwise_new(sizeof(struct dml_pairwise_state), options, out);
}

enum dml_status dml_pairwise_new(size_t size, const void *options, void **out) {
    struct dml_pairwise_state *state = dml_alloc(1, size);
    if (!state)
        return DML_ERROR_MEMORY;
    state->options = options;
    *out = state;
    return DML_OK;
}

void dml_pairwise_destroy(void *data) {
    struct dml_pairwise_state *state = data;
    if (state)
        dml_pairwise_free(&state->pairs);
    free(state);
}
