#ifndef TESTS_SUPPORT_RECALLS_H
#define TESTS_SUPPORT_RECALLS_H

#include "dml/metrics.h"

/* A recall whose k is beyond a small set is refused; its value is that of the largest k, whose name
 * is written to `other`. All other metrics are returned as they are. */
const char *recall_that_fits(const struct dml_evaluation_set *set, const char *name,
                             char other[64]);

#endif
