#ifndef DML_CRITERIA_PAIRWISE_H
#define DML_CRITERIA_PAIRWISE_H

#include "criteria/inner_products.h"

#include <math.h>
#include <stdbool.h>

/* All pairs of a batch, or of a batch (rows) and its reference set (columns): similarities, what
 * the two samples are to each other, and the gradient back. For criteria that take pairs or
 * rankings. Keeps its memory between steps; all zero is empty. Similarities are float64, since
 * temperatures of a hundredth multiply their rounding by a hundred; cosines are in float32 where a
 * criterion says that they may be. */
enum dml_relation { DML_UNRELATED, DML_POSITIVE, DML_NEGATIVE };

struct dml_pairwise {
    size_t n, m, dim; /* rows, columns, dimensions */
    bool mutual;      /* the columns are the rows: gradients go to both samples of a pair */
    bool unit;        /* rows are compared at length 1 */
    double shift;     /* of the criterion: added to all of x where there is a reference */
    double *x, *y;    /* (n, dim), (m, dim): what is compared; y is x when mutual */
    double *sx, *sy;  /* squared norms of the rows of x and y */
    double *s;        /* (n, m): cosines (1 with itself), or distances (0 with itself) */
    bool narrow;      /* s, x and sx are absent: dml_pairwise_row_of gives a row */
    struct dml_inner_products products; /* where narrow */
    float *g;                        /* (n, m): dL/ds, which the criterion fills in; starts as 0 */
    uint8_t *relation;               /* (n, m): enum dml_relation of the column to the row */
    uint32_t *positives, *negatives; /* (n): how many a row has */
    double *losses;                  /* (n): for the criterion */
    float *norms, *units;            /* (n), (n, dim): of the embeddings */
    float *rows;                     /* (threads, 8, m): work for a row's pass */
    float *floats;                   /* (m, dim): y in float32 */
    float *packed;                   /* workspace of the backward pass's product */
    struct dml_buffer memory;
};

/* Relations by label, or those in `tuples` (DML_TUPLES_LISTS) where it is not NULL. */
enum dml_status dml_pairwise_cosines(struct dml_pairwise *pairs, const struct dml_batch *batch,
                                     const struct dml_tuples *tuples);
/* The same in float32 where its errors, times `slope`, make no difference. */
enum dml_status dml_pairwise_narrow_cosines(struct dml_pairwise *pairs,
                                            const struct dml_batch *batch,
                                            const struct dml_tuples *tuples, double slope);
/* Row i of s, whether it is narrow or not; it uses the last quarter of `work`, a row's. */
const double *dml_pairwise_row_of(const struct dml_pairwise *pairs, size_t i, float *work);

/* Euclidean distances, of the embeddings as given or at length 1 (`unit`). */
enum dml_status dml_pairwise_distances(struct dml_pairwise *pairs, const struct dml_batch *batch,
                                       const struct dml_tuples *tuples, bool unit);

/* dL/dE into grad (n, dim) from g times `scale`, after either kind. g is used up. */
void dml_pairwise_cosines_backward(struct dml_pairwise *pairs, double scale, float *grad);
void dml_pairwise_distances_backward(struct dml_pairwise *pairs, double scale, float *grad);

/* The loss of one row and its part of g; `work` is 8 m floats, for doubles too. */
typedef double (*dml_pairwise_row)(const void *options, struct dml_pairwise *pairs, size_t i,
                                   float *work);
/* Runs it for all rows, in parallel, and returns the sum of the losses, added in row order. */
double dml_pairwise_sum(struct dml_pairwise *pairs, dml_pairwise_row row, const void *options);

/* The calling thread's work, as a row gets it. */
float *dml_pairwise_work(const struct dml_pairwise *pairs);

/* Pairs of all rows together. */
size_t dml_pairwise_count(const struct dml_pairwise *pairs, enum dml_relation relation);
/* Rows with a positive, and with a negative too where `both`. */
size_t dml_pairwise_anchors(const struct dml_pairwise *pairs, bool both);

/* log sum of exp z_j over the columns of `relation`; e_j = exp(z_j - result), 0 for the others.
 * -INFINITY and zeros where there are none. */
