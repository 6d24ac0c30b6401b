#ifndef DML_MINERS_DISTANCE_H
#define DML_MINERS_DISTANCE_H

#include "dml/params.h"

/* The flags of distance and random_distance, which the study tunes together. */
struct miner_distance_options {
    double lower_cutoff, upper_cutoff;
};
extern const struct dml_param_table miner_distance_params;

#endif
