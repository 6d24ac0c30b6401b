#ifndef DML_CRITERIA_SAMPLED_CLASSES_H
#define DML_CRITERIA_SAMPLED_CLASSES_H

#include "criteria/class_scores.h"

/* A step of class_scores.h that looks at only some of the classes: An et al. 2021, "Partial FC:
 * training 10 million identities on a single machine". The classes of the batch are among them; the
 * others are drawn uniformly without replacement with the rule's `rng` until there are
 * ceil(class_share * classes), or none are drawn where the batch itself has more. The loss is taken
 * over these classes, and dL/dw of all others is 0. Besides the criterion's own memory it needs
 * two copies of the vectors that it looks at. */
enum dml_status dml_sampled_classes_step(struct dml_class_scores *scores,
                                         const struct dml_class_rule *rule, const float *x,
                                         const int32_t *labels, size_t n, float *grad,
                                         double *loss);

#endif
