#ifndef DML_TUPLES_H
#define DML_TUPLES_H

#include "dml/error.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Embeddings that a batch is compared with: cross-batch memory, other processes' batches. They are
 * constants: no gradient goes to them. All arrays stay the caller's. */
struct dml_reference {
    size_t n;
    const float *embeddings; /* (n, dim) */
    const int32_t *labels;   /* (n) */
    const int32_t *own;      /* (batch n): where a sample's own copy is, -1 for none; may be NULL */
};

/* A batch of embeddings as miners and criteria see it; both arrays stay the caller's. */
struct dml_batch {
    size_t n, dim;                         /* 1 to 2^31 - 1 embeddings of 1 or more dimensions */
    const float *embeddings;               /* (n, dim), row-major */
    const int32_t *labels;                 /* (n), each in 0..classes-1; for miners any from 0 on */
    const struct dml_reference *reference; /* to compare with instead of itself; usually NULL */
};

/* What a miner gives and a criterion takes. */
enum dml_tuple_kind {
    DML_TUPLES_NONE,     /* the criterion looks at the whole batch */
    DML_TUPLES_TRIPLETS, /* anchor, positive, negative */
    DML_TUPLES_PAIRS,    /* anchor, positive; negatives are all samples of other classes */
    DML_TUPLES_SETS,     /* anchor; positives and negatives are all others, by label */
    DML_TUPLES_LISTS, /* pairs within a class and pairs across classes, independent of each other */
};

/* Ordered pairs of samples: (anchors[t], others[t]) for t < count, room for `capacity`. */
struct dml_pairs {
    size_t count, capacity;
    int32_t *anchors, *others;
};

/* Indices into the batch. DML_TUPLES_LISTS holds everything in positive_pairs and negative_pairs,
 * each pair at most once and in no particular order, with count 0. For the other kinds these are
 * empty; arrays are of length `count` (room for `capacity`), or NULL where the kind has no such
 * member. `fourth` is the second negative of a quadruplet, NULL until drawn. */
struct dml_tuples {
    enum dml_tuple_kind kind;
    size_t count, capacity;
    int32_t *anchors, *positives, *negatives, *fourth;
    struct dml_pairs positive_pairs, negative_pairs;
};

/* Makes it empty, of `kind`, with room for `capacity` tuples; reuses what it already holds.
 * A zero-initialised struct is a valid empty one. DML_ERROR_MEMORY leaves it empty. */
DML_API enum dml_status dml_tuples_reserve(struct dml_tuples *tuples, enum dml_tuple_kind kind,
                                           size_t capacity);
/* The same for DML_TUPLES_LISTS, with room for that many pairs of each kind. */
DML_API enum dml_status dml_tuples_reserve_lists(struct dml_tuples *tuples, size_t positive_pairs,
                                                 size_t negative_pairs);
/* Makes it empty and keeps its kind and capacity. */
DML_API void dml_tuples_clear(struct dml_tuples *tuples);
DML_API void dml_tuples_free(struct dml_tuples *tuples);

#ifdef __cplusplus
}
#endif
#endif
