/* Among some random batches of a big set, the one most like the set:
 *
 *     cost = ||mean - mean'|| + ||std - std'|| + 75 (W(H, h) + W(h, H))
 *
 * over the components of embeddings; H and h are histograms of pairwise distances, over the big
 * set's range in 50 bins that sum to 1, and W the Wasserstein distance of the two sets of bin
 * heights. */
#include "samplers/disthist_batchmatch.h"

#include "base/memory.h"
#include "math/linear.h"
#include "samplers/matching.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BINS = DML_DISTHIST_BINS, OUTSIDE = BINS };

enum dml_status dml_disthist_open(struct dml_disthist *d, size_t count, size_t dim) {
    memset(d, 0, sizeof *d);
    d->count = count;
    d->dim = dim;
    d->mean = dml_alloc(4 * dim, sizeof *d->mean);
    d->distances = dml_alloc_aligned(count, count * sizeof *d->distances);
    d->bins = dml_alloc_aligned(count, count);
    if (!d->mean || !d->distances || !d->bins) {
        dml_disthist_close(d);
        return DML_ERROR_MEMORY;
    }
    d->deviation = d->mean + dim;
    d->batch_mean = d->deviation + dim;
    d->batch_deviation = d->batch_mean + dim;
    return DML_OK;
}

void dml_disthist_close(struct dml_disthist *d) {
    free(d->mean);
    free(d->distances);
    free(d->bins);
    memset(d, 0, sizeof *d);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Counts as shares, sorted: the Wasserstein distance of two sets of equally many values is the mean
 * difference of the sorted values, so that bins that swap their heights cost nothing. */
static void sorted_shares(const size_t counts[BINS + 1], double out[BINS]) {
    size_t total = 0;
    for (size_t b = 0; b < BINS; b++)
        total += counts[b];
    for (size_t b = 0; b < BINS; b++)
        out[b] = total ? (double)counts[b] / (double)total : 0;
    qsort(out, BINS, sizeof *out, by_value);
}

/* Bins of equal width as NumPy's histogram has them: the last one is closed, an edge belongs to the
 * bin above it, and a range of width 0 is widened by 0.5 to both sides. */
struct scale {
    double edges[BINS + 1], bins_per_unit;
};

static struct scale make_scale(double low, double high) {
    struct scale scale;
    if (!(high > low)) {
        low -= 0.5;
        high += 0.5;
    }
    for (int b = 0; b <= BINS; b++)
        scale.edges[b] = low + b * ((high - low) / BINS);
    scale.edges[BINS] = high;
    scale.bins_per_unit = BINS / (high - low);
    return scale;
}

static uint8_t bin_of(const struct scale *scale, double value) {
    if (!(value >= scale->edges[0]))
        return OUTSIDE;
    int bin = (int)((value - scale->edges[0]) * scale->bins_per_unit);
    bin = bin < BINS ? bin : BINS - 1;
    if (value < scale->edges[bin])
        bin--;
    else if (bin < BINS - 1 && value >= scale->edges[bin + 1])
        bin++;
    return (uint8_t)bin;
}

static void moments(const struct dml_disthist *d, const uint32_t *positions, size_t n, double *mean,
                    double *deviation) {
    size_t dim = d->dim;
    memset(mean, 0, dim * sizeof *mean);
    memset(deviation, 0, dim * sizeof *deviation);
    for (size_t i = 0; i < n; i++) {
        const double *row = d->x + (positions ? positions[i] : i) * dim;
        for (size_t k = 0; k < dim; k++)
            mean[k] += row[k] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        const double *row = d->x + (positions ? positions[i] : i) * dim;
        for (size_t k = 0; k < dim; k++)
            deviation[k] += (row[k] - mean[k]) * (row[k] - mean[k]);
    }
    for (size_t k = 0; k < dim; k++)
        deviation[k] = sqrt(deviation[k] / (double)n);
}

void dml_disthist_prepare(struct dml_disthist *d, const double *x) {
    size_t n = d->count, counts[BINS + 1] = {0};
    d->x = x;
    moments(d, NULL, n, d->mean, d->deviation);
    dml_self_distances2(x, n, d->dim, d->distances);
    double low = INFINITY, high = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        double *row = d->distances + i * n;
        for (size_t j = 0; j < i; j++) {
            row[j] = sqrt(row[j]);
            low = row[j] < low ? row[j] : low;
            high = row[j] > high ? row[j] : high;
        }
    }
    if (n < 2)
        low = high = 0;
    struct scale scale = make_scale(low, high);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < i; j++) {
            uint8_t bin = bin_of(&scale, d->distances[i * n + j]);
            counts[bin]++;
            d->bins[i * n + j] = d->bins[j * n + i] = bin;
        }
        d->bins[i * n + i] = bin_of(&scale, 0);
    }
    sorted_shares(counts, d->histogram);
}

static double norm_of_difference(const double *a, const double *b, size_t dim) {
    double sum = 0;
    for (size_t k = 0; k < dim; k++)
        sum += (a[k] - b[k]) * (a[k] - b[k]);
    return sqrt(sum);
}

double dml_disthist_cost(struct dml_disthist *d, const uint32_t *positions, size_t n) {
    size_t counts[BINS + 1] = {0};
    for (size_t i = 0; i < n; i++) {
        const uint8_t *row = d->bins + positions[i] * d->count;
        for (size_t j = 0; j < i; j++)
            counts[row[positions[j]]]++;
    }
    double shares[BINS], distance = 0;
    sorted_shares(counts, shares);
    for (int b = 0; b < BINS; b++)
        distance += fabs(shares[b] - d->histogram[b]) / BINS;
    moments(d, positions, n, d->batch_mean, d->batch_deviation);
    return norm_of_difference(d->mean, d->batch_mean, d->dim) +
           norm_of_difference(d->deviation, d->batch_deviation, d->dim) + 75 * 2 * distance;
}

static enum dml_status open_cost(size_t count, size_t dim, void **workspace) {
    struct dml_disthist *d = dml_alloc(1, sizeof *d);
    if (!d)
        return DML_ERROR_MEMORY;
    enum dml_status status = dml_disthist_open(d, count, dim);
    if (status)
        free(d);
    else
        *workspace = d;
    return status;
}

static void close_cost(void *workspace) {
    dml_disthist_close(workspace);
    free(workspace);
}

static enum dml_status prepare(void *workspace, const double *x) {
    dml_disthist_prepare(workspace, x);
    return DML_OK;
}

static enum dml_status cost(void *workspace, const uint32_t *positions, size_t n, double *out) {
    *out = dml_disthist_cost(workspace, positions, n);
    return DML_OK;
}

static enum dml_status plan(void *state, uint64_t epoch, const struct dml_store *store,
                            size_t batches, uint32_t *indices,
                            void (*progress)(void *data, size_t done), void *data) {
    static const struct dml_match_cost histogram_cost = {open_cost, close_cost, prepare, cost};
    return dml_matching_plan(&histogram_cost, state, epoch, store, batches, indices, progress,
                             data);
}

const struct dml_sampler dml_sampler_disthist_batchmatch = {
    .method = {.name = "disthist_batchmatch",
               .summary =
                   "Among some random batches, the one whose means, deviations and histogram of "
                   "distances are most like a big set's",
               .paper = "Roth et al. 2020, Revisiting training strategies and generalization "
                        "performance in deep metric learning"},
    .needs_store = true,
    .create = dml_matching_create,
    .plan = plan,
    .destroy = dml_planner_destroy,
};
