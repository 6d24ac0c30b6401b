/* What metrics share, prepared once: classes, statistics, and per space ranks and a clustering. */
#include "metrics/evaluator.h"

#include "base/memory.h"
#include "math/kmeans.h"
#include "math/linear.h"
#include "math/ranks.h"
#include "math/spectrum.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool in_mask(const uint8_t *mask, size_t i) {
    return !mask || mask[i];
}

static int ascending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static enum dml_status check_finite(const struct dml_evaluation_set *set) {
    size_t bad = 0, first = SIZE_MAX;
#pragma omp parallel for reduction(+ : bad) reduction(min : first)
    for (size_t i = 0; i < set->n; i++) {
        const float *x = set->embeddings + i * set->dim;
        int finite = 1;
#pragma omp simd reduction(& : finite)
        for (size_t k = 0; k < set->dim; k++)
            finite &= fabsf(x[k]) < INFINITY;
        bad += !finite;
        if (!finite && i < first)
            first = i;
    }
    if (bad)
        return dml_fail(DML_ERROR_INPUT,
                        "embeddings: %zu of %zu hold NaN or infinite values, the first is number "
                        "%zu (from 0)",
                        bad, set->n, first);
    return DML_OK;
}

/* Orders samples by label, then index; numbers the labels. */
static enum dml_status number_classes(const struct dml_evaluation_set *set,
                                      struct dml_prepared *p) {
    size_t n = set->n, classes = 0;
    uint64_t *keys = dml_alloc(n, sizeof *keys);
    p->by_class = dml_alloc(n, sizeof *p->by_class);
    p->class_of = dml_alloc(n, sizeof *p->class_of);
    p->class_start = dml_alloc(n + 1, sizeof *p->class_start);
    if (!keys || !p->by_class || !p->class_of || !p->class_start) {
        free(keys);
        return DML_ERROR_MEMORY;
    }
    for (size_t i = 0; i < n; i++)
        keys[i] = (uint64_t)((uint32_t)set->labels[i] ^ 0x80000000u) << 32 | i;
    qsort(keys, n, sizeof *keys, ascending);
    for (size_t r = 0; r < n; r++) {
        if (r == 0 || keys[r] >> 32 != keys[r - 1] >> 32)
            p->class_start[classes++] = r;
        p->by_class[r] = (uint32_t)keys[r];
        p->class_of[p->by_class[r]] = (int32_t)(classes - 1);
    }
    p->class_start[classes] = n;
    free(keys);
    p->inputs.classes = classes;
    p->inputs.class_of = p->class_of;
    p->inputs.class_start = p->class_start;
    p->inputs.by_class = p->by_class;
    return DML_OK;
}

/* In a set with masks, a class that is asked for must be in the gallery. */
static enum dml_status check_masks(const struct dml_evaluation_set *set, struct dml_prepared *p) {
    for (size_t i = 0; i < set->n; i++) {
        p->inputs.queries += in_mask(set->is_query, i);
        p->inputs.gallery += in_mask(set->is_gallery, i);
    }
    if (p->inputs.queries == 0)
        return dml_fail(DML_ERROR_INPUT, "the set has no query");
    if (p->inputs.gallery == 0)
        return dml_fail(DML_ERROR_INPUT, "the set has an empty gallery");
    if (!set->is_query && !set->is_gallery)
        return DML_OK;
    for (size_t c = 0; c < p->inputs.classes; c++) {
        size_t query = SIZE_MAX, gallery = 0, lone = SIZE_MAX;
        for (size_t r = p->class_start[c]; r < p->class_start[c + 1]; r++) {
            size_t i = p->by_class[r];
            if (query == SIZE_MAX && in_mask(set->is_query, i))
                query = i;
            gallery += in_mask(set->is_gallery, i);
            lone = i;
        }
        if (query != SIZE_MAX && gallery == 0)
            return dml_fail(DML_ERROR_INPUT,
                            "class %d of query %zu has no sample in the gallery (empty class)",
                            (int)set->labels[lone], query);
    }
    return DML_OK;
}

