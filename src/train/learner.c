#include "train/learner.h"

#include "math/descent.h"

#include <math.h>

enum dml_status dml_learner_open(const struct dml_params *params, struct dml_network *network,
                                 struct dml_objective *objective, uint64_t steps_per_epoch,
                                 struct dml_learner *out) {
    const struct dml_training_options *t = dml_params_options(params, &dml_training_params);
    const struct dml_method *optimiser = dml_method_find(DML_OPTIMISER, t->optim);
    *out = (struct dml_learner){.network = network,
                                .optimiser = (const struct dml_optimiser *)optimiser,
                                .options = dml_params_options(params, optimiser->params),
                                .flags = dml_params_options(params, &dml_step_params)};
    enum dml_status status =
        dml_criterion_optimiser_open(objective, out->optimiser->states, &out->criterion);
    if (!status)
        status = dml_groups_open(network->graph, &out->criterion, t,
                                 dml_params_options(params, &dml_group_params), steps_per_epoch,
                                 &out->groups);
    if (!status)
        status = dml_schedule_open(params, steps_per_epoch, &out->schedule);
    return status;
}

void dml_learner_close(struct dml_learner *learner) {
    dml_groups_close(&learner->groups);
    dml_criterion_optimiser_close(&learner->criterion);
}

static enum dml_status clip(struct dml_learner *l, const struct dml_spans *spans,
                            const struct dml_gradient_size *size, bool *clipped) {
    double scale =
        l->flags->clip_norm > 0 ? dml_gradient_scale(size->norm, l->flags->clip_norm) : 1;
    double limit = l->flags->clip_value > 0 ? l->flags->clip_value : INFINITY;
    *clipped = scale < 1 || size->max > limit;
    enum dml_status status =
        isfinite(limit) ? dml_criterion_optimiser_clip(&l->criterion, limit) : DML_OK;
    if (status)
        return status;
    return *clipped ? dml_network_clip(l->network, spans, scale, limit) : DML_OK;
}

/* The average starts as the weights before the first step, or as those after it. */
static enum dml_status average(struct dml_learner *l, uint64_t step) {
    bool copy = step == 0 && l->flags->ema_start == DML_AVERAGE_FROM_FIRST_STEP;
    return dml_network_average(l->network, copy ? 0 : l->flags->ema);
}

enum dml_status dml_learner_step(struct dml_learner *l, uint64_t step,
                                 struct dml_gradient_size *size, bool *clipped) {
    const struct dml_optimiser_step next = {.optimiser = l->optimiser,
                                            .options = l->options,
                                            .spans = dml_groups_spans(&l->groups, step),
                                            .updates = l->groups.updates};
    bool averaged = l->flags->ema > 0;
    *clipped = false;
    enum dml_status status = dml_network_gradient_size(l->network, &next.spans, size);
    if (!status && !isfinite(size->rms))
        status = dml_fail(DML_ERROR_NUMERIC, "the gradient is not finite");
    if (!status)
        status = clip(l, &next.spans, size, clipped);
    if (!status && averaged && step == 0)
        status = dml_network_average(l->network, 0);
    if (status)
        return status;
    dml_groups_update(&l->groups, &l->schedule, step);
    status = dml_network_step(l->network, &next);
    if (!status)
        status = dml_criterion_optimiser_step(&l->criterion, l->optimiser, l->options,
                                              l->groups.updates, l->groups.of_criterion);
    return !status && averaged ? average(l, step) : status;
}
