#ifndef DML_TRAIN_CRITERION_OPTIMISER_H
#define DML_TRAIN_CRITERION_OPTIMISER_H

#include "backends/backend.h"
#include "dml/criteria.h"

/* Optimiser state of a criterion's learnable parameters: the run's own method (Adam or SGD), a
 * learning rate each, no weight decay. */
enum { DML_CRITERION_PARAMETERS = 8 };

struct dml_criterion_optimiser {
    struct dml_criterion_parameter parameters[DML_CRITERION_PARAMETERS];
    float *moments[DML_CRITERION_PARAMETERS][2]; /* first and second, dims[0] * dims[1] each */
    size_t count;
};

enum dml_status dml_criterion_optimiser_open(struct dml_objective *objective,
                                             struct dml_criterion_optimiser *out);
void dml_criterion_optimiser_close(struct dml_criterion_optimiser *optimiser);

/* One step with the network's settings; `schedule` multiplies each parameter's own rate. */
void dml_criterion_optimiser_step(struct dml_criterion_optimiser *optimiser,
                                  const struct dml_optimiser_step *step, double schedule);

#endif
