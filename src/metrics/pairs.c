/* Order statistics over all pairs of different classes.
 *
 * An interval that holds the key of a rank is narrowed: a pass over all pairs counts the keys below
 * it and those in each of its bins, the next looks at one bin only, until few enough are left to
 * be kept and sorted. Passes go over tiles of products in float32; keys are computed, in float64,
 * where an element may lie in the interval. The first interval comes from the elements themselves:
 * order statistics move by no more than the largest error of an element. */
#include "metrics/pairs.h"

#include "base/memory.h"
#include "math/linear.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TILE = 256, BINS = 1 << 14, MOST_KEPT = 1 << 20 };

/* What a pass does with the keys in [low, high]. */
enum work { SPREAD, COUNT, KEEP, LEAST, EXTREMES };

struct pass {
    enum work work;
    double low, high;
    uint64_t below;     /* keys */
    uint64_t *bins;     /* (BINS) SPREAD: of elements between SPREAD_LOW and SPREAD_HIGH; COUNT */
    double *ends;       /* (BINS, 2) COUNT: least and largest key of each bin */
    double *kept;       /* KEEP: shared by all threads, as is count */
    size_t *count;      /* how many are kept */
    double least, most; /* LEAST, EXTREMES */
};

static const double SPREAD_LOW = -2.125, SPREAD_HIGH = 0.125; /* norms of rows are below 1 */

static bool in_mask(const uint8_t *mask, size_t i) {
    return !mask || mask[i];
}

static size_t bin_of(double low, double high, double value) {
    double at = (value - low) / (high - low) * BINS;
    return at < 0 ? 0 : at < BINS ? (size_t)at : BINS - 1;
}

static double bin_start(double low, double high, size_t b) {
    return b == BINS ? high : low + (high - low) * ((double)b / BINS);
}

static void offer(struct pass *pass, double key) {
    if (key < pass->low) {
        pass->below++;
        return;
    }
    if (!(key <= pass->high))
        return;
    size_t b;
    switch (pass->work) {
    case COUNT:
        b = bin_of(pass->low, pass->high, key);
        pass->bins[b]++;
        pass->ends[2 * b] = fmin(pass->ends[2 * b], key);
        pass->ends[2 * b + 1] = fmax(pass->ends[2 * b + 1], key);
        break;
    case KEEP:
        pass->kept[__atomic_fetch_add(pass->count, 1, __ATOMIC_RELAXED)] = key;
        break;
    case LEAST: /* what is farther no longer matters */
        pass->least = pass->high = key;
        break;
    default:
        pass->least = fmin(pass->least, key);
        pass->most = fmax(pass->most, key);
    }
}

/* One row of a tile of products: a query against m rows of the gallery from `column` on. */
static void offer_row(const struct dml_pairs *pairs, struct pass *pass, size_t row, size_t column,
                      size_t m, const float *product) {
    const int32_t *class_of = pairs->in->class_of;
    const uint32_t *index = pairs->gallery.index + column;
    const float *other_half = pairs->gallery.half + column;
    uint32_t query = pairs->queries.index[row];
    double half = pairs->queries.half[row];
    for (size_t j = 0; j < m; j++) {
        if (class_of[query] == class_of[index[j]])
            continue;
        double u = (double)product[j] - other_half[j] - half;
        if (pass->work == SPREAD)
            pass->bins[bin_of(SPREAD_LOW, SPREAD_HIGH, u)]++;
        else if (u > -pass->low * pairs->unit + pairs->error)
            pass->below++;
        else if (u >= -pass->high * pairs->unit - pairs->error)
            offer(pass, dml_frame_key(&pairs->frame, query, index[j]));
    }
}

static void offer_tile(const struct dml_pairs *pairs, struct pass *pass, size_t job, float *tile) {
    const struct dml_rows *queries = &pairs->queries, *gallery = &pairs->gallery;
    size_t across = (gallery->n + TILE - 1) / TILE, dim = queries->dim;
    size_t row = job / across * TILE, column = job % across * TILE;
    size_t n = queries->n - row < TILE ? queries->n - row : TILE;
    size_t m = gallery->n - column < TILE ? gallery->n - column : TILE;
    dml_gemm_tile(n, m, dim, queries->x + row * dim, dim, gallery->x + column * dim, dim, tile,
                  TILE);
    for (size_t i = 0; i < n; i++)
        offer_row(pairs, pass, row + i, column, m, tile + i * TILE);
}

