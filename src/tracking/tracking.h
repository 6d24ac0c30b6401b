#ifndef DML_TRACKING_TRACKING_H
#define DML_TRACKING_TRACKING_H

#include "tracking/tracker.h"

/* All trackers of a run behind one handle. The trainer opens it once the run's folder exists and
 * tells it of every step and epoch. */
struct dml_tracking;

struct dml_tracking_options {
    bool log_online;  /* write a W&B offline run and sync it at the end */
    bool tensorboard; /* write TensorBoard event files */
    bool no_plots;    /* no Progression_Plots */
    char *project, *group;
};
extern const struct dml_param_table dml_tracking_params;

/* Opens the trackers that `options` ask for; `run` must outlive the handle. A tracker that cannot
 * be opened says why in one line on stderr and is left out. Only csv can fail the call, and the
 * later ones: the run cannot do without its logs. */
enum dml_status dml_tracking_open(const struct dml_run *run,
                                  const struct dml_tracking_options *options,
                                  struct dml_tracking **out);
enum dml_status dml_tracking_step(struct dml_tracking *tracking,
                                  const struct dml_step_record *record);
enum dml_status dml_tracking_epoch(struct dml_tracking *tracking,
                                   const struct dml_epoch_record *record);

/* Puts everything on disk, and what trackers need to continue from here into a JSON text: the
 * `notes` of a resumed run. free() it. */
enum dml_status dml_tracking_sync(struct dml_tracking *tracking, char **notes);

/* Writes what is left and frees the handle; accepts NULL. `error` is the message of a failed run,
 * else NULL. DML_ERROR_IO: something that the run should leave could not be written, now or before;
 * the message names it. */
enum dml_status dml_tracking_close(struct dml_tracking *tracking, enum dml_run_end end,
                                   const char *error);

/* Takes the W&B key out of a command line: `--wandb_key KEY` leaves argv (argc shrinks), is
 * overwritten in the memory that process lists show, and goes to the variable WANDB_API_KEY of
 * this process, where wandb itself looks for it. Call it before anything reads argv. */
enum dml_status dml_tracking_take_key(int *argc, char **argv);

#endif
