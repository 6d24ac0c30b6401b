#ifndef DML_TRAIN_RUN_FOLDER_H
#define DML_TRAIN_RUN_FOLDER_H

#include "train/options.h"

/* The folder of the run that goes on from a state file, and its name, where the file lies in a
 * run's folder and no --savename asks for a new one; else as dml_run_folder_make. */
enum dml_status dml_run_folder_resume(const struct dml_params *params, const char *state,
                                      char **folder, char **name);

/* Makes the folder of a new run, <save_path>/<dataset>/<savename>, by the study's rules: an empty
 * name becomes data set, backbone and time; a name that is taken gets _1, _2, ...
 * `folder` and `name` are freed with free(). */
enum dml_status dml_run_folder_make(const struct dml_params *params, char **folder, char **name);

#endif
