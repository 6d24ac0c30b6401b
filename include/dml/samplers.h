#ifndef DML_SAMPLERS_H
#define DML_SAMPLERS_H

#include "dml/method.h"
#include "dml/rng.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Flags that several samplers share; table dml_sampling_params. */
struct dml_sampling_options {
    int64_t batchmatch_bigbs;  /* candidates a plan draws */
    int64_t batchmatch_ncomps; /* random batches a batch matcher compares */
    bool storage_no_update;    /* the store stays as made before the first epoch */
    double mb_mom;             /* > 0: momentum on changes of store entries */
    int64_t lowproj_dim;       /* > 0: the store is projected to this many dimensions first */
    char *sim_measure;         /* "euclidean" */
    bool idx_full_prec;        /* deprecated in the study, no effect: its command lines use it */
    double mb_lr;              /* the same */
};
DML_API extern const struct dml_param_table dml_sampling_params;

/* The training images as a sampler sees them. */
struct dml_sampler_context {
    size_t images, classes;
    const int32_t *labels; /* (images), 0..classes-1 */
    size_t batch_size;     /* a multiple of samples_per_class */
    size_t samples_per_class;
    size_t dim; /* of the embeddings, for samplers that need a store */
    uint64_t seed;
    const struct dml_sampling_options *shared;
};

/* One embedding per training image, for samplers that look at the embedding space. */
struct dml_store {
    size_t images, dim;
    float *embeddings; /* (images, dim) */
    float *changes; /* (images, dim) running mean of their changes, with the parameter data_mb_mom;
                       or NULL */
};

/* A batch sampler plans all batches of an epoch at once. */
struct dml_sampler {
    struct dml_method method;
    bool needs_store;

    /* The context outlives the state and has been checked: labels in range, a batch no larger than
     * the images and a multiple of samples_per_class, `shared` set. Options must be copied. */
    enum dml_status (*create)(const void *options, const struct dml_sampler_context *context,
                              void **state);

    /* Fills `indices` (batches, batch_size) with images. The same epoch gives the same plan,
     * whatever the number of threads. `store` is NULL unless needs_store.
     * `progress(data, done)` is called with the number of batches planned, by one thread at a
     * time; may be NULL. */
    enum dml_status (*plan)(void *state, uint64_t epoch, const struct dml_store *store,
                            size_t batches, uint32_t *indices,
                            void (*progress)(void *data, size_t done), void *data);

    void (*destroy)(void *state);
};

/* A sampler in use; owns its store. floor(images / batch_size) batches make an epoch. */
struct dml_sampling;

/* By name, with `flags` as on the command line ("--data_batchmatch_bigbs 256"; those of
 * dml_sampling_params too, so that context->shared is not read) or NULL. Copies what `context`
 * points to. The caller frees the result with dml_sampling_free. DML_ERROR_USAGE: no such sampler
 * or flag, a value out of bounds, and what dml_sampling_create says. On failure *out is unchanged.
 */
DML_API enum dml_status dml_sampling_open(const char *sampler, const char *flags,
                                          const struct dml_sampler_context *context,
                                          struct dml_sampling **out);
/* The same with options that tables already filled. Copies what `context` points to; NULL `options`
 * or `shared` mean the defaults. DML_ERROR_USAGE: batch_size is not a multiple of
 * samples_per_class, or larger than the number of images, or than the candidates it is chosen from.
 * DML_ERROR_INPUT: a label out of range. */
DML_API enum dml_status dml_sampling_create(const struct dml_sampler *sampler, const void *options,
                                            const struct dml_sampler_context *context,
                                            struct dml_sampling **out);
DML_API void dml_sampling_free(struct dml_sampling *sampling);
DML_API size_t dml_sampling_batches(const struct dml_sampling *sampling);
DML_API enum dml_status dml_sampling_plan(struct dml_sampling *sampling, uint64_t epoch,
                                          uint32_t *indices,
                                          void (*progress)(void *data, size_t done), void *data);

/* The store, NULL when the sampler needs none. The trainer writes all its embeddings before the
 * first epoch; a checkpoint holds it whole. */
DML_API struct dml_store *dml_sampling_store(struct dml_sampling *sampling);

/* Puts the embeddings (n, dim) of a batch's images into the store; no effect without one or with
 * data_storage_no_update. With a momentum m > 0 (data_mb_mom): change = m change + (1 - m)
 * (new - stored), stored = new + change, where change starts at 0. */
DML_API void dml_sampling_update(struct dml_sampling *sampling, const uint32_t *indices, size_t n,
                                 const float *embeddings);

#ifdef __cplusplus
}
#endif
#endif
