#ifndef DML_POSTPROCESS_H
#define DML_POSTPROCESS_H

#include "dml/metrics.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is done to embeddings before they are ranked. All in float64; arrays are row-major and the
 * caller's. All of them may return DML_ERROR_MEMORY; other errors are named. */

/* Alpha query expansion (Radenovic et al. 2018, "Fine-tuning CNN image retrieval with no human
 * annotation"). For each of the queries (m, dim) with its `neighbours` most similar rows g of
 * gallery (n, dim), all unit vectors: out (m, dim) = normalise(q + sum max(<q,g>, 0)^alpha g).
 * `own` (m): a query's own row of the gallery, which is not among its neighbours, UINT32_MAX for
 * none; NULL: none has one. If there are fewer rows, all are taken. */
DML_API enum dml_status dml_expand_queries(const double *queries, size_t m, const uint32_t *own,
                                           const double *gallery, size_t n, size_t dim,
                                           size_t neighbours, double alpha, double *out);

/* Database-side augmentation (Arandjelovic and Zisserman 2012, "Three things everyone should know
 * to improve object retrieval"; weights as in Gordo et al. 2017): each row of gallery (n, dim),
 * unit vectors, takes in its neighbours as an expanded query does. */
DML_API enum dml_status dml_augment_database(const double *gallery, size_t n, size_t dim,
                                             size_t neighbours, double alpha, double *out);

/* Whitening by principal components (Jegou and Chum 2012, "Negative evidences and co-occurrences in
 * image retrieval: the benefit of PCA and whitening"): x becomes normalise(L^-1/2 U^T (x - mean)),
 * U the first `kept` eigenvectors of the covariance of what it was fitted to, L their eigenvalues.
 */
struct dml_whitening {
    size_t dim, kept;
    double *mean;       /* (dim) */
    double *projection; /* (kept, dim) */
};

/* Fits to x (n, dim), 1 <= kept <= dim. DML_ERROR_INPUT: the covariance has fewer directions than
 * `kept`. Free with dml_whitening_free. */
DML_API enum dml_status dml_whitening_fit(const double *x, size_t n, size_t dim, size_t kept,
                                          struct dml_whitening *out);
/* out (n, kept) of x (n, dim). An embedding that is the mean itself stays 0. */
DML_API void dml_whitening_apply(const struct dml_whitening *whitening, const double *x, size_t n,
                                 double *out);
DML_API void dml_whitening_free(struct dml_whitening *whitening);

/* Re-ranking by k-reciprocal neighbours (Zhong et al. 2017, "Re-ranking person re-identification
 * with k-reciprocal encoding"), over queries and gallery as one list. */
struct dml_rerank_options {
    size_t k1, k2; /* neighbours; how many of them are averaged */
    double weight; /* of the original distance, 0..1 */
};
struct dml_rerank;

/* For embeddings (n, dim). `member` (n): samples in the list, NULL: all; `gallery` (n): those to
 * which distances are wanted, NULL: all. Keeps copies; memory grows with n (k1 + dim), not with
 * n^2. */
DML_API enum dml_status dml_rerank_open(const double *embeddings, size_t n, size_t dim,
                                        const uint8_t *member, const uint8_t *gallery,
                                        const struct dml_rerank_options *options,
                                        struct dml_rerank **out);

/* `rows` of a struct dml_distance_source whose data is the struct dml_rerank: distances from
 * members to the gallery: 0 to itself, infinite to samples outside the gallery. */
DML_API enum dml_status dml_rerank_rows(void *rerank, const uint32_t *queries, size_t count,
                                        double *out);
DML_API void dml_rerank_free(struct dml_rerank *rerank);

#ifdef __cplusplus
}
#endif
#endif
