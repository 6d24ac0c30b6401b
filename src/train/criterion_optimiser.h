#ifndef DML_TRAIN_CRITERION_OPTIMISER_H
#define DML_TRAIN_CRITERION_OPTIMISER_H

#include "dml/criteria.h"
#include "dml/optimisers.h"

/* A criterion's learnable parameters with the state that the run's optimiser keeps for them. */
enum { DML_CRITERION_PARAMETERS = 8 };

struct dml_criterion_optimiser {
    struct dml_criterion_parameter parameters[DML_CRITERION_PARAMETERS];
    float *states[DML_CRITERION_PARAMETERS][DML_OPTIMISER_STATES]; /* dims[0] * dims[1] each */
    size_t count;
};

/* `states`: how many the optimiser keeps. */
enum dml_status dml_criterion_optimiser_open(struct dml_objective *objective, size_t states,
                                             struct dml_criterion_optimiser *out);
void dml_criterion_optimiser_close(struct dml_criterion_optimiser *optimiser);

/* Brings copies of what is held elsewhere (dml_criterion_parameter.bank), values and states, up to
 * date; and back, after they were set. */
enum dml_status dml_criterion_optimiser_fetch(const struct dml_criterion_optimiser *optimiser);
enum dml_status dml_criterion_optimiser_put(const struct dml_criterion_optimiser *optimiser);

/* Clips all gradients to [-limit, limit]. */
enum dml_status dml_criterion_optimiser_clip(struct dml_criterion_optimiser *optimiser,
                                             double limit);

/* One step. `updates` are by group; `groups` holds the group of each parameter. */
enum dml_status dml_criterion_optimiser_step(struct dml_criterion_optimiser *optimiser,
                                             const struct dml_optimiser *method,
                                             const void *options, const struct dml_update *updates,
                                             const size_t *groups);

#endif
