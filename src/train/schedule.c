#include "train/schedule.h"

#include <math.h>
#include <string.h>

static const struct dml_schedule *method_of(const struct dml_params *params) {
    const struct dml_training_options *t = dml_params_options(params, &dml_training_params);
    return (const struct dml_schedule *)dml_method_find(DML_SCHEDULE, t->scheduler);
}

enum dml_status dml_schedule_check(const struct dml_params *params) {
    const struct dml_training_options *t = dml_params_options(params, &dml_training_params);
    const struct dml_schedule_flags *f = dml_params_options(params, &dml_schedule_params);
    const struct dml_schedule *method = method_of(params);
    long long epochs = t->n_epochs, warmup = f->warmup_epochs, length = f->schedule_epochs;
    if (!method)
        return dml_method_unknown(DML_SCHEDULE, t->scheduler);
    if (warmup && f->warmup_steps)
        return dml_fail(DML_ERROR_USAGE, "--warmup_epochs and --warmup_steps exclude each other");
    if ((warmup || f->warmup_steps) && method->own_warmup)
        return dml_fail(DML_ERROR_USAGE, "--scheduler %s has a warm-up of its own: no %s",
                        t->scheduler, warmup ? "--warmup_epochs" : "--warmup_steps");
    if (epochs == 0)
        return DML_OK;
    if (warmup >= epochs)
        return dml_fail(DML_ERROR_USAGE,
                        "--warmup_epochs %lld: a run of %lld epochs is over by then", warmup,
                        epochs);
    if (length > epochs)
        return dml_fail(DML_ERROR_USAGE,
                        "--schedule_epochs %lld: longer than the run of %lld epochs", length,
                        epochs);
    if (length && length <= warmup)
        return dml_fail(DML_ERROR_USAGE,
                        "--warmup_epochs %lld: --schedule_epochs %lld is over by "
                        "then",
                        warmup, length);
    if (length && length < epochs && method->whole_run)
        return dml_fail(DML_ERROR_USAGE,
                        "--scheduler %s has no rate after --schedule_epochs %lld, and the run has "
                        "%lld epochs",
                        t->scheduler, length, epochs);
    return DML_OK;
}

enum dml_status dml_schedule_open(const struct dml_params *params, uint64_t steps_per_epoch,
                                  struct dml_run_schedule *out) {
    const struct dml_training_options *t = dml_params_options(params, &dml_training_params);
    const struct dml_schedule_flags *f = dml_params_options(params, &dml_schedule_params);
    const struct dml_schedule *method = method_of(params);
    uint64_t epochs = (uint64_t)(f->schedule_epochs ? f->schedule_epochs : t->n_epochs);
    uint64_t steps = epochs * steps_per_epoch;
    *out = (struct dml_run_schedule){
        .method = method,
        .options = dml_params_options(params, method->method.params),
        .flags = f,
        .per_step = f->schedule_unit == DML_UNIT_OWN ? method->unit == DML_PER_STEP
                                                     : f->schedule_unit == DML_UNIT_STEP,
        .steps_per_epoch = steps_per_epoch,
        .warmup = f->warmup_steps ? (uint64_t)f->warmup_steps
                                  : (uint64_t)f->warmup_epochs * steps_per_epoch,
        .memory.best = NAN};
    if (out->warmup && out->warmup >= steps && t->n_epochs > 0)
        return dml_fail(DML_ERROR_USAGE,
                        "--warmup_steps %llu: the schedule of %llu steps is over by then",
                        (unsigned long long)out->warmup, (unsigned long long)steps);
    out->length = steps > out->warmup ? steps - out->warmup : 1;
    return DML_OK;
}

/* The schedule's own time in a step. */
static struct dml_schedule_time time_of(const struct dml_run_schedule *s, uint64_t step) {
    uint64_t start = s->method->from_start ? 0 : s->warmup;
    uint64_t length = s->method->from_start ? s->length + s->warmup : s->length;
    uint64_t unit = s->per_step || s->steps_per_epoch == 0 ? 1 : s->steps_per_epoch;
    return (struct dml_schedule_time){(step - start) / unit, (length + unit - 1) / unit,
                                      &s->memory};
}

double dml_schedule_rate(const struct dml_run_schedule *s, double lr, uint64_t step) {
    if (step < s->warmup) {
        double start = s->flags->warmup_start;
        return lr * (start + (1 - start) * (double)step / (double)s->warmup);
    }
    const struct dml_schedule_time time = time_of(s, step);
    return s->method->rate(s->options, &time, lr);
}

double dml_schedule_momentum(const struct dml_run_schedule *s, uint64_t step) {
    if (step < s->warmup || !s->method->momentum)
        return NAN;
    const struct dml_schedule_time time = time_of(s, step);
    return s->method->momentum(s->options, &time);
}
