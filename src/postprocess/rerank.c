/* Re-ranking by k-reciprocal neighbours. With D_ij the squared distance divided by the largest of
 * row i and N(i, k) the first k + 1 of row i, i the first of them:
 *
 *     R(i, k) = {j in N(i, k): i in N(j, k)}
 *     S_i     = R(i, k1) and each R(j, k1 / 2), j in R(i, k1), with more than 2/3 of it in R(i, k1)
 *     V_i     = exp(-D_ij) over S_i, divided by its sum, and averaged over the first k2 of row i
 *     J_ij    = 1 - m / (2 - m), m = sum_l min(V_il, V_jl)
 *
 * The distance is (1 - weight) J + weight D. What is kept is the nearest of each row and V, which
 * is sparse; rows of J come from an index of the samples that have a weight at l. */
#include "dml/postprocess.h"

#include "base/memory.h"
#include "math/neighbours.h"
#include "math/values.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A sparse row of V. */
struct weights {
    size_t count;
    uint32_t *index; /* of members */
    double *value;
};

struct dml_rerank {
    size_t samples, n, dim; /* n members */
    struct dml_rerank_options options;
    uint32_t *sample;    /* (n) of a member */
    uint32_t *member;    /* (samples) or DML_NO_SAMPLE */
    uint8_t *in_gallery; /* (n) */
    double *x;           /* (n, dim) minus their mean */
    size_t depth;        /* neighbours besides itself */
    uint32_t *nearest;   /* (n, depth) */
    double *largest;     /* (n) of the row */
    struct weights *weights;
    size_t *start; /* (n + 1) which gallery members have a weight at l: */
    uint32_t *who; /* (start[n]) */
    double *how;   /* (start[n]) */
};

/* A thread's workspace. `mark` and `sum` are all 0 between uses. */
struct work {
    uint8_t *mark;   /* (n) */
    double *sum;     /* (n) */
    uint32_t *list;  /* (n) */
    uint32_t *first; /* (depth + 1) */
    uint32_t *other; /* (depth + 1) */
};

/* Neighbour number r of member i, itself first. */
static uint32_t neighbour(const struct dml_rerank *s, uint32_t i, size_t r) {
    return r == 0 ? i : s->nearest[i * s->depth + r - 1];
}

static bool is_neighbour(const struct dml_rerank *s, uint32_t i, uint32_t of, size_t k) {
    for (size_t r = 0; r <= k && r <= s->depth; r++)
        if (neighbour(s, of, r) == i)
            return true;
    return false;
}

/* R(i, k) into `out`; returns its size. */
static size_t reciprocal(const struct dml_rerank *s, uint32_t i, size_t k, uint32_t *out) {
    size_t count = 0;
    for (size_t r = 0; r <= k && r <= s->depth; r++) {
        uint32_t j = neighbour(s, i, r);
        if (is_neighbour(s, i, j, k))
            out[count++] = j;
    }
    return count;
}

static double relative_distance(const struct dml_rerank *s, uint32_t i, uint32_t j) {
    double d2 = dml_distance2_64(s->x + i * s->dim, s->x + j * s->dim, s->dim);
    return s->largest[i] > 0 ? d2 / s->largest[i] : 0;
}

static enum dml_status keep_weights(struct weights *out, const uint32_t *index, size_t count) {
    out->count = count;
    out->index = dml_alloc(count, sizeof *out->index);
    out->value = dml_alloc(count, sizeof *out->value);
    if (!out->index || !out->value)
        return DML_ERROR_MEMORY;
    memcpy(out->index, index, count * sizeof *index);
    return DML_OK;
}

/* V_i before it is averaged. */
static enum dml_status encode(const struct dml_rerank *s, uint32_t i, struct work *work,
                              struct weights *out) {
    size_t k1 = s->options.k1, half = k1 / 2 + (k1 % 4 == 3); /* half to even */
    size_t own = reciprocal(s, i, k1, work->first), count = own;
    for (size_t a = 0; a < own; a++) {
        work->mark[work->first[a]] = 1;
        work->list[a] = work->first[a];
    }
    for (size_t a = 0; a < own; a++) {
        size_t size = reciprocal(s, work->first[a], half, work->other), common = 0;
        for (size_t b = 0; b < size; b++)
            common += work->mark[work->other[b]] == 1;
        for (size_t b = 0; 3 * common > 2 * size && b < size; b++)
            if (!work->mark[work->other[b]]) {
                work->mark[work->other[b]] = 2;
                work->list[count++] = work->other[b];
            }
    }
    enum dml_status status = keep_weights(out, work->list, count);
    double sum = 0;
    for (size_t a = 0; a < count; a++) {
        work->mark[work->list[a]] = 0;
        if (!status)
            sum += out->value[a] = exp(-relative_distance(s, i, work->list[a]));
    }
    for (size_t a = 0; !status && a < count; a++)
        out->value[a] /= sum;
    return status;
}

