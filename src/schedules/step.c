/* Rates that fall at milestones, or at regular intervals. */
#include "dml/schedules.h"

#include <math.h>

struct options {
    struct dml_ints tau;
    double gamma;
    int64_t size;
};

static const struct dml_param params[] = {
    {.name = "tau",
     .type = DML_PARAM_INTS,
     .offset = offsetof(struct options, tau),
     .fallback = "1000",
     .min = 1,
     .max = INFINITY,
     .help =
         "Epochs after which all learning rates are multiplied by gamma; one that is listed twice "
         "counts twice."},
    {.name = "gamma",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, gamma),
     .fallback = "0.3",
     .max = 1,
     .above_min = true,
     .help = "See tau."},
    {.name = "step_size",
     .type = DML_PARAM_INT,
     .offset = offsetof(struct options, size),
     .fallback = "0",
     .max = 1e15,
     .help = "With --scheduler step: multiply by gamma every this many epochs; 0: at tau."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE_OF("Schedule: step", struct options, params, DML_PARAM_MAY_CHANGE);

static double multistep(const void *options, const struct dml_schedule_time *time, double lr) {
    const struct options *o = options;
    double factor = 1;
    for (size_t i = 0; i < o->tau.count; i++)
        if (time->t >= (uint64_t)o->tau.items[i])
            factor *= o->gamma;
    return lr * factor;
}

static double step(const void *options, const struct dml_schedule_time *time, double lr) {
    const struct options *o = options;
    if (o->size == 0)
        return multistep(options, time, lr);
    return lr * pow(o->gamma, (double)(time->t / (uint64_t)o->size));
}

static uint64_t latest_of_tau(const void *options) {
    const struct options *o = options;
    int64_t latest = 0;
    for (size_t i = 0; i < o->tau.count; i++)
        latest = o->tau.items[i] > latest ? o->tau.items[i] : latest;
    return (uint64_t)latest;
}

static uint64_t latest_of_step(const void *options) {
    const struct options *o = options;
    return o->size ? (uint64_t)o->size : latest_of_tau(options);
}

const struct dml_schedule dml_schedule_step = {
    .method = {.name = "step",
               .summary = "Multiplied by gamma after every --step_size epochs, or at those of tau",
               .params = &table},
    .unit = DML_PER_EPOCH,
    .from_start = true,
    .latest = latest_of_step,
    .rate = step,
};

const struct dml_schedule dml_schedule_multistep = {
    .method = {.name = "multistep",
               .summary = "Multiplied by gamma after the epochs of tau",
               .params = &table},
    .unit = DML_PER_EPOCH,
    .from_start = true,
    .latest = latest_of_tau,
    .rate = multistep,
};
