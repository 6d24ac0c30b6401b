#include "metrics/files.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Of the numbers in .npy files, only wide integers may be beyond what float64 holds exactly. */
static enum dml_status check_integers(const char *path, const struct dml_npy *npy) {
    if (npy->type != DML_NPY_I64 && npy->type != DML_NPY_U64)
        return DML_OK;
    for (size_t i = 0; i < npy->count; i++) {
        __int128 value = dml_npy_integer(npy, i);
        if ((__int128)(double)value != value)
            return dml_fail(DML_ERROR_INPUT,
                            "%s: holds %s%llu in row %zu: float64 cannot tell it from its "
                            "neighbours",
                            path, value < 0 ? "-" : "",
                            (unsigned long long)(value < 0 ? -value : value), i / npy->dims[1]);
    }
    return DML_OK;
}

/* Distances come from squares, which float64 can hold for values between these. */
static enum dml_status check_range(const char *path, const struct dml_npy *npy) {
    double largest = 0, *row = npy->type == DML_NPY_F64 ? dml_alloc(npy->dims[1], 8) : NULL;
    if (npy->type != DML_NPY_F64)
        return DML_OK;
    for (size_t i = 0; row && i < npy->dims[0]; i++) {
        dml_npy_rows64(npy, i, 1, row);
        for (size_t d = 0; d < npy->dims[1]; d++) {
            double size = fabs(row[d]);
            largest = size > largest && isfinite(size) ? size : largest;
        }
    }
    free(row);
    if (!row)
        return DML_ERROR_MEMORY;
    if (largest > 1e150 || (largest > 0 && largest < 1e-140))
        return dml_fail(DML_ERROR_INPUT,
                        "%s: its largest value is %g, whose square float64 cannot hold; scale the "
                        "embeddings",
                        path, largest);
    return DML_OK;
}

static enum dml_status open_embeddings(const char *path, struct dml_npy *out) {
    enum dml_status status = dml_npy_open(path, out);
    if (status)
        return status;
    if (out->dim_count != 2)
        return dml_fail(DML_ERROR_INPUT, "%s: has %d axes, embeddings have two (n, dim)", path,
                        out->dim_count);
    if (out->count == 0)
        return dml_fail(DML_ERROR_INPUT, "%s: is an empty array (%zu, %zu)", path, out->dims[0],
                        out->dims[1]);
    status = check_integers(path, out);
    return status ? status : check_range(path, out);
}

struct label {
    __int128 value;
    size_t sample;
};

static int by_value(const void *a, const void *b) {
    const struct label *x = a, *y = b;
    return (x->value > y->value) - (x->value < y->value);
}

/* Floats that are whole numbers, which pandas turns integers into, count as integers. */
static enum dml_status take_whole(const char *path, const char *what, const struct dml_npy *npy,
                                  struct label *out) {
    const double *values;
    double *owned;
    enum dml_status status = dml_npy_view64(npy, &values, &owned);
    for (size_t i = 0; !status && i < npy->count; i++) {
        if (fabs(values[i]) <= 9007199254740992.0 && values[i] == trunc(values[i])) /* 2^53 */
            out[i].value = (__int128)values[i];
        else
            status = dml_fail(DML_ERROR_INPUT, "%s: number %zu (from 0) is %g, %s are integers",
                              path, i, values[i], what);
    }
    free(owned);
    return status;
}

/* Reads the labels (or groups, as `what` says) from a file, one for each of the `count` embeddings
 * of another. */
static enum dml_status read_labels(const char *path, const char *what, const char *embeddings,
                                   size_t count, struct label *out) {
    struct dml_npy npy;
    enum dml_status status = dml_npy_open(path, &npy);
    if (status)
        return status;
    bool column = npy.dim_count == 1 || (npy.dim_count == 2 && npy.dims[1] == 1);
    if (!column)
        status = dml_fail(DML_ERROR_INPUT, "%s: has %d axes, %s have one (n)", path, npy.dim_count,
                          what);
    else if (npy.count != count)
        status = dml_fail(DML_ERROR_INPUT, "%s: has %zu %s for the %zu embeddings of %s", path,
                          npy.count, what, count, embeddings);
    bool floats = !dml_npy_is_integer(&npy);
    for (size_t i = 0; !status && !floats && i < count; i++)
        out[i].value = dml_npy_integer(&npy, i);
    if (!status && floats)
        status = take_whole(path, what, &npy, out);
    dml_npy_close(&npy);
    return status;
}

/* Labels as int32: their values, or their values' ranks where one is beyond 32 bits. *wide: the
 * latter. */
static void narrow_labels(struct label *labels, size_t count, int32_t *out, bool *wide) {
    *wide = false;
    for (size_t i = 0; i < count; i++) {
        labels[i].sample = i;
        out[i] = (int32_t)labels[i].value;
        *wide |= labels[i].value < INT32_MIN || labels[i].value > INT32_MAX;
    }
    if (!*wide)
        return;
    qsort(labels, count, sizeof *labels, by_value);
    int32_t rank = 0;
    for (size_t i = 0; i < count; i++) {
        rank += i > 0 && labels[i].value != labels[i - 1].value;
        out[labels[i].sample] = rank;
    }
}

