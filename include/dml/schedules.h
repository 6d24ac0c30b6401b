#ifndef DML_SCHEDULES_H
#define DML_SCHEDULES_H

#include "dml/method.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum dml_schedule_unit { DML_PER_EPOCH, DML_PER_STEP };

/* What a schedule remembers of the values that it was shown. Part of a run's state. */
struct dml_schedule_memory {
    double best; /* NAN before the first value */
    uint64_t bad, cooldown, reductions;
};

/* When a rate is asked for: `t` of `total` steps or epochs are over, 0 <= t <= total; t stays at
 * `total` when the run lasts longer than its schedule. */
struct dml_schedule_time {
    uint64_t t, total;
    const struct dml_schedule_memory *memory;
};

/* A learning-rate schedule, as in torch.optim.lr_scheduler. Functions are pure; `options` is the
 * struct of the method's table. */
struct dml_schedule {
    struct dml_method method;
    enum dml_schedule_unit unit; /* what it counts unless the user says otherwise */
    bool from_start;             /* counts from the run's start, not from the end of a warm-up */
    bool own_warmup;             /* begins with a warm-up of its own */
    bool whole_run;              /* has no rate after its end, so the run may not be longer */

    /* The latest time that the options name; the user is told if the run ends before it. NULL: they
     * name none. */
    uint64_t (*latest)(const void *options);

    /* The rate of a group whose own rate is `lr`. */
    double (*rate)(const void *options, const struct dml_schedule_time *time, double lr);

    /* Momentum (or Adam's beta1) for all groups; NAN, or no such function: the optimiser's own. */
    double (*momentum)(const void *options, const struct dml_schedule_time *time);

    /* Looks at a loss or metric after an evaluation. NULL: does not look. */
    void (*observe)(const void *options, struct dml_schedule_memory *memory, double value,
                    bool larger_is_better);
};

#ifdef __cplusplus
}
#endif
#endif
