/* Ranks of the positives of one space's queries: among rows by tiles of products, or by rows of
 * distances that the set supplies. */
#include "metrics/evaluator.h"

#include "base/memory.h"
#include "math/ranks.h"

#include <stdlib.h>

static bool in_mask(const uint8_t *mask, size_t i) {
    return !mask || mask[i];
}

/* Rows of the samples in a mask, ordered by class, and where classes begin. */
static enum dml_status masked_rows(struct dml_prepared *p, const struct dml_frame *frame,
                                   const struct dml_side *side, const uint8_t *mask,
                                   struct dml_rows *rows, size_t *class_start) {
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
    enum dml_status status = dml_rows_make(frame, side, index, count, rows);
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

/* What ranks of the queries in `query`, ordered by class, need: how many positives, how many of
 * them are ranked and how deep. */
static enum dml_status plan(struct dml_prepared *p, struct dml_prepared_space *space, unsigned need,
                            const struct dml_metric_request *requests, size_t count,
                            uint32_t *limit) {
    const struct dml_metric_inputs *in = &p->inputs;
    size_t n = in->queries;
    space->positives = dml_alloc(n, sizeof *space->positives);
    space->start = dml_alloc(n + 1, sizeof *space->start);
    if (!space->positives || !space->start)
        return DML_ERROR_MEMORY;
#pragma omp parallel for schedule(dynamic, 256)
    for (size_t q = 0; q < n; q++)
        space->positives[q] = (uint32_t)dml_count_positives(in, space->query[q]);
    for (size_t q = 0; q < n; q++) {
        size_t keep;
        find_depth(requests, count, need, in->gallery, space->positives[q], &keep, &limit[q]);
        space->start[q + 1] = space->start[q] + keep;
    }
    space->rank = dml_alloc_aligned(space->start[n], sizeof *space->rank);
    return space->rank ? DML_OK : DML_ERROR_MEMORY;
}

/* The queries, ordered by class. */
static enum dml_status list_queries(const struct dml_prepared *p,
                                    struct dml_prepared_space *space) {
    size_t at = 0;
    space->query = dml_alloc(p->inputs.queries, sizeof *space->query);
    for (size_t r = 0; space->query && r < p->inputs.set->n; r++)
        if (in_mask(p->inputs.asked, p->by_class[r]))
            space->query[at++] = p->by_class[r];
    return space->query ? DML_OK : DML_ERROR_MEMORY;
}

/* By products of rows; `rows` is NULL unless both queries and gallery are all samples. */
static enum dml_status rank_rows(struct dml_prepared *p, const struct dml_prepared_space *space,
                                 const uint32_t *limit, const struct dml_frame *frame,
                                 const struct dml_rows *rows) {
    const struct dml_evaluation_set *set = p->inputs.set;
    size_t n = p->inputs.queries;
    struct dml_rows queries = {0}, gallery = {0};
    size_t *start = dml_alloc(p->inputs.classes + 1, sizeof *start);
    int32_t *class = dml_alloc(n, sizeof *class);
    enum dml_status status = start && class ? DML_OK : DML_ERROR_MEMORY;
    if (!status && !rows)
        status = masked_rows(p, frame, &frame->query, p->inputs.asked, &queries, start);
    if (!status && !rows) /* the gallery's starts replace the queries' */
        status = masked_rows(p, frame, &frame->gallery, set->is_gallery, &gallery, start);
    for (size_t q = 0; !status && q < n; q++)
        class[q] = p->class_of[space->query[q]];
    const struct dml_rank_task task = {.frame = frame,
                                       .queries = rows ? rows : &queries,
                                       .gallery = rows ? rows : &gallery,
                                       .query_class = class,
                                       .gallery_start = rows ? p->class_start : start,
                                       .groups = set->groups,
                                       .limit = limit,
                                       .start = space->start,
                                       .counter = p->options ? p->options->counter : NULL,
                                       .progress = pass_on,
                                       .data = p};
    if (!status)
        status = dml_rank_positives(&task, space->rank);
    dml_rows_free(&queries);
    dml_rows_free(&gallery);
    free(start);
    free(class);
    return status;
}

struct positive {
    double distance;
    uint32_t index;
};

static bool before(const struct positive *a, const struct positive *b) {
    return a->distance < b->distance || (a->distance == b->distance && a->index < b->index);
}

static int nearest_first(const void *a, const void *b) {
    return before(a, b) ? -1 : 1;
}

/* The ranks of one query's positives, by its distances to all samples. `work` holds as many as its
 * class has. */
static void rank_by_row(const struct dml_metric_inputs *in, const struct dml_prepared_space *space,
                        size_t q, const uint32_t *limit, const double *row, struct positive *work) {
    const struct dml_evaluation_set *set = in->set;
    uint32_t self = space->query[q], *rank = space->rank + space->start[q];
    int32_t class = in->class_of[self];
    size_t keep = space->start[q + 1] - space->start[q], count = 0;
    if (keep == 0)
        return;
    for (size_t r = in->class_start[class]; r < in->class_start[class + 1]; r++) {
        uint32_t j = in->by_class[r];
        if (j != self && in_mask(set->is_gallery, j) &&
            !(set->groups && set->groups[j] == set->groups[self]))
            work[count++] = (struct positive){row[j], j};
    }
    qsort(work, count, sizeof *work, nearest_first);
    for (size_t k = 0; k < keep; k++)
        rank[k] = 0;
    for (size_t j = 0; j < set->n; j++) { /* counted at the first positive that it precedes */
        const struct positive other = {row[j], (uint32_t)j};
        if (in->class_of[j] == class || !in_mask(set->is_gallery, j) ||
            !before(&other, &work[keep - 1]))
            continue;
        size_t low = 0, high = keep - 1;
        while (low < high) {
            size_t middle = (low + high) / 2;
            if (before(&other, &work[middle]))
                high = middle;
            else
                low = middle + 1;
        }
        rank[low]++;
    }
    size_t nearer = 0;
    for (size_t k = 0; k < keep; k++) {
        nearer += rank[k];
        rank[k] = nearer + k + 1 <= limit[q] ? (uint32_t)(nearer + k + 1) : 0;
    }
}

static enum dml_status rank_by_distances(struct dml_prepared *p,
                                         const struct dml_prepared_space *space,
                                         const uint32_t *limit,
                                         const struct dml_distance_source *source) {
    enum { BLOCK = 16 }; /* queries at a time */
    const struct dml_metric_inputs *in = &p->inputs;
    size_t n = in->queries, blocks = (n + BLOCK - 1) / BLOCK, largest = 0;
    enum dml_status status = DML_OK;
    for (size_t c = 0; c < in->classes; c++) {
        size_t size = in->class_start[c + 1] - in->class_start[c];
        largest = size > largest ? size : largest;
    }
#pragma omp parallel
    {
        double *rows = dml_alloc_aligned(BLOCK * in->set->n, sizeof *rows);
        struct positive *work = dml_alloc(largest, sizeof *work);
        enum dml_status own = rows && work ? DML_OK : DML_ERROR_MEMORY;
#pragma omp for schedule(dynamic, 1)
        for (size_t b = 0; b < blocks; b++) {
            size_t first = b * BLOCK, count = n - first < BLOCK ? n - first : BLOCK;
            if (!own)
                own = source->rows(source->data, space->query + first, count, rows);
            for (size_t q = 0; !own && q < count; q++)
                rank_by_row(in, space, first + q, limit, rows + q * in->set->n, work);
        }
        if (own)
#pragma omp critical
            status = own;
        free(rows);
        free(work);
    }
    return status ? dml_fail(status, "distances could not be computed") : DML_OK;
}

enum dml_status dml_prepare_ranks(struct dml_prepared *p, bool cosine,
                                  const struct dml_metric_request *requests, size_t count,
                                  const struct dml_frame *frame, const struct dml_rows *rows) {
    const struct dml_evaluation_set *set = p->inputs.set;
    struct dml_prepared_space *space = cosine ? &p->cosine : &p->euclidean;
    const struct dml_distance_source *source =
        cosine ? set->cosine_distances : set->euclidean_distances;
    unsigned need = cosine ? DML_NEEDS_RANKS_COSINE : DML_NEEDS_RANKS_EUCLIDEAN;
    uint32_t *limit = dml_alloc(p->inputs.queries, sizeof *limit);
    enum dml_status status = limit ? list_queries(p, space) : DML_ERROR_MEMORY;
    if (!status)
        status = plan(p, space, need, requests, count, limit);
    if (!status && source)
        status = rank_by_distances(p, space, limit, source);
    else if (!status)
        status = rank_rows(p, space, limit, frame, rows);
    space->ranks = (struct dml_ranks){p->inputs.queries, dml_set_is_plain(set), space->query,
                                      space->positives,  space->start,          space->rank};
    free(limit);
    return status;
}