static enum dml_status keep_own(const struct label *labels, size_t count, __int128 **own) {
    *own = dml_alloc(count, sizeof **own);
    for (size_t i = 0; *own && i < count; i++)
        (*own)[labels[i].sample] = labels[i].value;
    return *own ? DML_OK : DML_ERROR_MEMORY;
}

/* The labels or groups of queries and gallery. `own` may be NULL; else it gets them as they are in
 * the files where *out has their ranks. */
static enum dml_status read_all_labels(const struct dml_embedding_files *files, const char *what,
                                       const char *of_queries, const char *of_gallery,
                                       const struct dml_embedding_set *set, int32_t **out,
                                       __int128 **own) {
    size_t n = set->set.n;
    *out = dml_alloc(n, sizeof **out);
    if (!of_queries || !*out)
        return *out ? DML_OK : DML_ERROR_MEMORY;
    struct label *labels = dml_alloc(n, sizeof *labels);
    if (!labels)
        return DML_ERROR_MEMORY;
    enum dml_status status = read_labels(of_queries, what, files->embeddings, set->queries, labels);
    if (!status && files->gallery_embeddings)
        status = read_labels(of_gallery, what, files->gallery_embeddings, n - set->queries,
                             labels + set->queries);
    bool wide = false;
    if (!status)
        narrow_labels(labels, n, *out, &wide);
    if (!status && wide && own)
        status = keep_own(labels, n, own);
    free(labels);
    return status;
}

/* Takes numbers that float32 cannot hold in float64, where they stay finite if they were. */
static enum dml_status take_exact(struct dml_embedding_set *out) {
    const struct dml_npy *queries = &out->files[0], *gallery = &out->files[1];
    if (dml_npy_is_float32(queries) && (!gallery->data || dml_npy_is_float32(gallery)))
        return DML_OK;
    if (!gallery->data)
        return dml_npy_view64(queries, &out->set.exact, &out->owned_exact);
    out->owned_exact = dml_alloc_aligned(queries->count + gallery->count, sizeof(double));
    if (!out->owned_exact)
        return DML_ERROR_MEMORY;
    dml_npy_rows64(queries, 0, queries->dims[0], out->owned_exact);
    dml_npy_rows64(gallery, 0, gallery->dims[0], out->owned_exact + queries->count);
    out->set.exact = out->owned_exact;
    return DML_OK;
}

/* Queries and gallery in one array, with masks. */
static enum dml_status join(const struct dml_embedding_files *files,
                            struct dml_embedding_set *out) {
    const struct dml_npy *queries = &out->files[0], *gallery = &out->files[1];
    if (queries->dims[1] != gallery->dims[1])
        return dml_fail(DML_ERROR_INPUT,
                        "%s: has embeddings of %zu dimensions, those of %s have "
                        "%zu",
                        files->gallery_embeddings, gallery->dims[1], files->embeddings,
                        queries->dims[1]);
    size_t n = queries->dims[0] + gallery->dims[0];
    out->owned = dml_alloc_aligned(queries->count + gallery->count, sizeof *out->owned);
    out->is_query = dml_alloc(n, 1);
    out->is_gallery = dml_alloc(n, 1);
    if (!out->owned || !out->is_query || !out->is_gallery)
        return DML_ERROR_MEMORY;
    dml_npy_rows(queries, 0, queries->dims[0], out->owned);
    dml_npy_rows(gallery, 0, gallery->dims[0], out->owned + queries->count);
    memset(out->is_query, 1, queries->dims[0]);
    memset(out->is_gallery + queries->dims[0], 1, gallery->dims[0]);
    out->set.n = n;
    out->set.embeddings = out->owned;
    out->set.is_query = out->is_query;
    out->set.is_gallery = out->is_gallery;
    return DML_OK;
}

enum dml_status dml_embedding_set_open(const struct dml_embedding_files *files,
                                       struct dml_embedding_set *out) {
    memset(out, 0, sizeof *out);
    enum dml_status status = open_embeddings(files->embeddings, &out->files[0]);
    if (!status && files->gallery_embeddings)
        status = open_embeddings(files->gallery_embeddings, &out->files[1]);
    if (status)
        return status;
    out->queries = out->set.n = out->files[0].dims[0];
    out->set.dim = out->files[0].dims[1];
    if (files->gallery_embeddings)
        status = join(files, out);
    else
        status = dml_npy_view(&out->files[0], &out->set.embeddings, &out->owned);
    if (!status)
        status = take_exact(out);
    if (!status)
        status = read_all_labels(files, "labels", files->labels, files->gallery_labels, out,
                                 &out->labels, &out->own_labels);
    out->set.labels = out->labels;
    if (!status && files->groups)
        status = read_all_labels(files, "groups", files->groups, files->gallery_groups, out,
                                 &out->groups, NULL);
    out->set.groups = out->groups;
    if (files->gallery_embeddings) /* all of it is in memory now */
        for (int f = 0; f < 2; f++)
            dml_npy_close(&out->files[f]);
    return status;
}

void dml_embedding_set_close(struct dml_embedding_set *set) {
    dml_npy_close(&set->files[0]);
    dml_npy_close(&set->files[1]);
    free(set->owned);
    free(set->owned_exact);
    free(set->labels);
    free(set->own_labels);
    free(set->groups);
    free(set->is_query);
    free(set->is_gallery);
    memset(set, 0, sizeof *set);
}
