#ifndef DML_TRAIN_EVALUATION_H
#define DML_TRAIN_EVALUATION_H

#include "tracking/best.h"
#include "train/experiment.h"

#include <signal.h>

/* Evaluates a run's parts after an epoch and remembers the best value of every storage metric, so
 * that an improvement writes a checkpoint. Starts zeroed. */
struct dml_run_evaluation {
    struct dml_bests bests;                            /* of storage metrics only */
    struct dml_metric_value *values[DML_RECORD_PARTS]; /* of the last evaluation */
    size_t value_count;
    char *contact_sheet; /* of the last evaluation, NULL when none was made */
    char best_text[80];
    struct cuda_ranker *ranker; /* with --evaluate_on_gpu, from the first evaluation on */
    bool ranker_tried;
};

/* Embeds and, on rank 0, measures every part, with the weights and then, where the run keeps one,
 * with their running average ("Test_EMA"), and fills parts, eval_seconds, eval_images and
 * contact_sheet of `record`, which point into the evaluation until dml_run_evaluation_release.
 * Improvements of storage metrics are written to
 * <folder>/checkpoint_<part>_discriminative_<metric>.safetensors; one of the first storage metric
 * on the test part also to <folder>/sample_recoveries.png. */
enum dml_status dml_run_evaluate(struct dml_run_evaluation *evaluation,
                                 const struct dml_experiment *experiment, const char *folder,
                                 const volatile sig_atomic_t *stop,
                                 struct dml_epoch_record *record);
void dml_run_evaluation_release(struct dml_run_evaluation *evaluation);
void dml_run_evaluation_close(struct dml_run_evaluation *evaluation);

/* ", best e_recall@1 0.553" once there is one, else "": for the progress bar. */
const char *dml_run_evaluation_best_text(const struct dml_run_evaluation *evaluation);

/* The bests as JSON for a state file (free() it), and back; `path` is the file's, for messages. */
char *dml_run_evaluation_bests(const struct dml_run_evaluation *evaluation);
enum dml_status dml_run_evaluation_restore(struct dml_run_evaluation *evaluation, const char *path,
                                           const char *json);

#endif
