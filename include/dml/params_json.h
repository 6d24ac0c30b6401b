#ifndef DML_PARAMS_JSON_H
#define DML_PARAMS_JSON_H

#include "dml/params.h"

#ifdef __cplusplus
extern "C" {
#endif

/* All values as one JSON object, names as keys; the caller frees it with free(). */
DML_API enum dml_status dml_params_to_json(const struct dml_params *params, char **out);

/* Sets values from such an object; those already given on a command line win. Unknown keys are an
 * error, unless `lenient` (the metadata of a checkpoint may hold another method's flags). */
DML_API enum dml_status dml_params_from_json(struct dml_params *params, const char *json,
                                             bool lenient);

/* Compares the values given on a command line with those of such an object, except for parameters
 * with DML_PARAM_MAY_CHANGE. DML_ERROR_USAGE: the first that differs, as "--loss margin where it
 * was --loss snr". */
DML_API enum dml_status dml_params_agree(const struct dml_params *params, const char *json);

#ifdef __cplusplus
}
#endif
#endif
