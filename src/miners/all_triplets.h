#ifndef DML_MINERS_ALL_TRIPLETS_H
#define DML_MINERS_ALL_TRIPLETS_H

#include "miners/common.h"

/* Whether a miner keeps (a, p, n), given the distances in float64 from a (n), and from p (n). */
typedef bool (*miner_keeps)(const void *options, const double *of_anchor, const double *of_positive,
                            size_t positive, size_t negative);

/* All triplets of the batch that it keeps, in the order of anchor, positive and negative. */
enum dml_status miner_all_triplets(struct miner_state *state, const struct dml_batch *batch,
                                   miner_keeps keeps, struct dml_tuples *out);

#endif
