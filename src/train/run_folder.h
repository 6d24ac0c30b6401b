#ifndef DML_TRAIN_RUN_FOLDER_H
#define DML_TRAIN_RUN_FOLDER_H

#include "base/lock.h"
#include "train/options.h"

/* The folder of a run, held by this process alone. run.json in it says who the run is: a random
 * identity that it keeps wherever its folder goes, the command that it began with, and where it
 * last was. A folder that is a copy of another run's gets an identity of its own. */
enum { DML_IDENTITY_SIZE = 33 };

struct dml_run_folder {
    char *path, *name; /* name: its last component */
    char *save_path;   /* that holds the run's database */
    char *command;     /* that the run began with; NULL: not noted */
    char identity[DML_IDENTITY_SIZE];
    char copy_of[DML_IDENTITY_SIZE]; /* the identity that a copy had, or "" */
    bool in_place;                   /* the run was here before */
    bool finished;                   /* and ended, its logs closed, */
    uint64_t finished_step;          /* after so many steps */
    struct dml_lock lock;
};

/* Whether --resume names a state; else it is empty, or the folder of a run that was killed before
 * its first state. */
bool dml_resume_has_state(const char *resume);

/* Takes the folder that --resume names if the run continues in it: the folder is a run's, and no
 * --savename asks for a new one. Otherwise out->path stays NULL. What a killed process left there
 * is removed. DML_ERROR_IO: another process is working in it. */
enum dml_status dml_run_folder_take_up(const struct dml_params *params, struct dml_run_folder *out);

/* Makes the folder of a new run, <save_path>/<dataset>/<savename>, by the study's rules: an empty
 * name becomes data set, backbone and time; a name that is taken gets _1, _2, ... It appears whole,
 * with run.json and parameters.json. */
enum dml_status dml_run_folder_make(const struct dml_params *params, const char *command,
                                    struct dml_run_folder *out);

/* The run's parameters.json. */
enum dml_status dml_run_folder_params(const struct dml_run_folder *folder,
                                      const struct dml_params *params);

/* Checks that the state of the run called `identity` belongs here. */
enum dml_status dml_run_folder_check(struct dml_run_folder *folder, const char *state,
                                     const char *identity);

/* Notes that the run ended after `step` steps with everything written, or that it continues. */
enum dml_status dml_run_folder_finish(struct dml_run_folder *folder, bool finished, uint64_t step);

void dml_run_folder_close(struct dml_run_folder *folder);

#endif
