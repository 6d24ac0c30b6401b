#ifndef DML_MATH_RANKS_H
#define DML_MATH_RANKS_H

#include "math/rows.h"

#include <stdbool.h>

/* Ranks of the positives of queries in a gallery, counted over tiles of the distance matrix:
 * nothing of the size of the matrix is ever held.
 *
 * Exact, though the tiles are float32: an element that is closer to a positive's distance than the
 * proven bound on gemm's rounding error is compared in float64 (dml_frame_key), equal keys by the
 * samples' indices. */
struct dml_rank_counter;

struct dml_rank_task {
    const struct dml_frame *frame;
    const struct dml_rows *queries, *gallery; /* both ordered by class; the same pointer: one set */
    const int32_t *query_class;               /* (queries->n) */
    const size_t *gallery_start;              /* (classes + 1) where a class's rows begin */
    const int32_t *groups; /* by sample, or NULL: a query's positives are those of other groups */
    const uint32_t *limit; /* (queries->n) larger ranks are not needed */
    const size_t *start;   /* (queries->n + 1) into `rank`: this many of the nearest positives of a
                              query are ranked, at most all it has */
    const struct dml_rank_counter *counter;     /* NULL: the processor counts */
    void (*progress)(void *data, double share); /* on the calling thread; may be NULL */
    void *data;
};

/* What something other than the processor, such as a GPU, has to count for queries first..end-1.
 * The levels of query q, level[from..to) with from = start[q] - start[first] and
 * to = start[q + 1] - start[first], descend. Take a sample j of another class with its float32
 * value <x_q,x_j> - half_j, summed in any order. If the value differs from the first level below it
 * and from the level before that one by more than dml_rank_error, the sample is surely nearer than
 * that first level's positive and adds 1 to its `nearer` (to none where no level is below the
 * value). Otherwise dml_rank_settle decides. */
struct dml_rank_work {
    const struct dml_rank_task *task;
    size_t first, end;
    const float *level;
    uint32_t *nearer; /* zeroed; one per level */
    void *pass;       /* of ranks.c */
};

/* For query q and gallery rows with norms up to `longest`. */
float dml_rank_error(const struct dml_rank_work *work, size_t q, float longest);
/* Decides for query q and gallery row j in float64; several threads may call it at once. */
void dml_rank_settle(const struct dml_rank_work *work, size_t q, size_t j);

struct dml_rank_counter {
    /* False: it cannot, and the processor counts all of it. */
    bool (*count)(void *data, const struct dml_rank_work *work);
    void *data;
};

/* rank (start[queries->n]): per query from its nearest positive on, 1-based; 0 for ranks beyond its
 * limit. The gallery sample with the query's own index does not count. */
enum dml_status dml_rank_positives(const struct dml_rank_task *task, uint32_t *rank);

#endif
