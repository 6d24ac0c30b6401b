#ifndef DML_TRAIN_EXPERIMENT_H
#define DML_TRAIN_EXPERIMENT_H

#include "comm/comm.h"
#include "data/loader.h"
#include "data/pipeline.h"
#include "dml/samplers.h"
#include "tracking/tracking.h"
#include "train/learner.h"
#include "train/options.h"
#include "train/terms.h"

#include <signal.h>

/* Parts in the order in which they are evaluated, as the study does. */
enum { DML_EVALUATE_TEST, DML_EVALUATE_VAL, DML_EVALUATE_TRAIN, DML_EVALUATE_PARTS };

/* Everything a run needs, made from its parameters; the trainer moves data through it. */
struct dml_experiment {
    struct dml_params *params; /* borrowed; the pointers below are into it */
    const struct dml_dataset_options *data;
    const struct dml_training_options *training;
    const struct dml_group_flags *group_flags;
    const struct dml_network_flags *network_flags;
    const struct dml_evaluation_flags *evaluation;
    const struct dml_setup_options *setup;
    const struct dml_tracking_options *tracking;

    const volatile sig_atomic_t *stop;
    struct dml_comm *comm;        /* the run's ranks; borrowed */
    struct dml_batch_parts parts; /* the parts of a batch, for the network */

    char *weights; /* file with the backbone's initial weights; NULL: random ones */
    struct dml_dataset dataset;
    char *inventory; /* dml_inventory_make */
    struct dml_transforms transforms;
    struct dml_network *network;
    struct dml_sampling *sampling;
    struct dml_terms terms; /* criteria and batch miners */
    struct dml_learner learner;

    struct dml_loader *train_loader;
    struct dml_loader *eval_loaders[DML_EVALUATE_PARTS]; /* NULL where a part is not evaluated */
};

/* Checks all names and combinations first, so that a misspelt method fails before a data set is
 * read. Reports what was opened. *stop (may be NULL) ends a long opening as in dml_train. On
 * failure nothing stays open. */
enum dml_status dml_experiment_open(struct dml_params *params, const volatile sig_atomic_t *stop,
                                    struct dml_comm *comm, struct dml_experiment *out);
void dml_experiment_close(struct dml_experiment *experiment);

/* A loader of a part's images, for training or evaluation, as the run's flags say. */
enum dml_status dml_experiment_loader(const struct dml_experiment *experiment,
                                      const struct dml_part *part, bool training,
                                      struct dml_loader **out);

/* What dml_experiment_open refuses before it reads any data: names, combinations of flags, the
 * network on its backend. `dml sweep` checks all its lines this way. Reports and keeps nothing. */
enum dml_status dml_train_check(struct dml_params *params);

/* What trackers are told about the run; points into the arguments. */
struct dml_run_folder;
void dml_experiment_describe(const struct dml_experiment *experiment,
                             const struct dml_run_folder *folder, const char *command,
                             struct dml_run *out);

/* "1,234,567" into a small rotating buffer of the thread. */
const char *dml_thousands(size_t value);

#endif
