#ifndef DML_TRAIN_READ_PARAMS_H
#define DML_TRAIN_READ_PARAMS_H

#include "comm/comm.h"
#include "dml/params.h"

/* The parameters of a run (dml_train_params) that have the flags of a command line: from the file
 * of --params and the state of --resume, which of several ranks rank 0 alone reads, where no flag
 * was given. DML_ERROR_USAGE, DML_ERROR_INPUT: a flag, or the file, by name. */
enum dml_status dml_train_read_params(struct dml_params *params, struct dml_comm *comm);

#endif
