#include "train/schedule.h"

#include "base/memory.h"
#include "base/messages.h"
#include "dml/metrics.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <string.h>

static const char LOSS[] = "loss";

static const struct dml_schedule *method_of(const struct dml_params *params) {
    const struct dml_training_options *t = dml_params_options(params, &dml_training_params);
    return (const struct dml_schedule *)dml_method_find(DML_SCHEDULE, t->scheduler);
}

static bool is_measured(const struct dml_params *params, const char *name) {
    const struct dml_evaluation_flags *e = dml_params_options(params, &dml_evaluation_params);
    const struct dml_strings *const lists[] = {&e->evaluation_metrics, &e->storage_metrics};
    bool found = strcmp(name, LOSS) == 0;
    for (int l = 0; l < 2; l++)
        for (size_t i = 0; i < lists[l]->count; i++)
            found |= strcmp(lists[l]->items[i], name) == 0;
    return found;
}

enum dml_status dml_schedule_check(const struct dml_params *params) {
    const struct dml_training_options *t = dml_params_options(params, &dml_training_params);
    const struct dml_schedule_flags *f = dml_params_options(params, &dml_schedule_params);
    const struct dml_schedule *method = method_of(params);
    long long epochs = t->n_epochs, warmup = f->warmup_epochs, length = f->schedule_epochs;
    if (!method)
        return dml_method_unknown(DML_SCHEDULE, t->scheduler);
    if (warmup && f->warmup_steps)
        return dml_fail(DML_ERROR_USAGE,
                        "--warmup_epochs and --warmup_steps cannot be given together");
    if ((warmup || f->warmup_steps) && method->own_warmup)
        return dml_fail(DML_ERROR_USAGE, "--scheduler %s has a warm-up of its own: no --%s",
                        t->scheduler, warmup ? "warmup_epochs" : "warmup_steps");
    if (method->observe && !is_measured(params, f->schedule_metric))
        return dml_fail(DML_ERROR_USAGE,
                        "--schedule_metric %s: is neither loss nor one of --evaluation_metrics and "
                        "--storage_metrics",
                        f->schedule_metric);
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

/* The value that a schedule looks at, in a part that was evaluated; NULL: it is not there. */
static const struct dml_metric_value *observed(const struct dml_run_schedule *s,
                                               const struct dml_epoch_record *record,
                                               const char *part) {
    for (size_t p = 0; p < record->part_count; p++)
        for (size_t i = 0; i < record->parts[p].count; i++)
            if (strcmp(record->parts[p].part, part) == 0 &&
                strcmp(record->parts[p].metrics[i].name, s->flags->schedule_metric) == 0)
                return &record->parts[p].metrics[i];
    return NULL;
}

void dml_schedule_observe(struct dml_run_schedule *s, const struct dml_epoch_record *record) {
    if (!s->method->observe)
        return;
    if (strcmp(s->flags->schedule_metric, LOSS) == 0) {
        s->method->observe(s->options, &s->memory, record->loss, false);
        return;
    }
    const struct dml_metric_value *value = observed(s, record, "Val");
    if (!value)
        value = observed(s, record, "Test");
    if (value)
        s->method->observe(s->options, &s->memory, value->value,
                           dml_metric_order_of(value->name) == DML_METRIC_LARGER);
}

char *dml_schedule_memory_text(const struct dml_run_schedule *s) {
    const struct dml_schedule_memory *m = &s->memory;
    char best[32] = "null";
    if (isfinite(m->best))
        snprintf(best, sizeof best, "%.17g", m->best);
    return dml_format("{\"best\": %s, \"bad\": %llu, \"cooldown\": %llu, \"reductions\": %llu}",
                      best, (unsigned long long)m->bad, (unsigned long long)m->cooldown,
                      (unsigned long long)m->reductions);
}

bool dml_schedule_memory_read(struct dml_run_schedule *s, const char *text) {
    struct dml_schedule_memory memory = {.best = NAN};
    const char *const names[] = {"bad", "cooldown", "reductions"};
    uint64_t *const fields[] = {&memory.bad, &memory.cooldown, &memory.reductions};
    cJSON *json = cJSON_Parse(text);
    const cJSON *best = cJSON_GetObjectItem(json, "best");
    bool read = cJSON_IsNumber(best) || cJSON_IsNull(best);
    if (cJSON_IsNumber(best))
        memory.best = best->valuedouble;
    for (size_t i = 0; i < 3; i++) {
        const cJSON *item = cJSON_GetObjectItem(json, names[i]);
        read = read && cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble < 1e15;
        if (read)
            *fields[i] = (uint64_t)item->valuedouble;
    }
    cJSON_Delete(json);
    if (read)
        s->memory = memory;
    return read;
}

/* Steps in one unit of what the schedule counts. */
static uint64_t unit_of(const struct dml_run_schedule *s) {
    return s->per_step || s->steps_per_epoch == 0 ? 1 : s->steps_per_epoch;
}

/* The schedule's own time at a step; it stops at the end. */
static struct dml_schedule_time time_of(const struct dml_run_schedule *s, uint64_t step) {
    uint64_t start = s->method->from_start ? 0 : s->warmup, unit = unit_of(s);
    uint64_t total = (s->length + s->warmup - start + unit - 1) / unit, t = (step - start) / unit;
    return (struct dml_schedule_time){t < total ? t : total, total, &s->memory};
}

/* Warns if flags that were typed name a time that the run does not reach. */
static void warn_of_unreached(const struct dml_params *params, const struct dml_run_schedule *s) {
    const struct dml_param_table *table = s->method->method.params;
    bool given = false;
    for (size_t i = 0; table && i < table->count; i++)
        given |= dml_params_given(params, table->params[i].name);
    if (!given || !s->method->latest)
        return;
    uint64_t latest = s->method->latest(s->options), total = time_of(s, s->warmup).total;
    if (latest >= total)
        dml_warn("--scheduler %s: its rate is to change after %llu %s, but the run has %llu",
                 s->method->method.name, (unsigned long long)latest,
                 s->per_step ? "steps" : "epochs", (unsigned long long)total);
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
    if (t->n_epochs > 0)
        warn_of_unreached(params, out);
    return DML_OK;
}

/* The share of the warm-up that is done; where the flags say so, it rises epoch by epoch. */
static double warm(const struct dml_run_schedule *s, uint64_t step) {
    bool by_epochs = s->flags->schedule_unit == DML_UNIT_EPOCH && s->flags->warmup_epochs;
    uint64_t unit = by_epochs ? s->steps_per_epoch : 1;
    return (double)(step / unit * unit) / (double)s->warmup;
}

double dml_schedule_rate(const struct dml_run_schedule *s, double lr, uint64_t step) {
    if (step < s->warmup) {
        double start = s->flags->warmup_start;
        return lr * (start + (1 - start) * warm(s, step));
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
