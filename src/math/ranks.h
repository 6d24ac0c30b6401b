#ifndef DML_MATH_RANKS_H
#define DML_MATH_RANKS_H

#include "math/rows.h"

/* Ranks of the positives of queries among a gallery, counted over tiles of the distance matrix:
 * nothing of the size of the matrix is ever held.
 *
 * Exact, though the tiles are float32: an element that is nearer to a positive's distance than the
 * proven bound of gemm's rounding error is compared in float64 (dml_frame_key), equal keys by the
 * samples' indices. */
struct dml_rank_task {
    const struct dml_frame *frame;
    const struct dml_rows *queries, *gallery; /* both ordered by class; one pointer: one set */
    const int32_t *query_class;               /* (queries->n) */
    const size_t *gallery_start;              /* (classes + 1) where a class's rows begin */
    const int32_t *groups; /* by sample, or NULL: a query's positives are those of other groups */
    const uint32_t *limit; /* (queries->n) larger ranks are not needed */
    const size_t *start;   /* (queries->n + 1) into `rank`: so many of the nearest positives of a
                              query are ranked, at most all it has */
    void (*progress)(void *data, double share); /* on the calling thread; may be NULL */
    void *data;
};

/* rank (start[queries->n]): per query from its nearest positive on, 1-based; 0 for ranks beyond its
 * limit. The gallery sample with the query's own index counts for nothing. */
enum dml_status dml_rank_positives(const struct dml_rank_task *task, uint32_t *rank);

#endif
