#ifndef DML_POSTPROCESS_POSTPROCESS_H
#define DML_POSTPROCESS_POSTPROCESS_H

#include "dml/postprocess.h"

/* The flags of all methods, and a set processed by those that the flags ask for, in the order
 * whitening, augmentation, expansion, re-ranking. */
struct dml_postprocess_options {
    int64_t whiten, augment, expand;
    double augment_alpha, expand_alpha;
    bool rerank;
    int64_t rerank_k1, rerank_k2;
    double rerank_weight;
};
extern const struct dml_param_table dml_postprocess_params;

struct dml_processed {
    struct dml_evaluation_set set; /* evaluated like any other; labels and masks as given */
    double *embeddings, *queries;
    float *rounded;
    struct dml_rerank *rerank[2]; /* by Euclidean distance, by cosine */
    struct dml_distance_source sources[2];
};

/* Whether the flags ask for anything. */
bool dml_postprocess_any(const struct dml_postprocess_options *options);

/* DML_ERROR_USAGE: a parameter of a method that is not asked for. */
enum dml_status dml_postprocess_flags_check(const struct dml_params *params);

/* DML_ERROR_USAGE: what can be found wrong without embeddings. */
enum dml_status dml_postprocess_check(const struct dml_postprocess_options *options,
                                      const struct dml_evaluation_set *set);

/* `euclidean`, `cosine`: which distances are to be re-ranked. Whitening is fitted to the `fitted`
 * rows of `fit` (dim as the set), or, if that is NULL, to the set's gallery. DML_ERROR_INPUT: an
 * embedding that is not finite, or zero where unit vectors are needed. Free with
 * dml_processed_free, even after a failure. */
enum dml_status dml_postprocess_apply(const struct dml_postprocess_options *options,
                                      const struct dml_evaluation_set *set, const double *fit,
                                      size_t fitted, bool euclidean, bool cosine,
                                      struct dml_processed *out);
void dml_processed_free(struct dml_processed *processed);

#endif
