#ifndef DML_CUDA_RANKS_H
#define DML_CUDA_RANKS_H

#include "math/ranks.h"

/* Ranks counted on a card: products of tiles, and a kernel that counts what is surely nearer and
 * lists the pairs that float32 cannot decide, which the processor decides. Every rank equals the
 * processor's. Memory is bounded, to some 300 MB. */
struct cuda_ranker;

/* NULL: there is no such card; says why. */
struct cuda_ranker *cuda_ranker_open(int device);
void cuda_ranker_close(struct cuda_ranker *ranker); /* may be NULL */

/* Valid as long as the ranker; NULL for NULL. Where the card cannot, for lack of memory or because
 * too many pairs are too close to call, it says so once, and the processor counts. */
const struct dml_rank_counter *cuda_ranker_counter(const struct cuda_ranker *ranker);

#endif
