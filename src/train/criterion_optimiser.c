#include "train/criterion_optimiser.h"

#include "base/memory.h"
#include "math/descent.h"

#include <stdlib.h>

static size_t size_of(const struct dml_criterion_parameter *parameter) {
    return parameter->dims[0] * parameter->dims[1];
}

enum dml_status dml_criterion_optimiser_open(struct dml_objective *objective, size_t states,
                                             struct dml_criterion_optimiser *out) {
    *out = (struct dml_criterion_optimiser){0};
    out->count = dml_objective_parameters(objective, out->parameters, DML_CRITERION_PARAMETERS);
    for (size_t i = 0; i < out->count; i++)
        for (size_t s = 0; s < states; s++) {
            out->states[i][s] = dml_alloc(size_of(&out->parameters[i]), sizeof(float));
            if (!out->states[i][s])
                return DML_ERROR_MEMORY;
        }
    return DML_OK;
}

void dml_criterion_optimiser_close(struct dml_criterion_optimiser *optimiser) {
    for (size_t i = 0; i < DML_CRITERION_PARAMETERS; i++)
        for (size_t s = 0; s < DML_OPTIMISER_STATES; s++)
            free(optimiser->states[i][s]);
    *optimiser = (struct dml_criterion_optimiser){0};
}

void dml_criterion_optimiser_clip(struct dml_criterion_optimiser *optimiser, double limit) {
    for (size_t i = 0; i < optimiser->count; i++)
        dml_gradient_clip(optimiser->parameters[i].grad, size_of(&optimiser->parameters[i]), 1,
                          limit);
}

void dml_criterion_optimiser_step(struct dml_criterion_optimiser *optimiser,
                                  const struct dml_optimiser *method, const void *options,
                                  const struct dml_update *updates, const size_t *groups) {
    for (size_t i = 0; i < optimiser->count; i++) {
        const struct dml_criterion_parameter *p = &optimiser->parameters[i];
        method->update(options, &updates[groups[i]], p->values, p->grad, optimiser->states[i],
                       size_of(p));
    }
}
