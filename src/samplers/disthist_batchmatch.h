#ifndef DML_SAMPLERS_DISTHIST_BATCHMATCH_H
#define DML_SAMPLERS_DISTHIST_BATCHMATCH_H

#include "dml/error.h"

#include <stddef.h>
#include <stdint.h>

/* Compares sets of points by their means, standard deviations and histograms of pairwise
 * distances. */
enum { DML_DISTHIST_BINS = 50 };

struct dml_disthist {
    size_t count, dim;
    const double *x;                      /* (count, dim), the caller's */
    double *mean, *deviation;             /* (dim) of the big set */
    double *batch_mean, *batch_deviation; /* (dim) */
    double *distances;                    /* (count, count) */
    uint8_t *bins;                        /* (count, count) of a pair's distance */
    double histogram[DML_DISTHIST_BINS];  /* of the big set, sums to 1, sorted by value */
};

enum dml_status dml_disthist_open(struct dml_disthist *disthist, size_t count, size_t dim);
void dml_disthist_close(struct dml_disthist *disthist);

/* Takes x (count, dim), which must stay as it is, as the big set. */
void dml_disthist_prepare(struct dml_disthist *disthist, const double *x);

/* ||difference of means|| + ||difference of standard deviations|| + 75 (W(H,h) + W(h,H)) of the
 * batch of n >= 1 positions in the big set; W is the Wasserstein distance of the two sets of bin
 * heights. Distances outside the big set's range, such as that of a point to itself, are not
 * counted. */
double dml_disthist_cost(struct dml_disthist *disthist, const uint32_t *positions, size_t n);

#endif