enum dml_status dml_prepare_classes(const struct dml_evaluation_set *set,
                                    struct dml_prepared *prepared) {
    if (set->n == 0 || set->dim == 0)
        return dml_fail(DML_ERROR_INPUT,
                        "there is nothing to evaluate: %zu embeddings of %zu "
                        "dimensions",
                        set->n, set->dim);
    if (set->n > INT32_MAX)
        return dml_fail(DML_ERROR_INPUT, "%zu embeddings are more than %d", set->n, INT32_MAX);
    prepared->inputs.set = set;
    enum dml_status status = set->embeddings ? check_finite(set) : DML_OK;
    if (!status)
        status = number_classes(set, prepared);
    if (!status)
        status = check_masks(set, prepared);
    return status;
}

static enum dml_status find_norms(struct dml_prepared *p) {
    const struct dml_evaluation_set *set = p->inputs.set;
    size_t zeros = 0, first = SIZE_MAX;
    p->inverse_norms = dml_alloc(set->n, sizeof *p->inverse_norms);
    if (!p->inverse_norms)
        return DML_ERROR_MEMORY;
#pragma omp parallel for reduction(+ : zeros) reduction(min : first)
    for (size_t i = 0; i < set->n; i++) {
        const float *x = set->embeddings + i * set->dim;
        double norm2 = dml_dot(x, x, set->dim);
        p->inverse_norms[i] = 1 / sqrt(norm2);
        if (norm2 == 0) {
            zeros++;
            first = i < first ? i : first;
        }
    }
    if (zeros)
        return dml_fail(DML_ERROR_INPUT,
                        "embeddings: %zu of %zu are zero vectors, which have no cosine; the first "
                        "is number %zu (from 0)",
                        zeros, set->n, first);
    p->inputs.inverse_norms = p->inverse_norms;
    return DML_OK;
}

static enum dml_status find_class_means(struct dml_prepared *p) {
    const struct dml_evaluation_set *set = p->inputs.set;
    size_t dim = set->dim;
    p->class_means = dml_alloc(p->inputs.classes * dim, sizeof *p->class_means);
    if (!p->class_means)
        return DML_ERROR_MEMORY;
#pragma omp parallel for schedule(dynamic, 16)
    for (size_t c = 0; c < p->inputs.classes; c++) {
        double *mean = p->class_means + c * dim;
        size_t first = p->class_start[c], end = p->class_start[c + 1];
        for (size_t r = first; r < end; r++)
            for (size_t k = 0; k < dim; k++)
                mean[k] += set->embeddings[p->by_class[r] * dim + k];
        for (size_t k = 0; k < dim; k++)
            mean[k] /= (double)(end - first);
    }
    p->inputs.class_means = p->class_means;
    return DML_OK;
}

enum dml_status dml_prepare_statistics(struct dml_prepared *p, unsigned needs) {
    const struct dml_evaluation_set *set = p->inputs.set;
    enum dml_status status = DML_OK;
    if (needs & (DML_NEEDS_INVERSE_NORMS | DML_NEEDS_NORMALISED))
        status = find_norms(p);
    if (!status && (needs & DML_NEEDS_NORMALISED)) {
        p->normalised = dml_alloc_aligned(set->n * set->dim, sizeof *p->normalised);
        if (!p->normalised)
            return DML_ERROR_MEMORY;
        dml_normalize_rows(set->embeddings, set->n, set->dim, p->normalised);
        p->inputs.normalised = p->normalised;
    }
    if (!status && (needs & DML_NEEDS_CLASS_MEANS))
        status = find_class_means(p);
    if (!status && (needs & DML_NEEDS_SINGULAR_VALUES)) {
        size_t count = set->n < set->dim ? set->n : set->dim;
        p->singular = dml_alloc(count, sizeof *p->singular);
        status = p->singular ? dml_singular_values(set->embeddings, set->n, set->dim, p->singular)
                             : DML_ERROR_MEMORY;
        p->inputs.singular = p->singular;
        p->inputs.singular_count = count;
    }
    return status;
}

