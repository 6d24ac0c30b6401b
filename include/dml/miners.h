#ifndef DML_MINERS_H
#define DML_MINERS_H

#include "dml/method.h"
#include "dml/rng.h"
#include "dml/tuples.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

struct dml_miner_context {
    size_t dim;    /* of the embeddings, 1 or more */
    double margin; /* the criterion's own, 0.2 for one without; a distance, used by semihard */
};

/* A batch miner: picks tuples from a batch. Nothing is differentiated. */
struct dml_miner {
    struct dml_method method;
    enum dml_tuple_kind gives;

    /* Sets *state; NULL: there is none. `options` is the struct of the method's table and outlives
     * the state, `context` does not. */
    enum dml_status (*create)(const void *options, const struct dml_miner_context *context,
                              void **state);

    /* Fills `out` (dml_tuples_reserve it first). A batch without a valid tuple gives count 0 or the
     * documented fallback. Everything random comes from `rng`. Distances are between the embeddings
     * as given. The caller has checked the batch. `swapped`, when not NULL, gets the number of
     * tuples a regularised miner replaced (rho_distance), 0 for others. */
    enum dml_status (*mine)(void *state, const struct dml_batch *batch, struct dml_rng *rng,
                            struct dml_tuples *out, size_t *swapped);

    void (*destroy)(void *state); /* may be NULL when create is; accepts NULL */
};

/* A miner in use, as struct dml_objective is for criteria. */
struct dml_mining;

/* By name, with `flags` as on the command line ("--miner_distance_lower_cutoff 0.4") or NULL. The
 * caller frees the result with dml_mining_free; `context` may go. DML_ERROR_USAGE: no such miner or
 * flag, a value out of bounds. DML_ERROR_INPUT: an invalid context. On failure *out is unchanged.
 */
DML_API enum dml_status dml_mining_open(const char *miner, const char *flags,
                                        const struct dml_miner_context *context,
                                        struct dml_mining **out);
/* The same with options that a table already filled, which must outlive it. */
DML_API enum dml_status dml_mining_create(const struct dml_miner *miner, const void *options,
                                          const struct dml_miner_context *context,
                                          struct dml_mining **out);
DML_API void dml_mining_free(struct dml_mining *mining);
DML_API const struct dml_miner *dml_mining_miner(const struct dml_mining *mining);

/* Checks the batch (finite, dim as created), then mines into `out`, which the caller frees with
 * dml_tuples_free. On failure `out` is empty or unchanged: DML_ERROR_INPUT names the first culprit.
 * One thread at a time. */
DML_API enum dml_status dml_mining_compute(struct dml_mining *mining, const struct dml_batch *batch,
                                           struct dml_rng *rng, struct dml_tuples *out,
                                           size_t *swapped);

/* Whether the criterion learns from what the miner gives. */
struct dml_criterion;
DML_API bool dml_mining_fits(const struct dml_criterion *criterion, const struct dml_miner *miner);

/* DML_OK when the miner gives what the criterion takes; otherwise DML_ERROR_USAGE with a message
 * that lists the miners that do. `miner` is NULL when none was chosen. */
DML_API enum dml_status dml_mining_allowed(const struct dml_criterion *criterion,
                                           const struct dml_miner *miner);

#ifdef __cplusplus
}
#endif
#endif
