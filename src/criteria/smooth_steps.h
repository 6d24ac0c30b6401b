#ifndef DML_CRITERIA_SMOOTH_STEPS_H
#define DML_CRITERIA_SMOOTH_STEPS_H

#include "criteria/pairwise.h"

/* The smooth step of rankings: how far each column j of a row of similarities c ranks before
 * column i. For j = i both are 0.
 *
 *     h_j = sigmoid((c_j - c_i) / temperature),  slope_j = dh_j/dc_j */
void dml_smooth_steps(const double *c, size_t i, size_t m, double temperature, double *h,
                      double *slope);

/* Sum of h over the columns of `relation`. */
double dml_steps_sum(const double *h, const uint8_t *relations, enum dml_relation relation,
                     size_t m);

/* Adds weight dh_j/dc of the columns of `relation` to pull (m) at j, and subtracts it at i. */
void dml_steps_pull(const double *slope, const uint8_t *relations, enum dml_relation relation,
                    double weight, size_t i, size_t m, double *pull);

#endif
