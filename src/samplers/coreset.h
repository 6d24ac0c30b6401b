#ifndef DML_SAMPLERS_CORESET_H
#define DML_SAMPLERS_CORESET_H

#include "samplers/candidates.h"

/* What is shared by the samplers that choose one candidate per samples_per_class images of a batch
 * by the distances between all candidates: the common part of their workspaces. */
struct dml_coreset {
    struct dml_candidates candidates;
    double *distances2; /* (n, n) squared, n = candidates.count */
    size_t choices;     /* how many a batch takes */
    uint32_t *chosen;   /* (choices) positions */
};

/* A state of `size` bytes that begins with a struct dml_planner. DML_ERROR_USAGE when there are
 * fewer candidates than choices. */
enum dml_status dml_coreset_planner_new(size_t size, const struct dml_sampler_context *context,
                                        void **state);

/* dml_coreset_close also takes a zeroed one, and what a failed open leaves. */
enum dml_status dml_coreset_open(struct dml_coreset *coreset, const struct dml_planner *planner);
void dml_coreset_close(struct dml_coreset *coreset);

/* Draws the candidates of a batch and computes their distances. */
enum dml_status dml_coreset_draw(struct dml_coreset *coreset, const struct dml_planner *planner,
                                 const struct dml_store *store, struct dml_rng *rng);

#endif
