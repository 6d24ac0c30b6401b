#ifndef DML_MATH_KMEANS_H
#define DML_MATH_KMEANS_H

#include "math/rows.h"

/* Lloyd's k-means (Lloyd 1982, "Least squares quantization in PCM") as faiss runs it, with the same
 * draws: the first centroids are k random points, every point is used, and a cluster that loses all
 * its points is re-seeded by splitting a large one. So what is measured on a clustering is what the
 * study's code measures, up to rounding.
 *
 * An iteration looks only at what can have changed. A centroid whose cluster kept its points did
 * not move, so points are compared with the centroids that moved; each point also keeps a bound on
 * how near any centroid but its own can be among those that did not (as Hamerly 2010, "Making
 * k-means even faster"), and only a point whose own centroid moved away beyond that bound is
 * compared with all. The assignments are those of the plain algorithm up to float32 rounding of
 * distances; a point stays where it is on ties. */
struct dml_kmeans_options {
    size_t clusters; /* 1..n */
    size_t iterations;
    void (*progress)(void *data, double share); /* on the calling thread; may be NULL */
    void *data;
};

struct dml_kmeans {
    int32_t *assigned; /* (n) 0..clusters-1, owned by the caller */
    float *centroids;  /* (clusters, dim) of the rows, owned by the caller */
    double objective;  /* sum of squared distances of the embeddings to their centroids */
    size_t iterations; /* that were run: fewer than asked for if nothing changed any more */
};

/* Rows of all samples of the frame, in any order. Both arrays of `out` must be set by the caller.
 * The result never depends on the number of threads. */
enum dml_status dml_kmeans_run(const struct dml_frame *frame, const struct dml_rows *rows,
                               const struct dml_kmeans_options *options, struct dml_kmeans *out);

#endif