/* Rows of the samples in a mask, ordered by class, and where classes begin. */
static enum dml_status masked_rows(struct dml_prepared *p, const struct dml_frame *frame,
                                   const uint8_t *mask, struct dml_rows *rows,
                                   size_t *class_start) {
    uint32_t *index = dml_alloc(frame->n, sizeof *index);
    if (!index)
        return DML_ERROR_MEMORY;
    size_t count = 0;
    for (size_t c = 0; c < p->inputs.classes; c++) {
        class_start[c] = count;
        for (size_t r = p->class_start[c]; r < p->class_start[c + 1]; r++)
            if (in_mask(mask, p->by_class[r]))
                index[count++] = p->by_class[r];
    }
    class_start[p->inputs.classes] = count;
    enum dml_status status = dml_rows_make(frame, index, count, rows);
    free(index);
    return status;
}

/* How many of a query's positives are ranked, and the largest rank that matters. */
static void find_depth(const struct dml_metric_request *requests, size_t count, unsigned need,
                       size_t gallery, size_t positives, size_t *keep, uint32_t *limit) {
    size_t most = 0, deepest = 0;
    for (size_t i = 0; i < count && positives > 0; i++) {
        const struct dml_metric *metric = requests[i].metric;
        if (!(metric->needs & need))
            continue;
        size_t depth = metric->deepest ? metric->deepest(requests[i].k, positives) : gallery;
        depth = depth < gallery ? depth : gallery;
        size_t wanted = depth < positives ? depth : positives;
        if (metric->nearest_only && wanted > 1)
            wanted = 1;
        deepest = depth > deepest ? depth : deepest;
        most = wanted > most ? wanted : most;
    }
    *keep = most;
    *limit = (uint32_t)deepest;
}

static void pass_on(void *data, double share) {
    struct dml_prepared *p = data;
    if (p->options && p->options->progress)
        p->options->progress(p->options->data, p->done + share * p->span, p->what);
}

static enum dml_status rank_queries(struct dml_prepared *p, struct dml_prepared_space *space,
                                    unsigned need, const struct dml_metric_request *requests,
                                    size_t count, struct dml_rank_task *task) {
    const struct dml_evaluation_set *set = p->inputs.set;
    size_t n = task->queries->n;
    enum dml_status status = DML_OK;
    int32_t *class = dml_alloc(n, sizeof *class);
    uint32_t *limit = dml_alloc(n, sizeof *limit);
    space->query = dml_alloc(n, sizeof *space->query);
    space->positives = dml_alloc(n, sizeof *space->positives);
    space->start = dml_alloc(n + 1, sizeof *space->start);
    if (!class || !limit || !space->query || !space->positives || !space->start) {
        status = DML_ERROR_MEMORY;
        goto out;
    }
    for (size_t q = 0; q < n; q++) {
        uint32_t i = space->query[q] = task->queries->index[q];
        class[q] = p->class_of[i];
        size_t positives = task->gallery_start[class[q] + 1] - task->gallery_start[class[q]] -
                           in_mask(set->is_gallery, i);
        space->positives[q] = (uint32_t)positives;
        size_t keep;
        find_depth(requests, count, need, task->gallery->n, positives, &keep, &limit[q]);
        space->start[q + 1] = space->start[q] + keep;
    }
    space->rank = dml_alloc_aligned(space->start[n], sizeof *space->rank);
    if (!space->rank) {
        status = DML_ERROR_MEMORY;
        goto out;
    }
    task->query_class = class;
    task->limit = limit;
    task->start = space->start;
    task->progress = pass_on;
    task->data = p;
    status = dml_rank_positives(task, space->rank);
    space->ranks = (struct dml_ranks){n, space->query, space->positives, space->start, space->rank};
out:
    free(class);
    free(limit);
    return status;
}

