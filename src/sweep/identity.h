#ifndef DML_SWEEP_IDENTITY_H
#define DML_SWEEP_IDENTITY_H

#include "dml/params.h"

#include <cjson/cJSON.h>

/* What makes two runs the same experiment: the parameters that differ from their defaults, as
 * sorted lines "name=value". Where files lie, how many threads there are and what else is logged
 * makes no difference (DML_PARAM_SAME_RUN); project, group and seed do. Only what differs from a
 * default counts, so that a run is still recognised when the program has gained new flags. */
struct dml_identity {
    struct dml_params *params; /* defaults, and the same as JSON */
    cJSON *defaults;
};

enum dml_status dml_identity_open(struct dml_identity *identity);
void dml_identity_close(struct dml_identity *identity);

/* free() the result. */
enum dml_status dml_identity_of_params(const struct dml_identity *identity,
                                       const struct dml_params *params, char **out);
enum dml_status dml_identity_of_json(const struct dml_identity *identity, const cJSON *params,
                                     char **out);

#endif
