#include "postprocess/postprocess.h"

#include "base/memory.h"
#include "math/neighbours.h"
#include "math/values.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define AT(field) offsetof(struct dml_postprocess_options, field)
static const struct dml_param rows[] = {
    {"whiten", DML_PARAM_INT, AT(whiten), "0", 0, 1000000,
     .help = "Whiten by PCA to this many dimensions, fitted to the gallery; 0: do not. Embeddings "
             "are normalised afterwards."},
    {"dba", DML_PARAM_INT, AT(augment), "0", 0, 100000,
     .help =
         "Database-side augmentation: each gallery sample takes in this many of its nearest; 0: "
         "none. Embeddings are normalised first."},
    {"dba_alpha", DML_PARAM_FLOAT, AT(augment_alpha), "3", 0, 1000,
     .help = "Their weight is their cosine to this power."},
    {"aqe", DML_PARAM_INT, AT(expand), "0", 0, 100000,
     .help = "Alpha query expansion: each query takes in this many of its nearest gallery samples; "
             "0: none. Embeddings are normalised first. 3 is common."},
    {"aqe_alpha", DML_PARAM_FLOAT, AT(expand_alpha), "3", 0, 1000,
     .help = "Their weight is their cosine to this power."},
    {"rerank", DML_PARAM_FLAG, AT(rerank),
     .help = "Re-rank by k-reciprocal neighbours of queries and gallery."},
    {"rerank_k1", DML_PARAM_INT, AT(rerank_k1), "20", 1, 100000,
     .help = "How many neighbours are considered."},
    {"rerank_k2", DML_PARAM_INT, AT(rerank_k2), "6", 1, 100000,
     .help = "How many neighbours' weights are averaged, the sample itself counting as the first."},
    {"rerank_weight", DML_PARAM_FLOAT, AT(rerank_weight), "0.3", 0, 1,
     .help = "Weight of the original distance."},
};
#undef AT
const struct dml_param_table dml_postprocess_params =
    DML_PARAM_TABLE("Post-processing", struct dml_postprocess_options, rows);

bool dml_postprocess_any(const struct dml_postprocess_options *o) {
    return o->whiten || o->augment || o->expand || o->rerank;
}

static bool in_mask(const uint8_t *mask, size_t i) {
    return !mask || mask[i];
}

enum dml_status dml_postprocess_flags_check(const struct dml_params *params) {
    const struct dml_postprocess_options *o = dml_params_options(params, &dml_postprocess_params);
    const struct {
        const char *flag, *method;
        bool asked;
    } flags[] = {
        {"dba_alpha", "dba", o->augment > 0},   {"aqe_alpha", "aqe", o->expand > 0},
        {"rerank_k1", "rerank", o->rerank},     {"rerank_k2", "rerank", o->rerank},
        {"rerank_weight", "rerank", o->rerank},
    };
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (!flags[i].asked && dml_params_given(params, flags[i].flag))
            return dml_fail(DML_ERROR_USAGE, "--%s: needs --%s", flags[i].flag, flags[i].method);
    return DML_OK;
}

enum dml_status dml_postprocess_check(const struct dml_postprocess_options *o,
                                      const struct dml_evaluation_set *set) {
    if ((size_t)o->whiten > set->dim)
        return dml_fail(DML_ERROR_USAGE, "--whiten %lld: the embeddings have %zu dimensions",
                        (long long)o->whiten, set->dim);
    for (size_t i = 0; o->rerank && (o->expand || o->augment) && i < set->n; i++)
        if (in_mask(set->is_query, i) && in_mask(set->is_gallery, i))
            return dml_fail(DML_ERROR_USAGE,
                            "--rerank with --%s: needs queries that are not in the gallery",
                            o->expand ? "aqe" : "dba");
    return DML_OK;
}

static enum dml_status normalise(double *x, size_t n, size_t dim) {
    for (size_t i = 0; i < n; i++) {
        double norm = sqrt(dml_dot64(x + i * dim, x + i * dim, dim));
        if (norm == 0)
            return dml_fail(DML_ERROR_INPUT, "embedding %zu is a zero vector, which has no cosine",
                            i);
        for (size_t k = 0; k < dim; k++)
            x[i * dim + k] /= norm;
    }
    return DML_OK;
}

