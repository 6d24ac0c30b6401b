#ifndef DML_TRACKING_TRACKER_H
#define DML_TRACKING_TRACKER_H

#include "dml/metrics.h"
#include "dml/params.h"

struct cJSON;

/* What a run leaves behind. The trainer tells every tracker of a run the same few things; a tracker
 * never fails a run: it says once on stderr what it cannot write, and then stays quiet. Only those
 * that the run cannot do without (csv) return an error. */

struct dml_run {
    const char *folder;    /* <save_path>/<dataset>/<savename>, exists, no slash at its end */
    const char *save_path; /* as typed: holds runs.sqlite */
    const char *dataset, *savename, *project, *group;
    uint64_t seed;
    const struct dml_params *params; /* all of them; the W&B key is never among them */
    const char *command;             /* the command line, without the key */
    const char *version;             /* of the program */
    const char *processor;
    int threads;
    struct {
        size_t classes, images;
    } training, testing, validation;
    size_t steps_per_epoch, epochs;
    size_t parameters; /* of the network */

    const char *identity; /* random, the run's own wherever its folder is; NULL: none, in tests */
    const char *copy_of;  /* identity of the run whose folder this one's is a copy of, or NULL */
    bool resumed;         /* continues in a folder that it was in before, at: */
    uint64_t first_step, first_epoch;
    const struct cJSON *notes; /* what trackers noted there, by their names; NULL: nothing */
};

/* A further value that describes a step or an epoch. Every tracker writes all of them, so that a
 * new one needs only a line in the trainer. The texts live as long as the run. */
struct dml_named_value {
    const char *group; /* of those that share a CSV file: "learning" is Data_Train_learning.csv */
    const char *name;  /* "clipped_share" */
    double value;
};

struct dml_step_record {
    uint64_t step; /* over the whole run, from 0 */
    uint64_t epoch;
    double loss;
    double seconds;                       /* the step took */
    const struct dml_named_value *values; /* the same names in every step of a run */
    size_t value_count;
};

/* One part's results in an epoch. */
struct dml_part_record {
    const char *part; /* "Train", "Test", "Val"; with averaged weights "Test_EMA" and so on */
    const struct dml_metric_value *metrics;
    size_t count;
};

/* What one of several ranks did in an epoch. `host` lives as long as the run. */
struct dml_rank_record {
    int rank, threads;
    const char *host;
    double images_per_second; /* of its own images, while it did not wait */
    double wait_share;        /* of the time of its steps: for other ranks and for their bytes */
};

/* Three parts, with the weights and with their running average. */
enum { DML_RECORD_PARTS = 6 };

struct dml_epoch_record {
    uint64_t epoch; /* from 0 */
    double loss;    /* mean over the epoch's steps */
    double train_seconds, eval_seconds;
    size_t train_images, eval_images;
    double lr;
    struct dml_part_record parts[DML_RECORD_PARTS];
    size_t part_count;
    const struct dml_named_value *values;
    size_t value_count;
    const struct dml_rank_record *ranks; /* none for a process on its own */
    size_t rank_count;
    const char *contact_sheet; /* PNG made after this epoch, or NULL */
};

enum dml_run_end { DML_RUN_FINISHED, DML_RUN_INTERRUPTED, DML_RUN_FAILED };

struct dml_tracker {
    const char *name; /* "csv", "sqlite", "plots", "wandb", "tensorboard" */
    enum dml_status (*open)(const struct dml_run *run, void **state);
    enum dml_status (*step)(void *state, const struct dml_step_record *record);
    enum dml_status (*epoch)(void *state, const struct dml_epoch_record *record);
    /* Puts everything it was told on disk and adds to `note` what it needs to continue from here; a
     * resumed run finds that in its notes. What was written later is to be cut off. */
    enum dml_status (*sync)(void *state, struct cJSON *note);
    /* `error` is the message of a failed run, else NULL. Frees the state. */
    enum dml_status (*close)(void *state, enum dml_run_end end, const char *error);
};

/* The value of that name; 0 where there is none. */
double dml_named_value(const struct dml_named_value *values, size_t count, const char *name);

/* What the tracker of that name noted, NULL for nothing. */
const struct cJSON *dml_run_note(const struct dml_run *run, const char *name);

#endif
