/* What metrics share, prepared once: classes, statistics, and per space ranks and a clustering. */
#include "metrics/evaluator.h"

#include "base/memory.h"
#include "dml/rng.h"
#include "math/kmeans.h"
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

struct dml_values dml_set_values(const struct dml_evaluation_set *set) {
    return (struct dml_values){set->embeddings, set->exact};
}

bool dml_set_is_plain(const struct dml_evaluation_set *set) {
    return !set->is_query && !set->is_gallery && !set->groups;
}

static enum dml_status check_finite(const struct dml_evaluation_set *set,
                                    const struct dml_values *values) {
    size_t bad = 0, first = SIZE_MAX;
#pragma omp parallel for reduction(+ : bad) reduction(min : first)
    for (size_t i = 0; i < set->n; i++) {
        int finite = 1;
#pragma omp simd reduction(& : finite)
        for (size_t k = 0; k < set->dim; k++)
            finite &= fabs(dml_value(values, i * set->dim + k)) < INFINITY;
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

/* Draws the queries to evaluate, where there are more than were asked for. */
static enum dml_status draw_sample(const struct dml_evaluation_set *set, struct dml_prepared *p) {
    size_t wanted = p->options ? p->options->sample : 0;
    p->inputs.asked = set->is_query;
    if (wanted == 0 || wanted >= p->population)
        return DML_OK;
    enum dml_status status = DML_ERROR_MEMORY;
    uint32_t *query = dml_alloc(p->population, sizeof *query);
    uint64_t *drawn = dml_alloc(wanted, sizeof *drawn);
    p->asked = dml_alloc(set->n, 1);
    if (query && drawn && p->asked) {
        status = DML_OK;
        for (size_t i = 0, at = 0; i < set->n; i++)
            if (in_mask(set->is_query, i))
                query[at++] = (uint32_t)i;
        struct dml_rng rng = dml_rng_make(p->options->seed, DML_PURPOSE_OTHER, 0xC0, 0);
        dml_rng_distinct(&rng, p->population, wanted, drawn);
        for (size_t i = 0; i < wanted; i++)
            p->asked[query[drawn[i]]] = 1;
        p->inputs.asked = p->asked;
        p->inputs.queries = wanted;
    }
    free(query);
    free(drawn);
    return status;
}

size_t dml_count_positives(const struct dml_metric_inputs *in, size_t i) {
    const struct dml_evaluation_set *set = in->set;
    size_t count = 0;
    int32_t class = in->class_of[i];
    if (!set->is_gallery && !set->groups)
        return in->class_start[class + 1] - in->class_start[class] - 1;
    for (size_t r = in->class_start[class]; r < in->class_start[class + 1]; r++) {
        uint32_t j = in->by_class[r];
        count += j != i && in_mask(set->is_gallery, j) &&
                 !(set->groups && set->groups[j] == set->groups[i]);
    }
    return count;
}

/* How many queries there are, and how many of them have nothing to find: not all may, in a set with
 * masks or groups. */
static enum dml_status check_queries(const struct dml_evaluation_set *set, struct dml_prepared *p) {
    for (size_t i = 0; i < set->n; i++) {
        p->population += in_mask(set->is_query, i);
        p->inputs.gallery += in_mask(set->is_gallery, i);
    }
    p->inputs.queries = p->population;
    if (p->population == 0)
        return dml_fail(DML_ERROR_INPUT, "the set has no query");
    if (p->inputs.gallery == 0)
        return dml_fail(DML_ERROR_INPUT, "the set has an empty gallery");
    enum dml_status status = draw_sample(set, p);
    if (status)
        return status;
    size_t lone = 0, first = SIZE_MAX;
#pragma omp parallel for schedule(dynamic, 256) reduction(+ : lone) reduction(min : first)
    for (size_t i = 0; i < set->n; i++)
        if (in_mask(p->inputs.asked, i) && dml_count_positives(&p->inputs, i) == 0) {
            lone++;
            first = i < first ? i : first;
        }
    p->lone = lone;
    p->first_lone = first;
    if (lone == p->inputs.queries && !dml_set_is_plain(set))
        return dml_fail(DML_ERROR_INPUT,
                        "no query has a sample of its class to find in the gallery; the first is "
                        "query %zu",
                        first);
    return DML_OK;
}

/* Checks the embeddings, where the set has any. */
static enum dml_status check_embeddings(const struct dml_evaluation_set *set) {
    const struct dml_values values = dml_set_values(set), queries = {.wide = set->query_embeddings};
    enum dml_status status = dml_values_any(&values) ? check_finite(set, &values) : DML_OK;
    if (!status && queries.wide)
        status = check_finite(set, &queries);
    return status;
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
    enum dml_status status = check_embeddings(set);
    if (!status)
        status = number_classes(set, prepared);
    if (!status)
        status = check_queries(set, prepared);
    return status;
}

static enum dml_status find_norms(const struct dml_evaluation_set *set,
                                  const struct dml_values *values, double **out) {
    size_t zeros = 0, first = SIZE_MAX;
    double *inverse = *out = dml_alloc(set->n, sizeof *inverse);
    if (!inverse)
        return DML_ERROR_MEMORY;
#pragma omp parallel for reduction(+ : zeros) reduction(min : first)
    for (size_t i = 0; i < set->n; i++) {
        size_t at = i * set->dim;
        double norm2 = dml_values_dot(values, at, values, at, set->dim);
        inverse[i] = 1 / sqrt(norm2);
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
    return DML_OK;
}

static enum dml_status find_class_means(struct dml_prepared *p) {
    const struct dml_values values = dml_set_values(p->inputs.set);
    size_t dim = p->inputs.set->dim;
    p->class_means = dml_alloc(p->inputs.classes * dim, sizeof *p->class_means);
    if (!p->class_means)
        return DML_ERROR_MEMORY;
#pragma omp parallel for schedule(dynamic, 16)
    for (size_t c = 0; c < p->inputs.classes; c++) {
        double *mean = p->class_means + c * dim;
        size_t first = p->class_start[c], end = p->class_start[c + 1];
        for (size_t r = first; r < end; r++)
            for (size_t k = 0; k < dim; k++)
                mean[k] += dml_value(&values, p->by_class[r] * dim + k);
        for (size_t k = 0; k < dim; k++)
            mean[k] /= (double)(end - first);
    }
    p->inputs.class_means = p->class_means;
    return DML_OK;
}

enum dml_status dml_prepare_statistics(struct dml_prepared *p, unsigned needs) {
    const struct dml_evaluation_set *set = p->inputs.set;
    const struct dml_values values = dml_set_values(set), queries = {.wide = set->query_embeddings};
    enum dml_status status = DML_OK;
    if (needs & (DML_NEEDS_INVERSE_NORMS | DML_NEEDS_NORMALISED)) {
        status = find_norms(set, &values, &p->inverse_norms);
        p->inputs.inverse_norms = p->inverse_norms;
        if (!status && queries.wide)
            status = find_norms(set, &queries, &p->query_inverse_norms);
        p->inputs.query_inverse_norms = p->query_inverse_norms;
    }
    if (!status && (needs & DML_NEEDS_NORMALISED)) {
        p->normalised = dml_alloc_aligned(set->n * set->dim, sizeof *p->normalised);
        if (!p->normalised)
            return DML_ERROR_MEMORY;
        for (size_t i = 0; i < set->n * set->dim; i++)
            p->normalised[i] = (float)(dml_value(&values, i) * p->inverse_norms[i / set->dim]);
        p->inputs.normalised = p->normalised;
    }
    if (!status && (needs & DML_NEEDS_CLASS_MEANS))
        status = find_class_means(p);
    if (!status && (needs & DML_NEEDS_SINGULAR_VALUES)) {
        size_t count = set->n < set->dim ? set->n : set->dim;
        p->singular = dml_alloc(count, sizeof *p->singular);
        status = p->singular ? dml_singular_values(&values, set->n, set->dim, p->singular)
                             : DML_ERROR_MEMORY;
        p->inputs.singular = p->singular;
        p->inputs.singular_count = count;
    }
    return status;
}

static void pass_on(void *data, double share) {
    struct dml_prepared *p = data;
    if (p->options && p->options->progress)
        p->options->progress(p->options->data, p->done + share * p->span, p->what);
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

void dml_prepared_sides(const struct dml_prepared *p, bool cosine, struct dml_side *gallery,
                        struct dml_side *query, const struct dml_side **different) {
    const struct dml_evaluation_set *set = p->inputs.set;
    *gallery = (struct dml_side){dml_set_values(set), cosine ? p->inverse_norms : NULL};
    *query =
        (struct dml_side){{.wide = set->query_embeddings}, cosine ? p->query_inverse_norms : NULL};
    *different = set->query_embeddings ? query : NULL;
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
    double span = p->span, ranks_span = !(needs & clusters) ? span : span / 2;

    struct dml_rows rows = {0};
    struct dml_side gallery, query;
    const struct dml_side *different;
    struct dml_frame frame;
    dml_prepared_sides(p, cosine, &gallery, &query, &different);
    enum dml_status status = dml_frame_make(&gallery, different, set->n, set->dim, &frame);
    if (status)
        return status;
    p->span = ranks_span;
    bool whole = !p->inputs.asked && !set->is_gallery && !different;
    if ((needs & clusters) || whole)
        status = dml_rows_make(&frame, &frame.gallery, p->by_class, set->n, &rows);
    if (!status && (needs & ranks)) {
        status = dml_prepare_ranks(p, cosine, requests, count, &frame, whole ? &rows : NULL);
        result->ranks = &space->ranks;
    }
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