/* Ranks with masks: queries and gallery have rows of their own. */
static enum dml_status rank_masked(struct dml_prepared *p, struct dml_prepared_space *space,
                                   unsigned need, const struct dml_metric_request *requests,
                                   size_t count, const struct dml_frame *frame) {
    const struct dml_evaluation_set *set = p->inputs.set;
    struct dml_rows queries = {0}, gallery = {0};
    size_t *start = dml_alloc(p->inputs.classes + 1, sizeof *start);
    enum dml_status status = start ? DML_OK : DML_ERROR_MEMORY;
    if (!status)
        status = masked_rows(p, frame, set->is_query, &queries, start);
    if (!status) /* the gallery's starts replace the queries' */
        status = masked_rows(p, frame, set->is_gallery, &gallery, start);
    struct dml_rank_task task = {
        .frame = frame, .queries = &queries, .gallery = &gallery, .gallery_start = start};
    if (!status)
        status = rank_queries(p, space, need, requests, count, &task);
    dml_rows_free(&queries);
    dml_rows_free(&gallery);
    free(start);
    return status;
}

static enum dml_status cluster(struct dml_prepared *p, struct dml_prepared_space *space,
                               const struct dml_frame *frame, const struct dml_rows *rows) {
    size_t n = rows->n, classes = p->inputs.classes;
    const struct dml_kmeans_options options = {
        .clusters = classes, .iterations = 20, .progress = pass_on, .data = p};
    struct dml_kmeans result = {.assigned = dml_alloc(n, sizeof *result.assigned),
                                .centroids = dml_alloc_aligned(classes * rows->dim, sizeof(float))};
    space->assigned = dml_alloc(n, sizeof *space->assigned);
    enum dml_status status = DML_ERROR_MEMORY;
    if (result.assigned && result.centroids && space->assigned)
        status = dml_kmeans_run(frame, rows, &options, &result);
    for (size_t i = 0; i < n && !status; i++)
        space->assigned[rows->index[i]] = result.assigned[i];
    space->clusters = (struct dml_clusters){classes, space->assigned, result.objective};
    free(result.assigned);
    free(result.centroids);
    return status;
}

enum dml_status dml_prepare_space(struct dml_prepared *p, bool cosine,
                                  const struct dml_metric_request *requests, size_t count) {
    const struct dml_evaluation_set *set = p->inputs.set;
    struct dml_prepared_space *space = cosine ? &p->cosine : &p->euclidean;
    struct dml_space *result = cosine ? &p->inputs.cosine : &p->inputs.euclidean;
    unsigned ranks = cosine ? DML_NEEDS_RANKS_COSINE : DML_NEEDS_RANKS_EUCLIDEAN;
    unsigned clusters = cosine ? DML_NEEDS_CLUSTERS_COSINE : DML_NEEDS_CLUSTERS_EUCLIDEAN;
    unsigned needs = 0;
    for (size_t i = 0; i < count; i++)
        needs |= requests[i].metric->needs;
    bool masked = set->is_query || set->is_gallery;
    double span = p->span, ranks_span = !(needs & clusters) ? span : span / 2;

    struct dml_rows rows = {0};
    struct dml_frame frame;
    enum dml_status status =
        dml_frame_make(set->embeddings, set->n, set->dim, cosine ? p->inverse_norms : NULL, &frame);
    if (status)
        return status;
    p->span = ranks_span;
    if ((needs & ranks) && masked)
        status = rank_masked(p, space, ranks, requests, count, &frame);
    if (!status && ((needs & clusters) || !masked))
        status = dml_rows_make(&frame, p->by_class, set->n, &rows);
    if (!status && (needs & ranks) && !masked) {
        struct dml_rank_task task = {
            .frame = &frame, .queries = &rows, .gallery = &rows, .gallery_start = p->class_start};
        status = rank_queries(p, space, ranks, requests, count, &task);
    }
    if (!status && (needs & ranks))
        result->ranks = &space->ranks;
    if (!status && (needs & clusters)) {
        p->done += needs & ranks ? ranks_span : 0;
        p->span = needs & ranks ? span - ranks_span : span;
        p->what = cosine ? "k-means, cosine" : "k-means";
        status = cluster(p, space, &frame, &rows);
        result->clusters = &space->clusters;
    }
    dml_rows_free(&rows);
    dml_frame_free(&frame);
    return status;
}
