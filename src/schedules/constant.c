/* The rate stays what it is; "none" is the study's name for it. */
#include "dml/schedules.h"

static double rate(const void *options, const struct dml_schedule_time *time, double lr) {
    (void)options;
    (void)time;
    return lr;
}

const struct dml_schedule dml_schedule_none = {
    .method = {.name = "none", .summary = "The rate stays the same"},
    .rate = rate,
};

const struct dml_schedule dml_schedule_constant = {
    .method = {.name = "constant", .summary = "The rate stays the same; another name for none"},
    .rate = rate,
};