/* The mean of V over the first k2 of row i. */
static enum dml_status average(const struct dml_rerank *s, uint32_t i, struct work *work,
                               struct weights *out) {
    size_t rows = s->options.k2 < s->depth + 1 ? s->options.k2 : s->depth + 1, count = 0;
    for (size_t r = 0; r < rows; r++) {
        const struct weights *row = &s->weights[neighbour(s, i, r)];
        for (size_t a = 0; a < row->count; a++) {
            if (!work->mark[row->index[a]])
                work->list[count++] = row->index[a];
            work->mark[row->index[a]] = 1;
            work->sum[row->index[a]] += row->value[a];
        }
    }
    enum dml_status status = keep_weights(out, work->list, count);
    for (size_t a = 0; a < count; a++) {
        uint32_t l = work->list[a];
        if (!status)
            out->value[a] = work->sum[l] / (double)rows;
        work->mark[l] = 0;
        work->sum[l] = 0;
    }
    return status;
}

static void free_weights(struct weights *weights, size_t n) {
    for (size_t i = 0; weights && i < n; i++) {
        free(weights[i].index);
        free(weights[i].value);
    }
    free(weights);
}

/* Computes all rows of V by `row`, one of the two above. */
static enum dml_status for_all(struct dml_rerank *s,
                               enum dml_status (*row)(const struct dml_rerank *, uint32_t,
                                                      struct work *, struct weights *),
                               struct weights **out) {
    struct weights *rows = dml_alloc(s->n, sizeof *rows);
    bool failed = !rows;
#pragma omp parallel if (!failed)
    {
        struct work work = {
            dml_alloc(s->n, 1), dml_alloc(s->n, sizeof(double)), dml_alloc(s->n, sizeof(uint32_t)),
            dml_alloc(s->depth + 1, sizeof(uint32_t)), dml_alloc(s->depth + 1, sizeof(uint32_t))};
        bool bad = !work.mark || !work.sum || !work.list || !work.first || !work.other;
#pragma omp for schedule(dynamic, 64)
        for (size_t i = 0; i < s->n; i++)
            if (!bad && rows)
                bad = row(s, (uint32_t)i, &work, &rows[i]) != DML_OK;
        if (bad)
#pragma omp atomic write
            failed = true;
        free(work.mark);
        free(work.sum);
        free(work.list);
        free(work.first);
        free(work.other);
    }
    *out = rows;
    return failed ? dml_fail(DML_ERROR_MEMORY, "out of memory for re-ranking %zu samples", s->n)
                  : DML_OK;
}

/* Inverts V: for each l, the gallery members with a weight there. */
static enum dml_status index_weights(struct dml_rerank *s) {
    s->start = dml_alloc(s->n + 2, sizeof *s->start);
    if (!s->start)
        return DML_ERROR_MEMORY;
    for (size_t i = 0; i < s->n; i++)
        for (size_t a = 0; s->in_gallery[i] && a < s->weights[i].count; a++)
            s->start[s->weights[i].index[a] + 2]++;
    for (size_t l = 1; l <= s->n; l++)
        s->start[l + 1] += s->start[l];
    s->who = dml_alloc(s->start[s->n + 1], sizeof *s->who);
    s->how = dml_alloc(s->start[s->n + 1], sizeof *s->how);
    if (!s->who || !s->how)
        return DML_ERROR_MEMORY;
    for (size_t i = 0; i < s->n; i++)
        for (size_t a = 0; s->in_gallery[i] && a < s->weights[i].count; a++) {
            size_t at = s->start[s->weights[i].index[a] + 1]++;
            s->who[at] = (uint32_t)i;
            s->how[at] = s->weights[i].value[a];
        }
    return DML_OK;
}

/* Members with their embeddings, shifted by the mean so that products lose as little as possible.
 */