double dml_row_lse(const uint8_t *relations, enum dml_relation relation, size_t m, const double *z,
                   float *e);

/* 1 for a positive, -1 for a negative, else 0: loops that mix bytes with floats or doubles are
 * vectorised with as many lanes as there are bytes, whose sums take longer than the loop. */
void dml_row_signs(const uint8_t *relations, size_t m, float *signs);

/* Both relations in one go: sum of exp z_j = sum * exp(shift), and exp(z_j) over it is e_j times
 * its relation's factor; e_j is 0 for the others. `signs` (m) becomes the row's. Without columns of
 * a relation its shift is -INFINITY, sum and factor are 0. */
struct dml_row_lses {
    double positive_shift, positive_sum, negative_shift, negative_sum;
    float positive_factor, negative_factor;
};
struct dml_row_lses dml_row_lse_both(const uint8_t *relations, size_t m, const double *z, float *e,
                                     float *signs);

/* The share that negatives have in the sum of both relations' exponentials, and -log of the
 * positives' share. There must be positives. */
struct dml_row_shares {
    double negatives, positives, loss;
};
static inline struct dml_row_shares dml_row_shares_of(const struct dml_row_lses *lses) {
    const double apart = lses->negative_shift - lses->positive_shift;
    const double of_sums = lses->negative_sum / lses->positive_sum;
    const double odds = apart == 0 ? of_sums : of_sums * exp(apart);
    if (odds < INFINITY)
        return (struct dml_row_shares){odds / (1 + odds), 1 / (1 + odds), log1p(odds)};
    return (struct dml_row_shares){1, exp(-apart) / of_sums, apart + log(of_sums)};
}

static inline double dml_softplus(double x) {
    return (x > 0 ? x : 0) + log1p(exp(-fabs(x)));
}

static inline double dml_sigmoid(double x) {
    return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

/* The pairs of a relation with sign (s - margin) > 0: the mean of these terms, 0 when there are
 * none. */
struct dml_hinge {
    double mean, share; /* share: 1 / active, 0 when there are none */
    size_t active;
};
struct dml_hinge dml_pairwise_hinge(const struct dml_pairwise *pairs, enum dml_relation relation,
                                    double margin, double sign);
/* Adds sign * weight to g where the term is above 0. */
void dml_pairwise_hinge_backward(struct dml_pairwise *pairs, enum dml_relation relation,
                                 double margin, double sign, double weight);

void dml_pairwise_free(struct dml_pairwise *pairs);

/* State, create and destroy of criteria that keep nothing else. */
struct dml_pairwise_state {
    const void *options; /* outlive the state */
    struct dml_pairwise pairs;
};
enum dml_status dml_pairwise_create(const void *options,
                                    const struct dml_criterion_context *context, void **state);
void dml_pairwise_destroy(void *state);
/* A state of `size` bytes that begins with a struct dml_pairwise_state, its rest zeroed. */
enum dml_status dml_pairwise_new(size_t size, const void *options, void **state);

/* forward_backward of a criterion that is a mean of row losses: over the anchors with a positive,
 * with a positive and a negative, the positive pairs, or all samples. */
enum dml_pairwise_over {
    DML_OVER_ANCHORS,
    DML_OVER_ANCHORS_WITH_BOTH,
    DML_OVER_POSITIVE_PAIRS,
    DML_OVER_SAMPLES
};
enum dml_pairwise_measure { DML_COSINES, DML_UNIT_DISTANCES };
enum dml_status dml_pairwise_step(struct dml_pairwise_state *state, const struct dml_batch *batch,
                                  const struct dml_tuples *tuples,
                                  enum dml_pairwise_measure measure, enum dml_pairwise_over over,
                                  dml_pairwise_row row, float *grad, struct dml_loss *loss);
/* The same with cosines that may be narrow, for rows that read them through dml_pairwise_row_of. */
enum dml_status dml_pairwise_narrow_step(struct dml_pairwise_state *state,
                                         const struct dml_batch *batch,
                                         const struct dml_tuples *tuples, double slope,
                                         enum dml_pairwise_over over, dml_pairwise_row row,
                                         float *grad, struct dml_loss *loss);

#endif
