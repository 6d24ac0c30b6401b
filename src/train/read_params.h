#ifndef DML_TRAIN_READ_PARAMS_H
#define DML_TRAIN_READ_PARAMS_H

#include "comm/comm.h"
#include "dml/params.h"

/* Completes the parameters of a run (dml_train_params) that already hold the command line's flags:
 * what no flag gave comes from the file of --params and the state of --resume, which only rank 0 of
 * several ranks reads. DML_ERROR_USAGE, DML_ERROR_INPUT: a flag, or the file, by name. */
enum dml_status dml_train_read_params(struct dml_params *params, struct dml_comm *comm);

#endif