static enum dml_status offer_distances(const struct dml_pairs *pairs, struct pass *pass, size_t q,
                                       double *row) {
    const struct dml_metric_inputs *in = pairs->in;
    uint32_t query = pairs->queries.index[q];
    enum dml_status status = pairs->source->rows(pairs->source->data, &query, 1, row);
    for (size_t j = 0; !status && j < in->set->n; j++)
        if (in_mask(in->set->is_gallery, j) && in->class_of[j] != in->class_of[query])
            offer(pass, row[j]);
    return status;
}

static void merge(struct pass *pass, const struct pass *own) {
    pass->below += own->below;
    pass->least = fmin(pass->least, own->least);
    pass->most = fmax(pass->most, own->most);
    for (size_t b = 0; own->bins && b < BINS; b++) {
        pass->bins[b] += own->bins[b];
        if (own->ends) {
            pass->ends[2 * b] = fmin(pass->ends[2 * b], own->ends[2 * b]);
            pass->ends[2 * b + 1] = fmax(pass->ends[2 * b + 1], own->ends[2 * b + 1]);
        }
    }
}

static void empty_bins(double *ends) {
    for (size_t b = 0; b < BINS; b++) {
        ends[2 * b] = INFINITY;
        ends[2 * b + 1] = -INFINITY;
    }
}

static enum dml_status run(const struct dml_pairs *pairs, struct pass *pass) {
    size_t across = (pairs->gallery.n + TILE - 1) / TILE;
    size_t jobs = pairs->source ? pairs->queries.n : (pairs->queries.n + TILE - 1) / TILE * across;
    size_t doubles = pairs->source ? pairs->in->set->n : TILE * TILE;
    enum dml_status status = DML_OK;
#pragma omp parallel
    {
        struct pass own = *pass;
        own.below = 0;
        own.bins = pass->bins ? dml_alloc(BINS, sizeof *own.bins) : NULL;
        own.ends = pass->ends ? dml_alloc(2 * BINS, sizeof *own.ends) : NULL;
        double *work = dml_alloc_aligned(doubles, sizeof *work);
        enum dml_status failed = work && !own.bins == !pass->bins && !own.ends == !pass->ends
                                     ? DML_OK
                                     : DML_ERROR_MEMORY;
        if (own.ends)
            empty_bins(own.ends);
#pragma omp for schedule(dynamic, 1)
        for (size_t job = 0; job < jobs; job++) {
            if (!failed && pairs->source)
                failed = offer_distances(pairs, &own, job, work);
            else if (!failed)
                offer_tile(pairs, &own, job, (float *)work);
        }
#pragma omp critical
        if (failed)
            status = failed;
        else
            merge(pass, &own);
        free(own.bins);
        free(own.ends);
        free(work);
    }
    return status ? dml_fail(status, "distances could not be computed") : DML_OK;
}

/* The bin that holds rank `rank` of those counted; *before: how many are in bins before it. */
static size_t find_bin(const uint64_t *bins, uint64_t rank, uint64_t *before) {
    size_t b = 0;
    *before = 0;
    while (b + 1 < BINS && *before + bins[b] <= rank)
        *before += bins[b++];
    return b;
}

/* How many are in bins a..b, inclusive, as far as these exist. */
static uint64_t count_bins(const uint64_t *bins, long a, long b) {
    uint64_t count = 0;
    for (long i = a < 0 ? 0 : a; i <= b && i < BINS; i++)
        count += bins[i];
    return count;
}

/* An interval of keys that holds rank `rank`, and no more than *count keys. Where it is a single
 * value, `keys` are that value. */