static enum dml_status take_embeddings(const struct dml_evaluation_set *set,
                                       struct dml_processed *out) {
    const struct dml_values values = {set->embeddings, set->exact};
    size_t count = set->n * set->dim;
    out->set = *set;
    out->embeddings = dml_alloc_aligned(count, sizeof *out->embeddings);
    if (!out->embeddings)
        return DML_ERROR_MEMORY;
    for (size_t i = 0; i < count; i++) {
        out->embeddings[i] = dml_value(&values, i);
        if (!isfinite(out->embeddings[i]))
            return dml_fail(DML_ERROR_INPUT, "embedding %zu holds NaN or an infinite value",
                            i / set->dim);
    }
    return DML_OK;
}

/* The rows of a mask, one after another, and which sample each is; *index and *rows are freed by
 * the caller. */
static enum dml_status gather(const struct dml_processed *p, const uint8_t *mask, uint32_t **index,
                              double **rows, size_t *count) {
    size_t n = p->set.n, dim = p->set.dim;
    *count = 0;
    for (size_t i = 0; i < n; i++)
        *count += in_mask(mask, i);
    *index = dml_alloc(*count, sizeof **index);
    *rows = dml_alloc_aligned(*count * dim, sizeof **rows);
    if (!*index || !*rows)
        return DML_ERROR_MEMORY;
    for (size_t i = 0, at = 0; i < n; i++)
        if (in_mask(mask, i)) {
            memcpy(*rows + at * dim, p->embeddings + i * dim, dim * sizeof **rows);
            (*index)[at++] = (uint32_t)i;
        }
    return DML_OK;
}

static enum dml_status whiten(size_t kept, const double *fit, size_t fitted,
                              struct dml_processed *p) {
    struct dml_whitening whitening = {0};
    uint32_t *index = NULL;
    double *rows = NULL, *out = dml_alloc_aligned(p->set.n * kept, sizeof *out);
    enum dml_status status = out ? DML_OK : DML_ERROR_MEMORY;
    if (!status && !fit) {
        status = gather(p, p->set.is_gallery, &index, &rows, &fitted);
        fit = rows;
    }
    if (!status)
        status = dml_whitening_fit(fit, fitted, p->set.dim, kept, &whitening);
    if (!status) {
        dml_whitening_apply(&whitening, p->embeddings, p->set.n, out);
        free(p->embeddings);
        p->embeddings = out;
        p->set.dim = kept;
        out = NULL;
    }
    dml_whitening_free(&whitening);
    free(index);
    free(rows);
    free(out);
    return status;
}

/* The samples as queries: the same as in the gallery, until something makes them differ. */
static enum dml_status split_queries(struct dml_processed *p) {
    size_t count = p->set.n * p->set.dim;
    if (p->queries)
        return DML_OK;
    p->queries = dml_alloc_aligned(count, sizeof *p->queries);
    if (!p->queries)
        return DML_ERROR_MEMORY;
    memcpy(p->queries, p->embeddings, count * sizeof *p->queries);
    return DML_OK;
}

static enum dml_status augment(size_t neighbours, double alpha, struct dml_processed *p) {
    size_t dim = p->set.dim, count = 0;
    uint32_t *index = NULL;
    double *rows = NULL, *out = NULL;
    enum dml_status status = split_queries(p);
    if (!status)
        status = gather(p, p->set.is_gallery, &index, &rows, &count);
    if (!status && !(out = dml_alloc_aligned(count * dim, sizeof *out)))
        status = DML_ERROR_MEMORY;
    if (!status)
        status = dml_augment_database(rows, count, dim, neighbours, alpha, out);
    for (size_t i = 0; !status && i < count; i++)
        memcpy(p->embeddings + index[i] * dim, out + i * dim, dim * sizeof *out);
    free(index);
    free(rows);
    free(out);
    return status;
}

