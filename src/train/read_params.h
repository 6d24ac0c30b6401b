#ifndef DML_TRAIN_READ_PARAMS_H
#define DML_TRAIN_READ_PARAMS_H

#include "dml/params.h"

/* The parameters of a run (dml_train_params) from the words of a command line, then from the file
 * of --params and the state of --resume, where no flag was given. DML_ERROR_USAGE, DML_ERROR_INPUT:
 * a flag, or the file, by name. */
enum dml_status dml_train_read_params(struct dml_params *params, int count, char *const *words);

#endif