static enum dml_status take_members(struct dml_rerank *s, const double *embeddings,
                                    const uint8_t *member, const uint8_t *gallery) {
    for (size_t i = 0; i < s->samples; i++)
        s->n += !member || member[i];
    s->sample = dml_alloc(s->n, sizeof *s->sample);
    s->member = dml_alloc(s->samples, sizeof *s->member);
    s->in_gallery = dml_alloc(s->n, 1);
    s->x = dml_alloc_aligned(s->n * s->dim, sizeof *s->x);
    double *mean = dml_alloc(s->dim, sizeof *mean);
    bool ready = s->sample && s->member && s->in_gallery && s->x && mean;
    size_t at = 0;
    for (size_t i = 0; ready && i < s->samples; i++) {
        s->member[i] = DML_NO_SAMPLE;
        if (member && !member[i])
            continue;
        s->member[i] = (uint32_t)at;
        s->in_gallery[at] = !gallery || gallery[i];
        s->sample[at++] = (uint32_t)i;
        for (size_t k = 0; k < s->dim; k++)
            mean[k] += embeddings[i * s->dim + k];
    }
    for (size_t i = 0; ready && i < s->n; i++)
        for (size_t k = 0; k < s->dim; k++)
            s->x[i * s->dim + k] = embeddings[s->sample[i] * s->dim + k] - mean[k] / (double)s->n;
    free(mean);
    return ready ? DML_OK : DML_ERROR_MEMORY;
}

static enum dml_status find_neighbours(struct dml_rerank *s) {
    size_t most = s->options.k1 > s->options.k2 ? s->options.k1 : s->options.k2;
    s->depth = most < s->n - 1 ? most : s->n - 1;
    s->nearest = dml_alloc(s->n * s->depth, sizeof *s->nearest);
    s->largest = dml_alloc(s->n, sizeof *s->largest);
    uint32_t *own = dml_alloc(s->n, sizeof *own);
    enum dml_status status = s->nearest && s->largest && own ? DML_OK : DML_ERROR_MEMORY;
    for (size_t i = 0; !status && i < s->n; i++)
        own[i] = (uint32_t)i;
    const struct dml_neighbour_task task = {.queries = s->x,
                                            .gallery = s->x,
                                            .m = s->n,
                                            .n = s->n,
                                            .dim = s->dim,
                                            .k = s->depth,
                                            .own = own,
                                            .index = s->nearest,
                                            .farthest2 = s->largest};
    if (!status)
        status = dml_neighbours(&task);
    free(own);
    return status;
}

enum dml_status dml_rerank_open(const double *embeddings, size_t n, size_t dim,
                                const uint8_t *member, const uint8_t *gallery,
                                const struct dml_rerank_options *options, struct dml_rerank **out) {
    struct dml_rerank *s = *out = dml_alloc(1, sizeof *s);
    if (!s)
        return DML_ERROR_MEMORY;
    *s = (struct dml_rerank){.samples = n, .dim = dim, .options = *options};
    enum dml_status status = take_members(s, embeddings, member, gallery);
    if (!status)
        status = find_neighbours(s);
    if (!status)
        status = for_all(s, encode, &s->weights);
    if (!status && options->k2 > 1) {
        struct weights *averaged;
        status = for_all(s, average, &averaged);
        free_weights(s->weights, s->n);
        s->weights = averaged;
    }
    if (!status)
        status = index_weights(s);
    if (status) {
        dml_rerank_free(s);
        *out = NULL;
    }
    return status;
}

static void fill_row(const struct dml_rerank *s, uint32_t i, double *common, double *out) {
    const struct weights *own = &s->weights[i];
    double weight = s->options.weight;
    memset(common, 0, s->n * sizeof *common);
    for (size_t a = 0; a < own->count; a++)
        for (size_t p = s->start[own->index[a]]; p < s->start[own->index[a] + 1]; p++)
            common[s->who[p]] += fmin(own->value[a], s->how[p]);
    for (size_t j = 0; j < s->samples; j++)
        out[j] = INFINITY;
    for (size_t j = 0; j < s->n; j++) {
        double jaccard = fmax(1 - common[j] / (2 - common[j]), 0);
        if (j == i)
            out[s->sample[j]] = 0;
        else if (s->in_gallery[j])
            out[s->sample[j]] =
                (1 - weight) * jaccard + weight * relative_distance(s, i, (uint32_t)j);
    }
}

enum dml_status dml_rerank_rows(void *rerank, const uint32_t *queries, size_t count, double *out) {
    const struct dml_rerank *s = rerank;
    double *common = dml_alloc(s->n, sizeof *common);
    if (!common)
        return DML_ERROR_MEMORY;
    for (size_t q = 0; q < count; q++)
        fill_row(s, s->member[queries[q]], common, out + q * s->samples);
    free(common);
    return DML_OK;
}

void dml_rerank_free(struct dml_rerank *s) {
    if (!s)
        return;
    free(s->sample);
    free(s->member);
    free(s->in_gallery);
    free(s->x);
    free(s->nearest);
    free(s->largest);
    free_weights(s->weights, s->n);
    free(s->start);
    free(s->who);
    free(s->how);
    free(s);
}
