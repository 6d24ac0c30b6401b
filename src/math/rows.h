#ifndef DML_MATH_ROWS_H
#define DML_MATH_ROWS_H

#include "dml/error.h"
#include "math/values.h"

#include <stddef.h>
#include <stdint.h>

/* Embeddings made ready for distances by gemm in float32. They are shifted by their mean and scaled
 * by a power of two so that the longest has a norm below 1: distances keep their order, and the
 * cancellation in |x|^2 + |y|^2 - 2<x,y> loses as little as possible.
 *
 * With u(i,j) = <x_i,x_j> - half_i - half_j = -|x_i - x_j|^2 / 2, a larger u is nearer. */
struct dml_rows {
    size_t n, dim;
    float *x;        /* (n, dim) */
    float *half;     /* (n) |x_i|^2 / 2 */
    float *norm;     /* (n) |x_i| */
    uint32_t *index; /* (n) the sample that row i was made from */
};

/* Embeddings (n, dim) as one side of a comparison. */
struct dml_side {
    struct dml_values embeddings;
    const double *inverse_norms; /* (n) for the cosine, else NULL */
};

/* How original embeddings map to rows; shared by all rows that are compared with each other. */
struct dml_frame {
    size_t n, dim;
    struct dml_side gallery;
    struct dml_side query; /* the samples as queries; mostly the same */
    double *mean;          /* (dim) of the gallery */
    double scale;
};

/* The embeddings must be finite and outlive the frame, as must inverse norms. `query` is NULL where
 * samples are the same as queries and in the gallery. */
enum dml_status dml_frame_make(const struct dml_side *gallery, const struct dml_side *query,
                               size_t n, size_t dim, struct dml_frame *out);
void dml_frame_free(struct dml_frame *frame);

/* The exact order between samples: squared Euclidean distance, or 1 - cosine, in float64, between a
 * as a query and b in the gallery. Equal vectors give equal keys, as do a and b swapped where
 * samples are the same on both sides. */
double dml_frame_key(const struct dml_frame *frame, uint32_t a, uint32_t b);

/* -u is about key times this. */
double dml_frame_unit(const struct dml_frame *frame);

/* Rows for samples index[0..n) of the frame's gallery or queries (side: &frame->gallery). The index
 * is copied. */
enum dml_status dml_rows_make(const struct dml_frame *frame, const struct dml_side *side,
                              const uint32_t *index, size_t n, struct dml_rows *out);
void dml_rows_free(struct dml_rows *rows);

#endif
