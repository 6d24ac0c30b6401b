/* lr gamma^t. */
#include "dml/schedules.h"

#include <math.h>

struct options {
    double gamma;
};

static const struct dml_param params[] = {
    {.name = "exponential_gamma",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, gamma),
     .fallback = "0.95",
     .max = 1,
     .above_min = true,
     .help = "Factor of the rate per epoch (or step)."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE_OF("Schedule: exponential", struct options, params, DML_PARAM_MAY_CHANGE);

static double rate(const void *options, const struct dml_schedule_time *time, double lr) {
    const struct options *o = options;
    return lr * pow(o->gamma, (double)time->t);
}

const struct dml_schedule dml_schedule_exponential = {
    .method = {.name = "exponential",
               .summary = "Multiplied by --exponential_gamma after every epoch",
               .params = &table},
    .unit = DML_PER_EPOCH,
    .rate = rate,
};
