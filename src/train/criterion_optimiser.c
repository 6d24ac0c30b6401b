#include "train/criterion_optimiser.h"

#include "base/memory.h"
#include "criteria/class_bank.h"
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

enum dml_status dml_criterion_optimiser_fetch(const struct dml_criterion_optimiser *optimiser) {
    enum dml_status status = DML_OK;
    for (size_t i = 0; i < optimiser->count; i++) {
        const struct dml_criterion_parameter *p = &optimiser->parameters[i];
        if (p->bank && !status)
            status = p->bank->ops->read(p->bank, DML_BANK_VALUES, p->values);
        for (int s = 0; p->bank && !status && s < DML_OPTIMISER_STATES; s++)
            if (optimiser->states[i][s])
                status = p->bank->ops->read(p->bank, DML_BANK_STATE + s, optimiser->states[i][s]);
    }
    return status;
}

enum dml_status dml_criterion_optimiser_put(const struct dml_criterion_optimiser *optimiser) {
    enum dml_status status = DML_OK;
    for (size_t i = 0; i < optimiser->count; i++) {
        const struct dml_criterion_parameter *p = &optimiser->parameters[i];
        if (p->bank && !status)
            status = p->bank->ops->write(p->bank, DML_BANK_VALUES, p->values);
        for (int s = 0; p->bank && !status && s < DML_OPTIMISER_STATES; s++)
            if (optimiser->states[i][s])
                status = p->bank->ops->write(p->bank, DML_BANK_STATE + s, optimiser->states[i][s]);
    }
    return status;
}

enum dml_status dml_criterion_optimiser_clip(struct dml_criterion_optimiser *optimiser,
                                             double limit) {
    enum dml_status status = DML_OK;
    for (size_t i = 0; !status && i < optimiser->count; i++) {
        const struct dml_criterion_parameter *p = &optimiser->parameters[i];
        if (p->bank)
            status = p->bank->ops->scale(p->bank, 1, limit);
        else
            dml_gradient_clip(p->grad, size_of(p), 1, limit);
    }
    return status;
}

enum dml_status dml_criterion_optimiser_step(struct dml_criterion_optimiser *optimiser,
                                             const struct dml_optimiser *method,
                                             const void *options, const struct dml_update *updates,
                                             const size_t *groups) {
    enum dml_status status = DML_OK;
    for (size_t i = 0; !status && i < optimiser->count; i++) {
        const struct dml_criterion_parameter *p = &optimiser->parameters[i];
        const struct dml_update *update = &updates[groups[i]];
        if (p->bank)
            status = p->bank->ops->update(p->bank, method, options, update);
        else
            method->update(options, update, p->values, p->grad, optimiser->states[i], size_of(p));
    }
    return status;
}
