#ifndef DML_TRAIN_LEARNER_H
#define DML_TRAIN_LEARNER_H

#include "backends/network.h"
#include "train/criterion_optimiser.h"
#include "train/groups.h"
#include "train/schedule.h"

/* Everything that turns gradients into new weights: the optimiser, its parameter groups with their
 * schedule, clipping, and the running average of the weights. */
struct dml_learner {
    struct dml_network *network; /* borrowed */
    const struct dml_optimiser *optimiser;
    const void *options; /* of the optimiser */
    const struct dml_step_flags *flags;
    struct dml_criterion_optimiser criterion;
    struct dml_groups groups;
    struct dml_run_schedule schedule;
};

/* From the flags of `params`, which must outlive the learner, as must all other arguments. The
 * optimiser and the schedule must be there (dml_schedule_check). DML_ERROR_USAGE: the flags ask for
 * a group or a warm-up that is impossible. */
enum dml_status dml_learner_open(const struct dml_params *params, struct dml_network *network,
                                 struct dml_objective *objective, uint64_t steps_per_epoch,
                                 struct dml_learner *out);
void dml_learner_close(struct dml_learner *learner);

/* Step `step` (from 0) from the gradients that backward and the criterion left. *size is the size
 * of the network's gradient before clipping; *clipped tells whether it was. DML_ERROR_NUMERIC: the
 * gradient is not finite; nothing has changed then. */
enum dml_status dml_learner_step(struct dml_learner *learner, uint64_t step,
                                 struct dml_gradient_size *size, bool *clipped);

#endif
