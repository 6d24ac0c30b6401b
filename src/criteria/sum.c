/* Sums of criteria: each computes its loss and gradients, which are weighted and added. */
#include "criteria/objective.h"

#include "criteria/class_bank.h"

#include "base/memory.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NAMES = 16 }; /* of parameters or of buffers of one term, at most */

static enum dml_status check_terms(struct dml_objective *const *terms, const double *weights,
                                   size_t count) {
    if (count == 0 || count > DML_OBJECTIVE_TERMS)
        return dml_fail(DML_ERROR_USAGE, "a sum of %zu criteria: it must be 1 to %d", count,
                        DML_OBJECTIVE_TERMS);
    for (size_t i = 0; i < count; i++) {
        const char *name = terms[i]->criterion->method.name;
        if (terms[i]->count)
            return dml_fail(DML_ERROR_USAGE, "a sum of criteria within a sum");
        if (!(weights[i] >= 0 && weights[i] <= DBL_MAX))
            return dml_fail(DML_ERROR_USAGE, "%s: a weight of %g", name, weights[i]);
        if (terms[i]->dim != terms[0]->dim || terms[i]->classes != terms[0]->classes)
            return dml_fail(DML_ERROR_USAGE, "%s: has other dimensions or classes than %s", name,
                            terms[0]->criterion->method.name);
        for (size_t j = 0; j < i; j++)
            if (terms[i]->criterion == terms[j]->criterion)
                return dml_fail(DML_ERROR_USAGE, "the criterion '%s' is listed twice", name);
    }
    return DML_OK;
}

enum dml_status dml_objective_sum(struct dml_objective *const *terms, const double *weights,
                                  size_t count, struct dml_objective **out) {
    enum dml_status status = check_terms(terms, weights, count);
    if (status)
        return status;
    struct dml_objective *sum = dml_alloc(1, sizeof *sum);
    if (!sum)
        return DML_ERROR_MEMORY;
    sum->names = dml_alloc(2 * NAMES * count, sizeof *sum->names);
    if (!sum->names) {
        free(sum);
        return DML_ERROR_MEMORY;
    }
    sum->criterion = terms[0]->criterion;
    sum->dim = terms[0]->dim;
    sum->classes = terms[0]->classes;
    sum->count = count;
    for (size_t i = 0; i < count; i++) {
        sum->terms[i].objective = terms[i];
        sum->terms[i].weight = weights[i];
    }
    *out = sum;
    return DML_OK;
}

const struct dml_criterion *dml_objective_term(const struct dml_objective *objective, size_t i) {
    if (objective->count)
        return i < objective->count ? objective->terms[i].objective->criterion : NULL;
    return i == 0 ? objective->criterion : NULL;
}

static enum dml_status scale_parameters(struct dml_objective *objective, double weight) {
    struct dml_criterion_parameter parameters[NAMES];
    size_t count = weight == 1 ? 0 : dml_objective_own_parameters(objective, parameters, NAMES);
    enum dml_status status = DML_OK;
    for (size_t p = 0; !status && p < count; p++) {
        struct dml_class_bank *bank = parameters[p].bank;
        if (bank)
            status = bank->ops->scale(bank, weight, INFINITY);
        for (size_t k = 0; !bank && k < parameters[p].dims[0] * parameters[p].dims[1]; k++)
            parameters[p].grad[k] *= (float)weight;
    }
    return status;
}

enum dml_status dml_objective_compute_sum(struct dml_objective *objective,
                                          const struct dml_batch *batch,
                                          const struct dml_tuples *const *tuples,
                                          struct dml_rng *rng, float *grad, struct dml_loss *loss) {
    enum dml_status status = DML_OK;
    if (!objective->count) {
        status = dml_objective_check(objective, batch, tuples[0]);
        return status ? status : dml_objective_run(objective, batch, tuples[0], rng, grad, loss);
    }
    for (size_t t = 0; !status && t < objective->count; t++)
        status = dml_objective_check(objective->terms[t].objective, batch, tuples[t]);
    if (status)
        return status;
    const size_t size = batch->n * batch->dim;
    float *sum = dml_buffer_reserve(&objective->scratch, 2 * size, sizeof *sum), *own = sum + size;
    if (!sum)
        return DML_ERROR_MEMORY;
    struct dml_loss total = {0};
    memset(sum, 0, size * sizeof *sum);
    for (size_t t = 0; t < objective->count; t++) {
        struct dml_loss part;
        const float weight = (float)objective->terms[t].weight;
        status =
            dml_objective_run(objective->terms[t].objective, batch, tuples[t], rng, own, &part);
        if (status)
            return status;
        total.value += objective->terms[t].weight * part.value;
        total.tuples += part.tuples;
        total.active += part.active;
        for (size_t k = 0; k < size; k++)
            sum[k] += weight * own[k];
        status = scale_parameters(objective->terms[t].objective, objective->terms[t].weight);
        if (status)
            return status;
    }
    memcpy(grad, sum, size * sizeof *grad);
    *loss = total;
    return DML_OK;
}

/* The name prefixed with the criterion's, in the sum's own memory. */
static const char *full_name(struct dml_objective *sum, size_t term, size_t slot,
                             const char *name) {
    char *full = sum->names[2 * NAMES * term + slot];
    snprintf(full, sizeof *sum->names, "%s.%s", sum->terms[term].objective->criterion->method.name,
             name);
    return full;
}

size_t dml_objective_parameters(struct dml_objective *objective,
                                struct dml_criterion_parameter *out, size_t max) {
    if (!objective->count)
        return dml_objective_own_parameters(objective, out, max);
    size_t count = 0;
    for (size_t t = 0; t < objective->count; t++) {
        size_t left = max - count < NAMES ? max - count : NAMES;
        size_t own = dml_objective_own_parameters(objective->terms[t].objective, out + count, left);
        for (size_t i = 0; i < own; i++, count++)
            out[count].name = full_name(objective, t, i, out[count].name);
    }
    return count;
}

size_t dml_objective_buffers(struct dml_objective *objective, struct dml_criterion_buffer *out,
                             size_t max) {
    if (!objective->count)
        return dml_objective_own_buffers(objective, out, max);
    size_t count = 0;
    for (size_t t = 0; t < objective->count; t++) {
        size_t left = max - count < NAMES ? max - count : NAMES;
        size_t own = dml_objective_own_buffers(objective->terms[t].objective, out + count, left);
        for (size_t i = 0; i < own; i++, count++)
            out[count].name = full_name(objective, t, NAMES + i, out[count].name);
    }
    return count;
}
