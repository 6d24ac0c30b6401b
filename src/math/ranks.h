#ifndef DML_MATH_RANKS_H
#define DML_MATH_RANKS_H

#include "math/rows.h"

#include <stdbool.h>

/* Ranks of the positives of queries among a gallery, counted over tiles of the distance matrix:
 * nothing of the size of the matrix is ever held.
 *
 * Exact, though the tiles are float32: an element that is nearer to a positive's distance than the
 * proven bound of gemm's rounding error is compared in float64 (dml_frame_key), equal keys by the
 * samples' indices. */
struct dml_rank_counter;

struct dml_rank_task {
    const struct dml_frame *frame;
    const struct dml_rows *queries, *gallery; /* both ordered by class; one pointer: one set */
    const int32_t *query_class;               /* (queries->n) */
    const size_t *gallery_start;              /* (classes + 1) where a class's rows begin */
    const int32_t *groups; /* by sample, or NULL: a query's positives are those of other groups */
    const uint32_t *limit; /* (queries->n) larger ranks are not needed */
    const size_t *start;   /* (queries->n + 1) into `rank`: so many of the nearest positives of a
                              query are ranked, at most all it has */
    const struct dml_rank_counter *counter;     /* NULL: the processor counts */
    void (*progress)(void *data, double share); /* on the calling thread; may be NULL */
    void *data;
};

/* What another than the processor, as a GPU, is to count for queries first..end-1. Of query q the
 * levels level[from..to), from = start[q] - start[first] and to = start[q + 1] - start[first],
 * descend. A sample j of another class, with the float32 value <x_q,x_j> - half_j, in any order of
 * summation, is surely nearer than the positive of the first level below that value where the value
 * is off this level and the one before it by more than dml_rank_error, and adds 1 to its `nearer`
 * (nothing where no level is below it). Else dml_rank_settle decides. */
struct dml_rank_work {
    const struct dml_rank_task *task;
    size_t first, end;
    const float *level;
    uint32_t *nearer; /* zeroed; of each level */
    void *pass;       /* of ranks.c */
};

/* For query q and gallery rows with norms up to `longest`. */
float dml_rank_error(const struct dml_rank_work *work, size_t q, float longest);
/* Decides for query q and gallery row j in float64; several threads may. */
void dml_rank_settle(const struct dml_rank_work *work, size_t q, size_t j);

struct dml_rank_counter {
    /* False: it cannot, and the processor counts all of it. */
    bool (*count)(void *data, const struct dml_rank_work *work);
    void *data;
};

/* rank (start[queries->n]): per query from its nearest positive on, 1-based; 0 for ranks beyond its
 * limit. The gallery sample with the query's own index counts for nothing. */
enum dml_status dml_rank_positives(const struct dml_rank_task *task, uint32_t *rank);

#endif
