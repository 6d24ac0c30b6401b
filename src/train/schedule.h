#ifndef DML_TRAIN_SCHEDULE_H
#define DML_TRAIN_SCHEDULE_H

#include "dml/schedules.h"
#include "tracking/tracker.h"
#include "train/options.h"

/* The schedule of a run: a method, a warm-up before it, and what it remembers. */
struct dml_run_schedule {
    const struct dml_schedule *method;
    const void *options;
    const struct dml_schedule_flags *flags;
    bool per_step;
    uint64_t steps_per_epoch;
    uint64_t warmup, length; /* steps; the length is without the warm-up */
    struct dml_schedule_memory memory;
};

/* Checks what flags alone can tell: unknown names, a warm-up or schedule that does not fit into the
 * run. */
enum dml_status dml_schedule_check(const struct dml_params *params);

/* DML_ERROR_USAGE: a warm-up of steps that does not fit into the run. */
enum dml_status dml_schedule_open(const struct dml_params *params, uint64_t steps_per_epoch,
                                  struct dml_run_schedule *out);

/* The rate in `step` (from 0) of a group whose own rate is `lr`, and the momentum of all groups
 * (NAN: the optimiser's own). */
double dml_schedule_rate(const struct dml_run_schedule *schedule, double lr, uint64_t step);
double dml_schedule_momentum(const struct dml_run_schedule *schedule, uint64_t step);

/* Shows the schedule an evaluated epoch: its loss, or the metric of --schedule_metric. */
void dml_schedule_observe(struct dml_run_schedule *schedule, const struct dml_epoch_record *record);

/* What it remembers as JSON for a state file (free() it), and back; false: the text is not one of
 * these. */
char *dml_schedule_memory_text(const struct dml_run_schedule *schedule);
bool dml_schedule_memory_read(struct dml_run_schedule *schedule, const char *text);

#endif
