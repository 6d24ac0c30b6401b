#ifndef DML_METRICS_FILES_H
#define DML_METRICS_FILES_H

#include "base/npy.h"
#include "dml/metrics.h"

/* Evaluation sets from .npy files: embeddings (n, dim) of real numbers of any type and order,
 * labels and groups (n) or (n, 1) of integers of any width. Files stay mapped; float32 in C order
 * is used in place. Numbers that float32 cannot hold (float64, wide integers) are evaluated in
 * float64. */
struct dml_embedding_files {
    const char *embeddings, *labels;                 /* labels may be NULL: all 0 */
    const char *gallery_embeddings, *gallery_labels; /* NULL: one set, every sample is both */
    const char *groups, *gallery_groups;             /* NULL: none */
};

struct dml_embedding_set {
    struct dml_evaluation_set set; /* queries first, then the gallery */
    size_t queries;
    struct dml_npy files[2];
    float *owned;
    double *owned_exact;
    int32_t *labels, *groups;
    __int128 *own_labels; /* (n): as the files have them, where `labels` are their ranks; or NULL */
    uint8_t *is_query, *is_gallery;
};

/* Labels become int32 as they are where all fit, otherwise the ranks of their values.
 * DML_ERROR_INPUT names the file: not .npy, of another shape, lengths or dimensions that differ,
 * labels that are not integers, numbers that float64 does not hold exactly. Free with
 * dml_embedding_set_close, even after a failure. */
enum dml_status dml_embedding_set_open(const struct dml_embedding_files *files,
                                       struct dml_embedding_set *out);
void dml_embedding_set_close(struct dml_embedding_set *set);

#endif