static enum dml_status first_interval(const struct dml_pairs *pairs, uint64_t rank, uint64_t *bins,
                                      double *low, double *high, uint64_t *count, double keys[2]) {
    if (pairs->source) {
        struct pass pass = {.work = EXTREMES, .low = -INFINITY, .high = INFINITY};
        pass.least = INFINITY;
        pass.most = -INFINITY;
        enum dml_status status = run(pairs, &pass);
        *low = pass.least;
        *high = pass.most;
        *count = pairs->negatives;
        keys[0] = keys[1] = pass.least;
        return status;
    }
    memset(bins, 0, BINS * sizeof *bins);
    struct pass pass = {.work = SPREAD, .bins = bins};
    uint64_t before;
    enum dml_status status = run(pairs, &pass);
    /* Elements descend where keys ascend. */
    size_t b = find_bin(bins, pairs->negatives - 1 - rank, &before);
    double width = (SPREAD_HIGH - SPREAD_LOW) / BINS;
    long margin = (long)(2 * pairs->error / width) + 2;
    *low = -(bin_start(SPREAD_LOW, SPREAD_HIGH, b + 1) + pairs->error) / pairs->unit;
    *high = -(bin_start(SPREAD_LOW, SPREAD_HIGH, b) - pairs->error) / pairs->unit;
    *count = count_bins(bins, (long)b - margin, (long)b + margin);
    return status;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The key of the rank, out of the at most `count` in [low, high]; the next one too, or NaN where
 * that is beyond. */
static enum dml_status pick(const struct dml_pairs *pairs, uint64_t rank, double low, double high,
                            uint64_t count, double keys[2]) {
    size_t found = 0;
    struct pass pass = {.work = KEEP, .low = low, .high = high, .count = &found};
    pass.kept = dml_alloc(count, sizeof *pass.kept);
    enum dml_status status = pass.kept ? run(pairs, &pass) : DML_ERROR_MEMORY;
    if (!status) {
        size_t at = rank - pass.below;
        qsort(pass.kept, found, sizeof *pass.kept, ascending);
        keys[0] = pass.kept[at];
        keys[1] = at + 1 < found ? pass.kept[at + 1] : NAN;
    }
    free(pass.kept);
    return status;
}

/* Narrows the interval to one bin's keys, until they can be kept or are all equal. */
static enum dml_status search(const struct dml_pairs *pairs, uint64_t rank, uint64_t *bins,
                              double *ends, double keys[2]) {
    double low, high;
    uint64_t count, before;
    enum dml_status status = first_interval(pairs, rank, bins, &low, &high, &count, keys);
    while (!status && count > MOST_KEPT && low < high) {
        memset(bins, 0, BINS * sizeof *bins);
        empty_bins(ends);
        struct pass pass = {.work = COUNT, .low = low, .high = high, .bins = bins, .ends = ends};
        status = run(pairs, &pass);
        size_t b = find_bin(bins, rank - pass.below, &before);
        count = bins[b];
        low = ends[2 * b];
        high = ends[2 * b + 1];
        keys[0] = low;
        keys[1] = pass.below + before + count > rank + 1 ? low : NAN;
    }
    if (!status && low < high)
        status = pick(pairs, rank, low, high, count, keys);
    return status;
}

enum dml_status dml_pairs_order(const struct dml_pairs *pairs, uint64_t rank, double keys[2]) {
    uint64_t *bins = dml_alloc(BINS, sizeof *bins);
    double *ends = dml_alloc(2 * BINS, sizeof *ends);
    enum dml_status status =
        bins && ends ? search(pairs, rank, bins, ends, keys) : DML_ERROR_MEMORY;
    if (!status && rank + 1 >= pairs->negatives) {
        keys[1] = keys[0];
    } else if (!status && isnan(keys[1])) {
        struct pass pass = {.work = LEAST, .low = nextafter(keys[0], INFINITY), .high = INFINITY};
        pass.least = INFINITY;
        status = run(pairs, &pass);
        keys[1] = pass.least;
    }
    free(bins);
    free(ends);
    return status;
}

enum dml_status dml_pairs_count(const struct dml_pairs *pairs, double least, double *count,
                                double *far) {
    const struct dml_metric_inputs *in = pairs->in;
    const struct dml_evaluation_set *set = in->set;
    enum dml_status status = DML_OK;
#pragma omp parallel
    {
        double *row = pairs->source ? dml_alloc_aligned(set->n, sizeof *row) : NULL;
        enum dml_status failed = pairs->source && !row ? DML_ERROR_MEMORY : DML_OK;
#pragma omp for schedule(dynamic, 16)
        for (size_t q = 0; q < pairs->queries.n; q++) {
            uint32_t query = pairs->queries.index[q];
            int32_t class = in->class_of[query];
            size_t all = 0, beyond = 0;
            if (!failed && row)
                failed = pairs->source->rows(pairs->source->data, &query, 1, row);
            for (size_t r = in->class_start[class]; !failed && r < in->class_start[class + 1];
                 r++) {
                uint32_t j = in->by_class[r];
                if (j == query || !in_mask(set->is_gallery, j) ||
                    (set->groups && set->groups[j] == set->groups[query]))
                    continue;
                double key = row ? row[j] : dml_frame_key(&pairs->frame, query, j);
                all++;
                beyond += dml_pairs_distance(pairs, key) >= least;
            }
            count[query] = (double)all;
            far[query] = (double)beyond;
        }
        if (failed)
#pragma omp critical
            status = failed;
        free(row);
    }
    return status ? dml_fail(status, "distances could not be computed") : DML_OK;
}

double dml_pairs_distance(const struct dml_pairs *pairs, double key) {
    return pairs->squared ? sqrt(key) : key;
}

/* The rows of a mask, in sample order. */
static enum dml_status make_rows(const struct dml_pairs *pairs, const struct dml_side *side,
                                 const uint8_t *mask, struct dml_rows *out) {
    size_t n = pairs->in->set->n, count = 0;
    uint32_t *index = dml_alloc(n, sizeof *index);
    if (!index)
        return DML_ERROR_MEMORY;
    for (size_t i = 0; i < n; i++)
        if (in_mask(mask, i))
            index[count++] = (uint32_t)i;
    enum dml_status status = dml_rows_make(&pairs->frame, side, index, count, out);
    free(index);
    return status;
}

static uint64_t count_negatives(const struct dml_metric_inputs *in) {
    uint64_t count = (uint64_t)in->queries * in->gallery;
    for (size_t c = 0; c < in->classes; c++) {
        uint64_t queries = 0, gallery = 0;
        for (size_t r = in->class_start[c]; r < in->class_start[c + 1]; r++) {
            queries += in_mask(in->asked, in->by_class[r]);
            gallery += in_mask(in->set->is_gallery, in->by_class[r]);
        }
        count -= queries * gallery;
    }
    return count;
}

enum dml_status dml_pairs_open(const struct dml_metric_inputs *in, bool cosine,
                               struct dml_pairs *out) {
    const struct dml_evaluation_set *set = in->set;
    *out = (struct dml_pairs){
        .in = in,
        .source = cosine ? set->cosine_distances : set->euclidean_distances,
        .negatives = count_negatives(in),
    };
    out->squared = !cosine && !out->source;
    const struct dml_side gallery = {{set->embeddings, set->exact},
                                     cosine ? in->inverse_norms : NULL};
    const struct dml_side query = {{.wide = set->query_embeddings},
                                   cosine ? in->query_inverse_norms : NULL};
    enum dml_status status = dml_frame_make(&gallery, set->query_embeddings ? &query : NULL, set->n,
                                            set->dim, &out->frame);
    if (!status)
        status = make_rows(out, &out->frame.query, in->asked, &out->queries);
    if (!status)
        status = make_rows(out, &out->frame.gallery, set->is_gallery, &out->gallery);
    out->unit = dml_frame_unit(&out->frame);
    /* As in math/ranks.c, with norms of 1; a cosine's own rounding matters where unit is large. */
    out->error = ((double)set->dim + 32) * 0x1.02p-24;
    if (cosine)
        out->error += (double)set->dim * 0x1p-52 * out->unit;
    if (status)
        dml_pairs_close(out);
    return status;
}

void dml_pairs_close(struct dml_pairs *pairs) {
    dml_rows_free(&pairs->queries);
    dml_rows_free(&pairs->gallery);
    dml_frame_free(&pairs->frame);
}
