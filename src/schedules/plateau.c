/* Lower when a loss or metric has stopped improving, as in torch.optim's ReduceLROnPlateau with a
 * relative threshold. */
#include "dml/schedules.h"

#include <math.h>

struct options {
    double factor, threshold, min_lr;
    int64_t patience, cooldown;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"plateau_factor", DML_PARAM_FLOAT, AT(factor), "0.1", 0, 0.999999, true,
     .help = "Factor applied to the rates."},
    {"plateau_patience", DML_PARAM_INT, AT(patience), "10", 0, 1000000,
     .help = "Evaluations without improvement that are tolerated."},
    {"plateau_threshold", DML_PARAM_FLOAT, AT(threshold), "0.0001", 0, 1,
     .help = "Relative change that counts as an improvement."},
    {"plateau_cooldown", DML_PARAM_INT, AT(cooldown), "0", 0, 1000000,
     .help = "Evaluations after a reduction that are not counted."},
    {"plateau_min_lr", DML_PARAM_FLOAT, AT(min_lr), "0", 0, INFINITY,
     .help = "No group's rate is reduced below this."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE_OF("Schedule: plateau", struct options, params, DML_PARAM_MAY_CHANGE);

enum { MOST_REDUCTIONS = 10000 }; /* far beyond where a rate still changes */

static double rate(const void *options, const struct dml_schedule_time *time, double lr) {
    const struct options *o = options;
    for (uint64_t i = 0; i < time->memory->reductions && i < MOST_REDUCTIONS; i++) {
        double lower = fmax(lr * o->factor, o->min_lr);
        if (!(lr - lower > 1e-8)) /* PyTorch's eps */
            break;
        lr = lower;
    }
    return lr;
}

static void observe(const void *options, struct dml_schedule_memory *memory, double value,
                    bool larger_is_better) {
    const struct options *o = options;
    double best = memory->best;
    bool better =
        larger_is_better ? value > best * (1 + o->threshold) : value < best * (1 - o->threshold);
    better |= isnan(best) && !isnan(value);
    if (better)
        memory->best = value;
    memory->bad = better ? 0 : memory->bad + 1;
    if (memory->cooldown > 0) {
        memory->cooldown--;
        memory->bad = 0;
    }
    if (memory->bad > (uint64_t)o->patience) {
        memory->reductions++;
        memory->cooldown = (uint64_t)o->cooldown;
        memory->bad = 0;
    }
}

const struct dml_schedule dml_schedule_plateau = {
    .method = {.name = "plateau",
               .summary = "Multiplied by --plateau_factor when --schedule_metric stops improving",
               .params = &table},
    .unit = DML_PER_EPOCH,
    .rate = rate,
    .observe = observe,
};
