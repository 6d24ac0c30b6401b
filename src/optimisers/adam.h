#ifndef DML_OPTIMISERS_ADAM_H
#define DML_OPTIMISERS_ADAM_H

#include "dml/optimisers.h"

/* What Adam and AdamW share. */
struct dml_adam_options {
    double beta1, beta2, epsilon;
};
extern const struct dml_param_table dml_adam_params;

/* One update: `l2` times the values is added to their gradients, and the share `shrinkage` of the
 * values is subtracted apart from the step. */
void dml_adam_update(const struct dml_adam_options *options, const struct dml_update *update,
                     double l2, double shrinkage, float *values, const float *grad, float *mean,
                     float *square, size_t n);

#endif