static enum dml_status expand(size_t neighbours, double alpha, struct dml_processed *p) {
    size_t n = p->set.n, dim = p->set.dim, count = 0;
    uint32_t *index = NULL, *own = dml_alloc(n, sizeof *own);
    double *rows = NULL, *out = dml_alloc_aligned(n * dim, sizeof *out);
    enum dml_status status = own && out ? split_queries(p) : DML_ERROR_MEMORY;
    if (!status)
        status = gather(p, p->set.is_gallery, &index, &rows, &count);
    for (size_t i = 0; !status && i < n; i++)
        own[i] = DML_NO_SAMPLE;
    for (size_t i = 0; !status && i < count; i++)
        own[index[i]] = (uint32_t)i;
    if (!status)
        status = dml_expand_queries(p->queries, n, own, rows, count, dim, neighbours, alpha, out);
    if (!status) {
        free(p->queries);
        p->queries = out;
        out = NULL;
    }
    free(index);
    free(own);
    free(rows);
    free(out);
    return status;
}

/* Re-ranked distances of one space, over queries and gallery together. */
static enum dml_status rerank(const struct dml_postprocess_options *o, bool cosine,
                              struct dml_processed *p) {
    size_t n = p->set.n, dim = p->set.dim;
    const struct dml_rerank_options options = {(size_t)o->rerank_k1, (size_t)o->rerank_k2,
                                               o->rerank_weight};
    uint8_t *member = dml_alloc(n, 1);
    double *x = dml_alloc_aligned(n * dim, sizeof *x);
    enum dml_status status = member && x ? DML_OK : DML_ERROR_MEMORY;
    for (size_t i = 0; !status && i < n; i++) {
        bool query = in_mask(p->set.is_query, i);
        member[i] = query || in_mask(p->set.is_gallery, i);
        memcpy(x + i * dim, (query && p->queries ? p->queries : p->embeddings) + i * dim,
               dim * sizeof *x);
    }
    if (!status && cosine)
        status = normalise(x, n, dim);
    if (!status)
        status =
            dml_rerank_open(x, n, dim, member, p->set.is_gallery, &options, &p->rerank[cosine]);
    p->sources[cosine] = (struct dml_distance_source){dml_rerank_rows, p->rerank[cosine]};
    free(member);
    free(x);
    return status;
}

static enum dml_status finish(struct dml_processed *p) {
    size_t count = p->set.n * p->set.dim;
    p->rounded = dml_alloc_aligned(count, sizeof *p->rounded);
    if (!p->rounded)
        return DML_ERROR_MEMORY;
    for (size_t i = 0; i < count; i++)
        p->rounded[i] = (float)p->embeddings[i];
    p->set.embeddings = p->rounded;
    p->set.exact = p->embeddings;
    p->set.query_embeddings = p->queries;
    p->set.euclidean_distances = p->rerank[0] ? &p->sources[0] : NULL;
    p->set.cosine_distances = p->rerank[1] ? &p->sources[1] : NULL;
    return DML_OK;
}

enum dml_status dml_postprocess_apply(const struct dml_postprocess_options *o,
                                      const struct dml_evaluation_set *set, const double *fit,
                                      size_t fitted, bool euclidean, bool cosine,
                                      struct dml_processed *out) {
    memset(out, 0, sizeof *out);
    enum dml_status status = dml_postprocess_check(o, set);
    if (!status)
        status = take_embeddings(set, out);
    if (!status && o->whiten)
        status = whiten((size_t)o->whiten, fit, fitted, out);
    if (!status && (o->augment || o->expand))
        status = normalise(out->embeddings, set->n, out->set.dim);
    if (!status && o->augment)
        status = augment((size_t)o->augment, o->augment_alpha, out);
    if (!status && o->expand)
        status = expand((size_t)o->expand, o->expand_alpha, out);
    if (!status && o->rerank && euclidean)
        status = rerank(o, false, out);
    if (!status && o->rerank && cosine)
        status = rerank(o, true, out);
    return status ? status : finish(out);
}

void dml_processed_free(struct dml_processed *processed) {
    free(processed->embeddings);
    free(processed->queries);
    free(processed->rounded);
    dml_rerank_free(processed->rerank[0]);
    dml_rerank_free(processed->rerank[1]);
    memset(processed, 0, sizeof *processed);
}
