#include "criteria/objective.h"

#include "base/batch.h"
#include "base/memory.h"

#include <float.h>
#include <stdlib.h>

enum dml_status dml_objective_create(const struct dml_criterion *criterion, const void *options,
                                     const struct dml_criterion_context *context,
                                     struct dml_objective **out) {
    const char *name = criterion->method.name;
    if (context->dim == 0)
        return dml_fail(DML_ERROR_INPUT, "%s: embeddings of 0 dimensions", name);
    if (context->classes == 0)
        return dml_fail(DML_ERROR_INPUT, "%s: there are no training classes", name);
    if (!(context->lr >= 0 && context->lr <= DBL_MAX))
        return dml_fail(DML_ERROR_INPUT, "%s: a learning rate of %g", name, context->lr);
    struct dml_objective *objective = dml_alloc(1, sizeof *objective);
    if (!objective)
        return DML_ERROR_MEMORY;
    objective->criterion = criterion;
    objective->dim = context->dim;
    objective->classes = context->classes;
    enum dml_status status =
        criterion->create ? criterion->create(options, context, &objective->state) : DML_OK;
    if (status) {
        free(objective);
        return status;
    }
    *out = objective;
    return DML_OK;
}

enum dml_status dml_objective_open(const char *criterion, const char *flags,
                                   const struct dml_criterion_context *context,
                                   struct dml_objective **out) {
    const struct dml_method *method = dml_method_find(DML_CRITERION, criterion);
    if (!method)
        return dml_method_unknown(DML_CRITERION, criterion);
    struct dml_params *params = NULL;
    enum dml_status status = dml_params_new(&params);
    if (!status && method->params)
        status = dml_params_add(params, method->params);
    if (!status && flags)
        status = dml_params_parse_text(params, flags);
    if (!status)
        status = dml_objective_create((const struct dml_criterion *)method,
                                      dml_params_options(params, method->params), context, out);
    if (status)
        dml_params_free(params);
    else
        (*out)->params = params;
    return status;
}

void dml_objective_free(struct dml_objective *objective) {
    if (!objective)
        return;
    for (size_t t = 0; t < objective->count; t++)
        dml_objective_free(objective->terms[t].objective);
    if (!objective->count && objective->criterion->destroy)
        objective->criterion->destroy(objective->state);
    dml_cross_batch_memory_close(&objective->memory);
    dml_buffer_free(&objective->scratch);
    free(objective->names);
    dml_params_free(objective->params);
    free(objective);
}

const struct dml_criterion *dml_objective_criterion(const struct dml_objective *objective) {
    return objective->criterion;
}

enum dml_status dml_reference_allowed(const struct dml_criterion *criterion) {
    char allowed[1200] = "";
    size_t used = 0;
    const struct dml_method *method;
    if (criterion->takes_reference)
        return DML_OK;
    for (size_t i = 0; (method = dml_method_at(DML_CRITERION, i)) && used < sizeof allowed; i++)
        if (((const struct dml_criterion *)method)->takes_reference)
            used += (size_t)snprintf(allowed + used, sizeof allowed - used, "%s%s",
                                     used ? ", " : "", method->name);
    return dml_fail(DML_ERROR_USAGE,
                    "the criterion '%s' cannot compare a batch with a memory: use one of: %s",
                    criterion->method.name, allowed);
}

enum dml_status dml_objective_remember(struct dml_objective *objective, size_t size) {
    if (objective->count)
        return dml_fail(DML_ERROR_USAGE, "a sum has no memory of its own: its criteria do");
    enum dml_status status = dml_reference_allowed(objective->criterion);
    if (!status && (size == 0 || size > INT32_MAX))
        status = dml_fail(DML_ERROR_USAGE, "a memory of %zu embeddings", size);
    struct dml_cross_batch_memory memory;
    if (!status)
        status = dml_cross_batch_memory_open(&memory, size, objective->dim);
    if (status)
        return status;
    dml_cross_batch_memory_close(&objective->memory);
    objective->memory = memory;
    return DML_OK;
}

static enum dml_status check_indices(const char *name, const char *role, const int32_t *indices,
                                     size_t count, size_t n) {
    if (count && !indices)
        return dml_fail(DML_ERROR_INPUT, "%s: the tuples have no %ss", name, role);
    for (size_t t = 0; t < count; t++)
        if (indices[t] < 0 || (size_t)indices[t] >= n)
            return dml_fail(DML_ERROR_INPUT, "%s: %s %d of tuple %zu is not in the batch of %zu",
                            name, role, indices[t], t, n);
    return DML_OK;
}

static enum dml_status check_lists(const char *name, const struct dml_tuples *tuples, size_t n) {
    const struct dml_pairs *pos = &tuples->positive_pairs, *neg = &tuples->negative_pairs;
    enum dml_status status = check_indices(name, "anchor", pos->anchors, pos->count, n);
    if (!status)
        status = check_indices(name, "positive", pos->others, pos->count, n);
    if (!status)
        status = check_indices(name, "anchor", neg->anchors, neg->count, n);
    if (!status)
        status = check_indices(name, "negative", neg->others, neg->count, n);
    return status;
}

