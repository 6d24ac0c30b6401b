#ifndef DML_SAMPLERS_CANDIDATES_H
#define DML_SAMPLERS_CANDIDATES_H

#include "samplers/planning.h"

/* The images that a plan looks at for one batch, with their stored embeddings. An index into them
 * is a position; images[position] is the image whose embedding is row `position` of x. */
struct dml_candidates {
    size_t count, dim; /* dim after a projection */
    size_t stored_dim;
    uint32_t *images; /* (count) */
    double *x;        /* (count, dim) */
    double *raw;      /* (count, stored_dim), with a projection */
    double *map;      /* (stored_dim, dim), with a projection */
    uint64_t *drawn;  /* (count) */
};

/* How many there are: --data_batchmatch_bigbs, or all images where there are fewer. */
size_t dml_candidates_count(const struct dml_sampler_context *context);

/* DML_ERROR_USAGE when there are fewer candidates than the `need` that a batch takes from them. */
enum dml_status dml_candidates_check(const struct dml_sampler_context *context, size_t need);

enum dml_status dml_candidates_open(struct dml_candidates *candidates,
                                    const struct dml_sampler_context *context, size_t count);
void dml_candidates_close(struct dml_candidates *candidates);

/* Different images, drawn uniformly, into `images`. */
void dml_candidates_draw(struct dml_candidates *candidates, size_t images, struct dml_rng *rng);

/* Looks up the embeddings of `images`, and projects them by a map drawn for this batch as PyTorch
 * initialises a linear layer. DML_ERROR_NUMERIC: a stored embedding is not finite. */
enum dml_status dml_candidates_load(struct dml_candidates *candidates,
                                    const struct dml_store *store, struct dml_rng *rng);

/* The batch of the chosen positions, each followed by samples_per_class - 1 random images of its
 * class. */
void dml_candidates_fill(const struct dml_candidates *candidates, const struct dml_planner *planner,
                         const uint32_t *chosen, struct dml_rng *rng, uint32_t *indices);

#endif
