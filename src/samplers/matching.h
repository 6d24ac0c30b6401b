#ifndef DML_SAMPLERS_MATCHING_H
#define DML_SAMPLERS_MATCHING_H

#include "samplers/candidates.h"

/* Batch matchers: among some random batches of a big set, they take the one most like the set. The
 * big set is drawn class by class, samples_per_class images each time; so are the batches from it,
 * in which the images of one draw are different positions of the set. */

/* How unlike the big set a batch is. */
struct dml_match_cost {
    enum dml_status (*open)(size_t count, size_t dim, void **workspace);
    void (*close)(void *workspace);
    /* Looks at the big set x (count, dim), which stays as it is until the next call. */
    enum dml_status (*prepare)(void *workspace, const double *x);
    /* The cost of the batch of `n` positions of the big set; the least is taken. */
    enum dml_status (*cost)(void *workspace, const uint32_t *positions, size_t n, double *out);
};

enum dml_status dml_matching_create(const void *options, const struct dml_sampler_context *context,
                                    void **state);
enum dml_status dml_matching_plan(const struct dml_match_cost *cost, void *state, uint64_t epoch,
                                  const struct dml_store *store, size_t batches, uint32_t *indices,
                                  void (*progress)(void *data, size_t done), void *data);

#endif
