#ifndef DML_TRAIN_CHECKPOINT_H
#define DML_TRAIN_CHECKPOINT_H

#include "train/experiment.h"

/* Checkpoints are safetensors files. Network parameters have PyTorch's names, those of the
 * criterion are called criterion.<name>. The metadata holds the run's parameters as JSON
 * (dml_params), the program's version (dml_version), the epochs done (dml_epoch) and the metrics
 * of the epoch (dml_metrics: {"Test": {"e_recall@1": 0.5}}).
 *
 * A state file adds what a run needs to continue exactly: optimiser.moment1.<name> and .moment2,
 * the same for criterion parameters, average.<name> with --ema, sampler.store, and, in the middle
 * of an epoch, sampler.plan; the data set's inventory (data.inventory, bytes of text); where images
 * could not be read, told.<part>; what the schedule remembers (dml_schedule). dml_state_format is
 * raised whenever older files can no longer be read. */
enum { DML_STATE_FORMAT = 2 };

/* Where a run stands. */
struct dml_position {
    uint64_t epoch;                   /* epochs done; the one under way while epoch_step > 0 */
    uint64_t epoch_step;              /* steps done in the epoch under way */
    uint64_t step;                    /* steps done altogether */
    double epoch_loss;                /* sum over the steps of the epoch under way */
    double epoch_seconds;             /* the time they took */
    uint64_t tuples, active, swapped; /* over the same steps */
    uint64_t clipped;                 /* steps of the epoch under way whose gradient was clipped */
    uint32_t *plan; /* (batches, batch size) images of the epoch under way; NULL between epochs */
};

/* What a state holds besides position and tensors; each may be NULL. */
struct dml_state_texts {
    char *identity; /* of the run */
    char *bests;    /* dml_run_evaluation_bests */
    char *trackers; /* dml_tracking_sync */
};
void dml_state_texts_free(struct dml_state_texts *texts);

/* `metrics` is the JSON text for dml_metrics; may be NULL. */
enum dml_status dml_checkpoint_save(const struct dml_experiment *experiment, const char *path,
                                    uint64_t epoch, const char *metrics);
enum dml_status dml_state_save(const struct dml_experiment *experiment, const char *path,
                               const struct dml_position *position,
                               const struct dml_state_texts *texts);

/* Sets the parameters that a state file's run was made with, except those given on the command
 * line. `path` may be the folder of a run without a state: its parameters.json is read.
 * DML_ERROR_USAGE: a parameter given differs from the run's where it must not. */
enum dml_status dml_state_params(const char *path, struct dml_params *params);

/* Puts a state file's content into a freshly opened experiment of the same methods. position->plan
 * must hold room for an epoch's plan; *has_plan tells whether it was filled. DML_ERROR_INPUT: not a
 * state file, or one with other data (unless --changed_data), another version of the format, or
 * another network or criterion. */
enum dml_status dml_state_restore(struct dml_experiment *experiment, const char *path,
                                  struct dml_position *position, bool *has_plan,
                                  struct dml_state_texts *texts);

#endif