static enum dml_status check_reference(const struct dml_objective *objective,
                                       const struct dml_batch *batch) {
    const struct dml_reference *reference = batch->reference;
    const char *name = objective->criterion->method.name;
    if (!reference)
        return DML_OK;
    if (objective->memory.size)
        return dml_fail(DML_ERROR_INPUT, "%s: a batch with a reference in addition to its memory",
                        name);
    enum dml_status status = dml_reference_allowed(objective->criterion);
    const struct dml_batch all = {.n = reference->n,
                                  .dim = batch->dim,
                                  .embeddings = reference->embeddings,
                                  .labels = reference->labels};
    if (!status)
        status = dml_batch_check(&all, objective->dim, objective->classes);
    if (status)
        return dml_fail_within(status, "%s, reference", name);
    for (size_t i = 0; reference->own && i < batch->n; i++)
        if (reference->own[i] < -1 || reference->own[i] >= (int64_t)reference->n)
            return dml_fail(DML_ERROR_INPUT, "%s: copy %d of sample %zu is not in the reference",
                            name, reference->own[i], i);
    return DML_OK;
}

static enum dml_status check_tuples(const struct dml_criterion *criterion,
                                    const struct dml_tuples *tuples, size_t n, bool reference) {
    const char *name = criterion->method.name;
    enum dml_tuple_kind kind = tuples ? tuples->kind : DML_TUPLES_NONE;
    if (reference && kind == DML_TUPLES_NONE)
        return DML_OK;
    if (reference)
        return dml_fail(DML_ERROR_INPUT,
                        "%s: tuples given with a reference, of which it takes all "
                        "pairs",
                        name);
    bool whole = criterion->takes == DML_TUPLES_NONE;
    if (kind != criterion->takes && !(whole && kind == criterion->may_take))
        return dml_fail(DML_ERROR_INPUT, "%s takes %s, not %s", name,
                        dml_tuple_kind_words(criterion->takes), dml_tuple_kind_words(kind));
    if (kind == DML_TUPLES_NONE)
        return DML_OK;
    if (kind == DML_TUPLES_LISTS)
        return check_lists(name, tuples, n);
    size_t count = tuples->count;
    enum dml_status status = check_indices(name, "anchor", tuples->anchors, count, n);
    if (!status && kind != DML_TUPLES_SETS)
        status = check_indices(name, "positive", tuples->positives, count, n);
    if (!status && kind == DML_TUPLES_TRIPLETS)
        status = check_indices(name, "negative", tuples->negatives, count, n);
    if (!status && kind == DML_TUPLES_TRIPLETS && tuples->fourth)
        status = check_indices(name, "fourth sample", tuples->fourth, count, n);
    return status;
}

enum dml_status dml_objective_check(const struct dml_objective *objective,
                                    const struct dml_batch *batch,
                                    const struct dml_tuples *tuples) {
    const struct dml_criterion *criterion = objective->criterion;
    enum dml_status status = dml_batch_check(batch, objective->dim, objective->classes);
    if (status)
        return dml_fail_within(status, "%s", criterion->method.name);
    const bool compares = batch->reference || objective->memory.size > 0;
    status = check_reference(objective, batch);
    return status ? status : check_tuples(criterion, tuples, batch->n, compares);
}

enum dml_status dml_objective_run(struct dml_objective *objective, const struct dml_batch *batch,
                                  const struct dml_tuples *tuples, struct dml_rng *rng, float *grad,
                                  struct dml_loss *loss) {
    struct dml_batch with_reference = *batch;
    struct dml_reference reference;
    if (objective->memory.size > 0) {
        enum dml_status status =
            dml_cross_batch_memory_store(&objective->memory, batch, &reference);
        if (status)
            return dml_fail_within(status, "%s", objective->criterion->method.name);
        with_reference.reference = &reference;
    }
    return objective->criterion->forward_backward(objective->state, &with_reference, tuples, rng,
                                                  grad, loss);
}

enum dml_status dml_objective_compute(struct dml_objective *objective,
                                      const struct dml_batch *batch,
                                      const struct dml_tuples *tuples, struct dml_rng *rng,
                                      float *grad, struct dml_loss *loss) {
    const struct dml_tuples *all[DML_OBJECTIVE_TERMS] = {tuples};
    return dml_objective_compute_sum(objective, batch, all, rng, grad, loss);
}

size_t dml_objective_own_parameters(struct dml_objective *objective,
                                    struct dml_criterion_parameter *out, size_t max) {
    return objective->criterion->parameters
               ? objective->criterion->parameters(objective->state, out, max)
               : 0;
}

size_t dml_objective_own_buffers(struct dml_objective *objective, struct dml_criterion_buffer *out,
                                 size_t max) {
    const struct dml_criterion *criterion = objective->criterion;
    size_t count = criterion->buffers ? criterion->buffers(objective->state, out, max) : 0;
    if (objective->memory.size > 0)
        count += dml_cross_batch_memory_buffers(&objective->memory, objective->classes, out + count,
                                                max - count);
    return count;
}
