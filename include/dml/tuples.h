#ifndef DML_TUPLES_H
#define DML_TUPLES_H

#include "dml/error.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A batch of embeddings as miners and criteria see it; both arrays stay the caller's. */
struct dml_batch {
    size_t n, dim;           /* 1 to 2^31 - 1 embeddings of 1 or more dimensions */
    const float *embeddings; /* (n, dim), row-major */
    const int32_t *labels;   /* (n), each in 0..classes-1; for miners any of 0 and more */
};

/* What a miner gives and a criterion takes. */
enum dml_tuple_kind {
    DML_TUPLES_NONE,     /* the criterion looks at the whole batch */
    DML_TUPLES_TRIPLETS, /* anchor, positive, negative */
    DML_TUPLES_PAIRS,    /* anchor, positive; negatives are all samples of other classes */
    DML_TUPLES_SETS,     /* anchor; positives and negatives are all others, by label */
};

/* Indices into the batch. Arrays are of length `count` (room for `capacity`), or NULL where the
 * kind has no such member. `fourth` is the second negative of a quadruplet, NULL until drawn. */
struct dml_tuples {
    enum dml_tuple_kind kind;
    size_t count, capacity;
    int32_t *anchors, *positives, *negatives, *fourth;
};

/* Makes it empty, of `kind`, with room for `capacity` tuples; reuses what it already holds.
 * A zero-initialised struct is a valid empty one. DML_ERROR_MEMORY leaves it empty. */
enum dml_status dml_tuples_reserve(struct dml_tuples *tuples, enum dml_tuple_kind kind,
                                   size_t capacity);
void dml_tuples_free(struct dml_tuples *tuples);

#ifdef __cplusplus
}
#endif
#endif
