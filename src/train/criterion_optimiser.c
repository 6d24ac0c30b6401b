#include "train/criterion_optimiser.h"

#include "base/memory.h"
#include "math/optimise.h"

#include <stdlib.h>

static size_t size_of(const struct dml_criterion_parameter *parameter) {
    return parameter->dims[0] * parameter->dims[1];
}

enum dml_status dml_criterion_optimiser_open(struct dml_objective *objective,
                                             struct dml_criterion_optimiser *out) {
    *out = (struct dml_criterion_optimiser){0};
    out->count = dml_objective_parameters(objective, out->parameters, DML_CRITERION_PARAMETERS);
    for (size_t i = 0; i < out->count; i++)
        for (int m = 0; m < 2; m++) {
            out->moments[i][m] = dml_alloc(size_of(&out->parameters[i]), sizeof(float));
            if (!out->moments[i][m])
                return DML_ERROR_MEMORY;
        }
    return DML_OK;
}

void dml_criterion_optimiser_close(struct dml_criterion_optimiser *optimiser) {
    for (size_t i = 0; i < DML_CRITERION_PARAMETERS; i++) {
        free(optimiser->moments[i][0]);
        free(optimiser->moments[i][1]);
    }
    *optimiser = (struct dml_criterion_optimiser){0};
}

void dml_criterion_optimiser_step(struct dml_criterion_optimiser *optimiser,
                                  const struct dml_optimiser_step *step, double schedule) {
    for (size_t i = 0; i < optimiser->count; i++) {
        const struct dml_criterion_parameter *p = &optimiser->parameters[i];
        struct dml_optimiser_step own = *step;
        own.lr = p->lr * schedule;
        own.decay = 0;
        dml_optimiser_update(&own, p->values, p->grad, optimiser->moments[i][0],
                             optimiser->moments[i][1], size_of(p));
    }
}
