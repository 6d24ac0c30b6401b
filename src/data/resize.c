#include "data/resize.h"

#include "base/memory.h"
#include "data/resize_kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* How much wider the filter is than at its natural size. */
static double stretch_of(int from, int to) {
    double scale = (double)from / to;
    return scale > 1 ? scale : 1;
}

/* Where the filter, at its natural size, is not 0. */
static double reach_of(enum dml_interpolation interpolation) {
    return interpolation == DML_BICUBIC ? 2 : 1;
}

static double filter(enum dml_interpolation interpolation, double x) {
    const double a = -0.5;
    x = fabs(x);
    if (interpolation != DML_BICUBIC)
        return fmax(0, 1 - x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/* The input pixels under output pixel `at` when `from` pixels become `to`. */
static void range_of(enum dml_interpolation interpolation, int from, int to, int at, int *first,
                     int *end) {
    double support = reach_of(interpolation) * stretch_of(from, to);
    double center = (at + 0.5) * ((double)from / to);
    int low = (int)(center - support + 0.5), high = (int)(center + support + 0.5);
    *first = low > 0 ? low : 0;
    *end = high < from ? high : from;
}

struct dml_rect dml_scaling_needs(const struct dml_scaling *scaling) {
    const struct dml_rect *box = &scaling->box, *part = &scaling->part;
    int left, right, top, bottom, unused;
    range_of(scaling->interpolation, box->width, scaling->width, part->left, &left, &unused);
    range_of(scaling->interpolation, box->width, scaling->width, part->left + part->width - 1,
             &unused, &right);
    range_of(scaling->interpolation, box->height, scaling->height, part->top, &top, &unused);
    range_of(scaling->interpolation, box->height, scaling->height, part->top + part->height - 1,
             &unused, &bottom);
    return (struct dml_rect){box->left + left, box->top + top, right - left, bottom - top};
}

void dml_resizer_free(struct dml_resizer *resizer) {
    free(resizer->columns);
    free(resizer->rows);
    free(resizer->weights);
    dml_pixels_free(&resizer->between);
    dml_pixels_free(&resizer->spare);
    memset(resizer, 0, sizeof *resizer);
}

/* Fills taps for the outputs part_first..part_first+part_count-1; their inputs are counted from
 * `origin`. *used weights are there already. */
static enum dml_status make_taps(struct dml_resizer *resizer, void **taps, size_t *capacity,
                                 size_t *used, enum dml_interpolation interpolation, int from,
                                 int to, int part_first, int part_count, int origin) {
    double stretch = stretch_of(from, to), inverse = 1 / stretch, scale = (double)from / to;
    size_t most = DML_WEIGHT_GROUPS((size_t)ceil(reach_of(interpolation) * stretch) * 2 + 1) *
                  DML_WEIGHT_GROUP;
    void *weights = resizer->weights;
    enum dml_status status = dml_grow(taps, capacity, (size_t)part_count, sizeof(struct dml_taps));
    if (!status)
        status = dml_grow(&weights, &resizer->weight_capacity, *used + most * (size_t)part_count,
                          sizeof(int16_t));
    resizer->weights = weights;
    if (status)
        return status;
    struct dml_taps *tap = *taps;
    for (int i = 0; i < part_count; i++, tap++) {
        int first, end, at = part_first + i;
        range_of(interpolation, from, to, at, &first, &end);
        *tap = (struct dml_taps){origin + first, end - first, *used};
        size_t count = DML_WEIGHT_GROUPS((size_t)(end - first)) * DML_WEIGHT_GROUP;
        int16_t *out = resizer->weights + *used;
        memset(out, 0, count * sizeof *out);
        *used += count;
        double center = (at + 0.5) * scale, sum = 0;
        for (int k = first; k < end; k++)
            sum += filter(interpolation, (k - center + 0.5) * inverse);
        for (int k = first; k < end; k++) {
            double weight = filter(interpolation, (k - center + 0.5) * inverse);
            if (sum != 0)
                weight /= sum;
            weight *= 1 << DML_RESIZE_PRECISION;
            dml_weight_set(out, (size_t)(k - first),
                           (int32_t)(weight < 0 ? weight - 0.5 : 0.5 + weight));
        }
    }
    return DML_OK;
}

enum dml_status dml_resize(struct dml_resizer *resizer, const struct dml_scaling *scaling,
                           const struct dml_pixels *pixels, uint8_t *out) {
    const struct dml_rect *box = &scaling->box, *part = &scaling->part;
    struct dml_rect needs = dml_scaling_needs(scaling);
    size_t used = 0;
    enum dml_status status = make_taps(resizer, &resizer->columns, &resizer->column_capacity, &used,
                                       scaling->interpolation, box->width, scaling->width,
                                       part->left, part->width, box->left - pixels->rect.left);
    if (!status)
        status = make_taps(resizer, &resizer->rows, &resizer->row_capacity, &used,
                           scaling->interpolation, box->height, scaling->height, part->top,
                           part->height, box->top - needs.top);
    if (!status) /* one more pixel, for the extra byte that the last one writes */
        status = dml_pixels_reserve(&resizer->between,
                                    (struct dml_rect){0, 0, part->width + 1, needs.height});
    if (status)
        return status;

    const uint8_t *in = pixels->data + (size_t)(needs.top - pixels->rect.top) * pixels->stride;
    struct dml_pixels *between = &resizer->between;
    const struct dml_taps *rows = resizer->rows;
    dml_scale_columns(in, pixels->stride, between->data, between->stride, needs.height,
                      resizer->columns, resizer->weights, part->width, scaling->flip);
    size_t bytes = (size_t)part->width * 3;
    for (int i = 0; i < part->height; i++)
        dml_scale_row(between->data, between->stride, &rows[i], resizer->weights, bytes,
                      out + (size_t)i * bytes);
    return DML_OK;
}
