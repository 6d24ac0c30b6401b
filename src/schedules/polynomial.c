/* lr (1 - t/N)^power. */
#include "dml/schedules.h"

#include <math.h>

struct options {
    double power;
};

static const struct dml_param params[] = {
    {.name = "polynomial_power",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, power),
     .fallback = "1",
     .max = 100,
     .above_min = true,
     .help = "1: a straight line."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE_OF("Schedule: polynomial", struct options, params, DML_PARAM_MAY_CHANGE);

static double rate(const void *options, const struct dml_schedule_time *time, double lr) {
    const struct options *o = options;
    double done = time->t < time->total ? (double)time->t / (double)time->total : 1;
    return lr * pow(1 - done, o->power);
}

const struct dml_schedule dml_schedule_polynomial = {
    .method = {.name = "polynomial",
               .summary = "A power of the share of time left, down to 0",
               .params = &table},
    .unit = DML_PER_STEP,
    .rate = rate,
};
