#ifndef TESTS_SUPPORT_TRAJECTORY2_H
#define TESTS_SUPPORT_TRAJECTORY2_H

#include "support/optimising.h"
#include "train/schedule.h"

#include <cjson/cJSON.h>

/* How golden/trajectory2 describes optimisers, schedules and networks. */

/* A number that must be there; one that need not be. */
double number(const cJSON *json, const char *name);
double setting(const cJSON *json, const char *name, double fallback);

/* The optimiser of {"kind": "AdamW", "eps": 1e-4, ...}, named and spelt as in torch.optim. A
 * setting that is not known fails the test. */
struct opened_method open_golden_optimiser(const cJSON *json);

/* The schedule that has these parameters, counted in steps, as *schedule, which points into the
 * result and `flags`. */
struct opened_method open_golden_schedule(const cJSON *parameters, struct dml_schedule_flags *flags,
                                          struct dml_run_schedule *schedule);

/* Shows the schedule the value that was measured after `step`. */
void observe_golden(struct dml_run_schedule *schedule, const cJSON *metric, uint64_t step);

/* Trains trajectory2/networks/<name>; false where there is no such backbone. */
bool check_golden_network(const char *name);

#endif
