#ifndef DML_MINERS_H
#define DML_MINERS_H

#include "dml/method.h"
#include "dml/rng.h"
#include "dml/tuples.h"

#ifdef __cplusplus
extern "C" {
#endif

struct dml_miner_context {
    size_t dim;    /* of the embeddings */
    double margin; /* the criterion's own, 0.2 for one without */
};

/* A batch miner: picks tuples from a batch. Nothing is differentiated. */
struct dml_miner {
    struct dml_method method;
    enum dml_tuple_kind gives;

    enum dml_status (*create)(const void *options, const struct dml_miner_context *context,
                              void **state);

    /* Fills `out` (dml_tuples_reserve it first). A batch without a valid tuple gives count 0 or
     * the documented fallback. Everything random comes from `rng`. Distances are of the
     * embeddings as given. The caller has checked the batch. `swapped`, when not NULL, gets the
     * number of tuples a regularised miner replaced (rho_distance), 0 for others. */
    enum dml_status (*mine)(void *state, const struct dml_batch *batch, struct dml_rng *rng,
                            struct dml_tuples *out, size_t *swapped);

    void (*destroy)(void *state);
};

/* A miner in use, as struct dml_objective is for criteria. */
struct dml_mining;

enum dml_status dml_mining_open(const char *miner, const char *flags,
                                const struct dml_miner_context *context, struct dml_mining **out);
enum dml_status dml_mining_create(const struct dml_miner *miner, const void *options,
                                  const struct dml_miner_context *context, struct dml_mining **out);
void dml_mining_free(struct dml_mining *mining);
const struct dml_miner *dml_mining_miner(const struct dml_mining *mining);

/* Checks the batch (finite, dim as created), then mines. */
enum dml_status dml_mining_compute(struct dml_mining *mining, const struct dml_batch *batch,
                                   struct dml_rng *rng, struct dml_tuples *out, size_t *swapped);

/* DML_OK when the miner gives what the criterion takes; otherwise DML_ERROR_USAGE with a message
 * that lists the miners that do. `miner` is NULL when none was chosen. */
struct dml_criterion;
enum dml_status dml_mining_allowed(const struct dml_criterion *criterion,
                                   const struct dml_miner *miner);

#ifdef __cplusplus
}
#endif
#endif
