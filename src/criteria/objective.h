#ifndef DML_CRITERIA_OBJECTIVE_H
#define DML_CRITERIA_OBJECTIVE_H

#include "criteria/common.h"
#include "criteria/cross_batch_memory.h"

/* A criterion in use, or a sum of criteria. */
struct dml_objective {
    const struct dml_criterion *criterion; /* of a sum: the first one's */
    struct dml_params *params;             /* NULL when the options are the caller's */
    size_t dim, classes;
    void *state;
    struct dml_cross_batch_memory memory; /* of size 0 where it has none */

    /* A sum has terms, and none of the state above. */
    size_t count;
    struct {
        struct dml_objective *objective;
        double weight;
    } terms[DML_OBJECTIVE_TERMS];
    struct dml_buffer scratch;
    char (*names)[100]; /* of its parameters and buffers */
};

/* One criterion: whether it takes the batch and the tuples; its loss and gradients once it does;
 * its parameters and buffers. */
enum dml_status dml_objective_check(const struct dml_objective *objective,
                                    const struct dml_batch *batch, const struct dml_tuples *tuples);
enum dml_status dml_objective_run(struct dml_objective *objective, const struct dml_batch *batch,
                                  const struct dml_tuples *tuples, struct dml_rng *rng, float *grad,
                                  struct dml_loss *loss);
size_t dml_objective_own_parameters(struct dml_objective *objective,
                                    struct dml_criterion_parameter *out, size_t max);
size_t dml_objective_own_buffers(struct dml_objective *objective, struct dml_criterion_buffer *out,
                                 size_t max);

#endif
