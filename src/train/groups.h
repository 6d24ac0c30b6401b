#ifndef DML_TRAIN_GROUPS_H
#define DML_TRAIN_GROUPS_H

#include "backends/backend.h"
#include "train/criterion_optimiser.h"
#include "train/options.h"
#include "train/schedule.h"

/* Parameters that share rate and decay, made once from the run's flags. The network's parameters
 * come as spans for the backend; each of the criterion's has a group of its own. */
struct dml_group {
    char kind[DML_GRAPH_NAME];      /* "backbone_layer3_no_decay", or the pattern that made it */
    char name[DML_GRAPH_NAME + 16]; /* the same, with a number from the second of a kind on */
    char rate_name[DML_GRAPH_NAME + 24]; /* "lr/<name>", for logs */
    double lr, decay;
    uint64_t start;      /* the step at which it begins to learn */
    uint64_t rate_start; /* the step at which its rate is no longer 0; `start` or later */
};

struct dml_groups {
    struct dml_group *items;
    size_t count, capacity;
    int *of; /* group of each graph parameter; -1: none */
    size_t of_criterion[DML_CRITERION_PARAMETERS];
    struct dml_span *spans, *early; /* all that learn; those that learn from step 0 */
    size_t span_count, early_count;
    uint64_t late;              /* the step from which all of them learn */
    struct dml_update *updates; /* (count) of the step under way */
};

/* DML_ERROR_USAGE: a pattern that cannot be read or that matches nothing. */
enum dml_status dml_groups_open(const struct dml_graph *graph,
                                const struct dml_criterion_optimiser *criterion,
                                const struct dml_training_options *training,
                                const struct dml_group_flags *flags, uint64_t steps_per_epoch,
                                struct dml_groups *out);
void dml_groups_close(struct dml_groups *groups);

/* The network's parameters that learn in `step` (from 0). */
struct dml_spans dml_groups_spans(const struct dml_groups *groups, uint64_t step);

/* A group's rate in `step`; 0 while it is frozen. */
double dml_groups_rate(const struct dml_groups *groups, size_t group,
                       const struct dml_run_schedule *schedule, uint64_t step);

/* Sets `updates` for `step` according to the schedule. */
void dml_groups_update(struct dml_groups *groups, const struct dml_run_schedule *schedule,
                       uint64_t step);

/* Every learnable parameter with its group, rate and decay, as `--list_groups` shows them. */
void dml_groups_print(const struct dml_groups *groups, const struct dml_graph *graph,
                      const struct dml_criterion_optimiser *criterion, FILE *out);

#endif
