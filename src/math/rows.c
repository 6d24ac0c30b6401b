#include "math/rows.h"

#include "base/memory.h"
#include "math/linear.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Sums are taken over chunks of this many samples, so that they do not depend on threads. */
enum { CHUNK = 4096 };

static double scale_of(const struct dml_side *side, size_t i) {
    return side->inverse_norms ? side->inverse_norms[i] : 1.0;
}

static enum dml_status find_mean(struct dml_frame *frame) {
    size_t n = frame->n, dim = frame->dim, chunks = (n + CHUNK - 1) / CHUNK;
    double *sums = dml_alloc(chunks * dim, sizeof *sums);
    if (!sums)
        return DML_ERROR_MEMORY;
#pragma omp parallel for schedule(static)
    for (size_t c = 0; c < chunks; c++) {
        double *sum = sums + c * dim;
        size_t end = (c + 1) * CHUNK < n ? (c + 1) * CHUNK : n;
        for (size_t i = c * CHUNK; i < end; i++) {
            double scale = scale_of(&frame->gallery, i);
            for (size_t k = 0; k < dim; k++)
                sum[k] += dml_value(&frame->gallery.embeddings, i * dim + k) * scale;
        }
    }
    memset(frame->mean, 0, dim * sizeof *frame->mean);
    for (size_t c = 0; c < chunks; c++)
        for (size_t k = 0; k < dim; k++)
            frame->mean[k] += sums[c * dim + k];
    for (size_t k = 0; k < dim; k++)
        frame->mean[k] /= (double)n;
    free(sums);
    return DML_OK;
}

static double longest_norm2(const struct dml_frame *frame, const struct dml_side *side) {
    size_t n = frame->n, dim = frame->dim;
    double longest = 0;
#pragma omp parallel for reduction(max : longest)
    for (size_t i = 0; i < n; i++) {
        double sum = 0, scale = scale_of(side, i);
        for (size_t k = 0; k < dim; k++) {
            double value = dml_value(&side->embeddings, i * dim + k) * scale - frame->mean[k];
            sum += value * value;
        }
        longest = fmax(longest, sum);
    }
    return longest;
}

enum dml_status dml_frame_make(const struct dml_side *gallery, const struct dml_side *query,
                               size_t n, size_t dim, struct dml_frame *out) {
    *out = (struct dml_frame){
        .n = n, .dim = dim, .gallery = *gallery, .query = query ? *query : *gallery, .scale = 1};
    out->mean = dml_alloc(dim, sizeof *out->mean);
    enum dml_status status = out->mean ? find_mean(out) : DML_ERROR_MEMORY;
    if (status) {
        dml_frame_free(out);
        return status;
    }
    double longest = longest_norm2(out, &out->gallery);
    if (query)
        longest = fmax(longest, longest_norm2(out, &out->query));
    int exponent = 0;
    if (longest > 0)
        frexp(sqrt(longest), &exponent);
    out->scale = ldexp(1.0, -exponent);
    return DML_OK;
}

void dml_frame_free(struct dml_frame *frame) {
    free(frame->mean);
    memset(frame, 0, sizeof *frame);
}

/* 1 - cosine as half the squared distance of the unit vectors, which tells apart directions that
 * differ by much less than the square root of float64's precision. */
static double unit_distance(const double *x, double x_scale, const double *y, double y_scale,
                            size_t dim) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t k = 0; k < dim; k++) {
        double difference = x[k] * x_scale - y[k] * y_scale;
        sum += difference * difference;
    }
    return sum / 2;
}

double dml_frame_key(const struct dml_frame *frame, uint32_t a, uint32_t b) {
    const struct dml_values *x = &frame->query.embeddings, *y = &frame->gallery.embeddings;
    size_t dim = frame->dim;
    if (!frame->gallery.inverse_norms)
        return dml_values_distance2(x, a * dim, y, b * dim, dim);
    double own = frame->query.inverse_norms[a], other = frame->gallery.inverse_norms[b];
    if (x->wide && y->wide)
        return unit_distance(x->wide + a * dim, own, y->wide + b * dim, other, dim);
    return 1.0 - dml_values_dot(x, a * dim, y, b * dim, dim) * (own * other);
}

double dml_frame_unit(const struct dml_frame *frame) {
    return frame->scale * frame->scale * (frame->gallery.inverse_norms ? 1.0 : 0.5);
}

enum dml_status dml_rows_make(const struct dml_frame *frame, const struct dml_side *side,
                              const uint32_t *index, size_t n, struct dml_rows *out) {
    size_t dim = frame->dim;
    *out = (struct dml_rows){.n = n, .dim = dim};
    out->x = dml_alloc_aligned(n * dim, sizeof *out->x);
    out->half = dml_alloc_aligned(n, sizeof *out->half);
    out->norm = dml_alloc_aligned(n, sizeof *out->norm);
    out->index = dml_alloc_aligned(n, sizeof *out->index);
    if (!out->x || !out->half || !out->norm || !out->index) {
        dml_rows_free(out);
        return DML_ERROR_MEMORY;
    }
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++) {
        size_t from = index[i] * dim;
        float *to = out->x + i * dim;
        double scale = scale_of(side, index[i]), norm2;
        for (size_t k = 0; k < dim; k++)
            to[k] = (float)((dml_value(&side->embeddings, from + k) * scale - frame->mean[k]) *
                            frame->scale);
        norm2 = dml_dot(to, to, dim);
        out->half[i] = (float)(norm2 / 2);
        out->norm[i] = (float)sqrt(norm2);
        out->index[i] = index[i];
    }
    return DML_OK;
}

void dml_rows_free(struct dml_rows *rows) {
    free(rows->x);
    free(rows->half);
    free(rows->norm);
    free(rows->index);
    memset(rows, 0, sizeof *rows);
}
