#ifndef DML_CRITERIA_CLASS_COSINES_H
#define DML_CRITERIA_CLASS_COSINES_H

#include "criteria/class_scores.h"

#include <stdbool.h>

/* All cosines between a batch and the vectors of a struct dml_class_scores, and the gradient back
 * to both: for criteria whose loss is not a cross entropy over one vector per class. Keeps its
 * memory between steps; all zero is empty. */
struct dml_class_cosines {
    size_t n, rows, dim;  /* samples, vectors at a time, dimensions */
    size_t length;        /* of a row of c */
    float *c;             /* cosines, which the criterion turns into dL/dc: (n, rows) */
    float *units, *norms; /* (n, dim), (n): of the embeddings */
    float *directions;    /* (rows, dim): of the vectors, scaled to length 1 */
    double *losses;       /* (n), or one for each class: for the criterion */
    float *packed;        /* an operand of the products */
    float *rooms;         /* (threads, 3 length) */
    struct dml_buffer memory;
};

enum dml_status dml_class_cosines_forward(struct dml_class_cosines *cosines,
                                          struct dml_class_scores *scores,
                                          const struct dml_batch *batch);
/* From dL/dc: dL/dE into grad (n, dim), and the vectors' gradient into their own. */
void dml_class_cosines_backward(const struct dml_class_cosines *cosines,
                                struct dml_class_scores *scores, float *grad);

/* The loss of one class from its cosines c (n), which become dL/dc; `work` is 3 n floats. */
typedef double (*dml_class_row)(const void *data, size_t class, float *c, float *work);
/* The whole step where each class has a loss of its own: classes are processed in blocks, so that
 * no matrix of samples by classes is kept. `loss` is the sum over classes. */
enum dml_status dml_class_cosines_by_class(struct dml_class_cosines *cosines,
                                           struct dml_class_scores *scores,
                                           const struct dml_batch *batch, dml_class_row row,
                                           const void *data, float *grad, double *loss);

/* The calling thread's work for three rows of c. */
float *dml_class_cosines_work(const struct dml_class_cosines *cosines);

/* The state of a criterion that keeps nothing else, and its destroy. */
struct dml_class_cosines_state {
    struct dml_class_scores scores;
    struct dml_class_cosines cosines;
    const void *options; /* outlive the state */
};
void dml_class_cosines_destroy(void *state);

#endif
