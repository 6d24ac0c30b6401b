#include "base/builtin.h"
#include "dml/schedules.h"

/* Each schedule has its own file, src/schedules/NAME.c, which defines dml_schedule_NAME; step.c and
 * constant.c define two names each. */
extern const struct dml_schedule dml_schedule_constant, dml_schedule_cosine,
    dml_schedule_exponential, dml_schedule_multistep, dml_schedule_none, dml_schedule_onecycle,
    dml_schedule_plateau, dml_schedule_polynomial, dml_schedule_step;

const struct dml_method *const dml_builtin_schedules[] = {
    &dml_schedule_step.method,       &dml_schedule_multistep.method,
    &dml_schedule_none.method,       &dml_schedule_constant.method,
    &dml_schedule_cosine.method,     &dml_schedule_exponential.method,
    &dml_schedule_polynomial.method, &dml_schedule_onecycle.method,
    &dml_schedule_plateau.method,    NULL,
};
