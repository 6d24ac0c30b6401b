#ifndef DML_TRAIN_CRITERION_BUFFERS_H
#define DML_TRAIN_CRITERION_BUFFERS_H

#include "dml/criteria.h"
#include "nn/weights/tensors.h"

/* The buffers of a run's criteria in its files, as "criterion.NAME". */

/* Adds views of them; of the transient ones only if `all`. */
enum dml_status dml_criterion_buffers_add(struct dml_objective *objective, bool all,
                                          struct dml_tensors *tensors);

/* Sets all of them from the file at `path`. DML_ERROR_INPUT: one is missing, has another shape or
 * holds an impossible value. */
enum dml_status dml_criterion_buffers_take(struct dml_objective *objective, const char *path,
                                           const struct dml_tensors *tensors);

#endif
