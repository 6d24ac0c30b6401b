/* Half a cosine. Loshchilov, Hutter 2017, "SGDR: stochastic gradient descent with warm restarts",
 * without restarts:  min + (lr - min) (1 + cos(pi t / N)) / 2. */
#include "dml/schedules.h"

#include <math.h>

struct options {
    double min_lr;
};

static const struct dml_param params[] = {
    {.name = "cosine_min_lr",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, min_lr),
     .fallback = "0",
     .max = INFINITY,
     .help = "The rate of every group at the end."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE_OF("Schedule: cosine", struct options, params, DML_PARAM_MAY_CHANGE);

static double rate(const void *options, const struct dml_schedule_time *time, double lr) {
    const struct options *o = options;
    double done = (double)time->t / (double)time->total;
    return o->min_lr + (lr - o->min_lr) * (1 + cos(M_PI * done)) / 2;
}

const struct dml_schedule dml_schedule_cosine = {
    .method = {.name = "cosine",
               .summary = "Half a cosine from the rate to --cosine_min_lr",
               .paper = "Loshchilov, Hutter 2017, SGDR: stochastic gradient descent with warm "
                        "restarts",
               .params = &table},
    .unit = DML_PER_STEP,
    .rate = rate,
};
