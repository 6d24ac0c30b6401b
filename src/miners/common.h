#ifndef DML_MINERS_COMMON_H
#define DML_MINERS_COMMON_H

#include "dml/miners.h"

#include <stdbool.h>

/* The samples of a batch, class by class. Lets a miner draw a positive or a negative in constant
 * time: an anchor's positives are a range of `order`, its negatives are everything else in it. */
struct miner_classes {
    size_t n, count;
    uint32_t *order;    /* (n) samples by rising label; in batch order within a class */
    uint32_t *start;    /* (count + 1) where each class begins in order */
    uint32_t *class_of; /* (n) class of a sample, 0..count-1 */
    uint32_t *place;    /* (n) where a sample stands in order */
};

/* What all built-in miners keep: their options and memory that is reused from batch to batch. */
struct miner_state {
    const void *options;
    struct dml_miner_context context;
    struct miner_classes classes;
    uint64_t *keys, *spare_keys; /* (capacity) for sorting by label */
    double *draws;               /* (2 capacity) numbers in [0, 1), drawn ahead of parallel loops */
    float *norms;                /* (capacity) squared norms */
    float *gram;                 /* (n, n) inner products */
    float tolerance;             /* of a squared distance from gram, times the norms' sum */
    float largest_norm;
    size_t capacity, gram_capacity;
    double *exact; /* (n, n) distances or cosines in float64 */
    size_t exact_capacity;
};

/* create and destroy of struct dml_miner. */
enum dml_status miner_create(const void *options, const struct dml_miner_context *context,
                             void **state);
void miner_destroy(void *state);

/* Sorts the batch into state->classes. */
enum dml_status miner_classify(struct miner_state *state, const int32_t *labels, size_t n);

/* Fills state->gram and state->norms. */
enum dml_status miner_measure(struct miner_state *state, const struct dml_batch *batch);

/* How many others share the sample's class, and how many do not. */
static inline size_t miner_positives(const struct miner_classes *classes, size_t sample) {
    size_t of = classes->class_of[sample];
    return (size_t)classes->start[of + 1] - classes->start[of] - 1;
}

static inline size_t miner_negatives(const struct miner_classes *classes, size_t sample) {
    return classes->n - 1 - miner_positives(classes, sample);
}

/* The k-th positive or negative of a sample, and one at random. There must be one. */
size_t miner_positive_at(const struct miner_classes *classes, size_t sample, size_t k);
size_t miner_negative_at(const struct miner_classes *classes, size_t sample, size_t k);
size_t miner_any_positive(const struct miner_classes *classes, size_t sample, struct dml_rng *rng);
size_t miner_any_negative(const struct miner_classes *classes, size_t sample, struct dml_rng *rng);

/* Squared distances (n) of one sample to all from the Gram matrix, at least `least` and at most
 * 1e30 (float32 overflows to NaN and infinity for embeddings of 10^19). */
void miner_distances2(const struct miner_state *state, size_t sample, float least, float *out);

/* Above, at or below 0 as the distance of two samples is more than, equal to or less than `limit`
 * (>= 0). Decided in float64 where the Gram matrix, which is float32, cannot tell. */
double miner_beyond(const struct miner_state *state, const struct dml_batch *batch, size_t a,
                    size_t b, double limit);

/* Squared distances of this sample that are this near to a bound need miner_beyond to be told from
 * it. */
static inline float miner_doubt(const struct miner_state *state, size_t sample) {
    return state->tolerance * (state->norms[sample] + state->largest_norm);
}

/* The distance in float64. */
double miner_distance(const struct dml_batch *batch, size_t a, size_t b);

/* Fill state->exact with distances of the embeddings as given, or with cosines (0 where a norm is
 * below 1e-12). Equal embeddings have equal figures, so that ties are ties. */
enum dml_status miner_distances64(struct miner_state *state, const struct dml_batch *batch);
enum dml_status miner_cosines64(struct miner_state *state, const struct dml_batch *batch);

/* A uniform draw in [0, 1) as an index below count. */
static inline size_t miner_index(double draw, size_t count) {
    size_t index = (size_t)(draw * (double)count);
    return index < count ? index : count - 1;
}

static inline void miner_add(struct dml_tuples *out, size_t anchor, size_t positive,
                             size_t negative) {
    out->anchors[out->count] = (int32_t)anchor;
    out->positives[out->count] = (int32_t)positive;
    out->negatives[out->count] = (int32_t)negative;
    out->count++;
}

/* A triplet whose negative is still to be drawn: -1. */
static inline void miner_add_open(struct dml_tuples *out, size_t anchor, size_t positive) {
    miner_add(out, anchor, positive, 0);
    out->negatives[out->count - 1] = -1;
}

#endif
