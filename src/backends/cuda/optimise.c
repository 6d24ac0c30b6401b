#include "backends/cuda/params.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What happens to parameters and gradients between a backward and a forward pass. */

/* A part of the arrays of learnable parameters. */
struct range {
    size_t start, end;
};

/* The range of a span's learnable parameters, which lie side by side. */
static struct range range_of(const struct cuda_params *params, const struct dml_span *span) {
    struct range range = {0, 0};
    for (int i = span->first; i < span->end; i++) {
        const struct cuda_param *item = &params->items[i];
        if (!item->learnable)
            continue;
        if (range.end == 0)
            range.start = item->offset;
        range.end = item->offset + item->count;
    }
    return range;
}

/* An option of the optimiser by its name; `fallback` where it has none. */
static double option(const struct dml_optimiser *optimiser, const void *options, const char *name,
                     double fallback) {
    const struct dml_param_table *table = optimiser->method.params;
    for (size_t i = 0; table && i < table->count; i++) {
        const struct dml_param *param = &table->params[i];
        const char *at = (const char *)options + param->offset;
        if (strcmp(param->name, name) != 0)
            continue;
        return param->type == DML_PARAM_FLAG ? *(const bool *)at : *(const double *)at;
    }
    return fallback;
}

/* The kernel's settings for one of dml's own optimisers; false for another. Bias corrections are
 * taken in float64, as in the optimisers' own files. */
static bool describe(const struct dml_optimiser *optimiser, const void *options,
                     const struct dml_update *update, struct cuda_update *out) {
    const char *name = optimiser->method.name;
    const struct dml_method *own = dml_method_find(DML_OPTIMISER, name);
    *out = (struct cuda_update){.decay = (float)update->decay, .rate = (float)update->lr};
    if (own != &optimiser->method)
        return false;
    if (strcmp(name, "adam") == 0 || strcmp(name, "adamw") == 0) {
        double beta1 = isnan(update->momentum) ? option(optimiser, options, "adam_beta1", 0.9)
                                               : update->momentum;
        double beta2 = option(optimiser, options, "adam_beta2", 0.999);
        out->kind = CUDA_ADAM;
        out->beta1 = (float)beta1;
        out->beta2 = (float)beta2;
        out->fresh1 = (float)(1.0 - beta1);
        out->fresh2 = (float)(1.0 - beta2);
        out->epsilon = (float)option(optimiser, options, "adam_epsilon", 1e-8);
        out->rate = (float)(update->lr / (1.0 - pow(beta1, (double)update->step)));
        out->root = (float)(1.0 / sqrt(1.0 - pow(beta2, (double)update->step)));
        if (name[4] == 'w') {
            out->decay = 0;
            out->shrink = (float)(update->lr * update->decay);
        }
        return true;
    }
    if (strcmp(name, "sgd") == 0) {
        bool nesterov = option(optimiser, options, "sgd_nesterov", 0) != 0;
        out->kind = nesterov ? CUDA_SGD_NESTEROV : CUDA_SGD;
        out->momentum =
            (float)(isnan(update->momentum) ? option(optimiser, options, "sgd_momentum", 0.9)
                                            : update->momentum);
        return true;
    }
    if (strcmp(name, "rmsprop") == 0) {
        double alpha = option(optimiser, options, "rmsprop_alpha", 0.99);
        out->momentum =
            (float)(isnan(update->momentum) ? option(optimiser, options, "rmsprop_momentum", 0)
                                            : update->momentum);
        out->kind = out->momentum != 0 ? CUDA_RMSPROP_MOMENTUM : CUDA_RMSPROP;
        out->beta2 = (float)alpha;
        out->fresh2 = (float)(1.0 - alpha);
        out->epsilon = (float)option(optimiser, options, "rmsprop_epsilon", 1e-8);
        return true;
    }
    return false;
}

/* An optimiser without a kernel, such as a plugin's, runs on the host. */
static enum dml_status update_on_host(const struct cuda_on *on,
                                      const struct dml_optimiser *optimiser, const void *options,
                                      const struct dml_update *update,
                                      const struct cuda_arrays *arrays, size_t n) {
    size_t bytes = n * sizeof(float), states = optimiser->states;
    float *memory = dml_alloc((2 + states) * n, sizeof *memory);
    float *host[DML_OPTIMISER_STATES] = {NULL};
    if (!memory)
        return DML_ERROR_MEMORY;
    on->api->download(on->device, memory, arrays->values, bytes);
    on->api->download(on->device, memory + n, arrays->grads, bytes);
    for (size_t i = 0; i < states; i++) {
        host[i] = memory + (2 + i) * n;
        on->api->download(on->device, host[i], arrays->states[i], bytes);
    }
    enum dml_status status = cuda_finish(on);
    if (!status) {
        optimiser->update(options, update, memory, memory + n, host, n);
        on->api->upload(on->device, arrays->values, memory, bytes);
        for (size_t i = 0; i < states; i++)
            on->api->upload(on->device, arrays->states[i], host[i], bytes);
    }
    free(memory);
    return status;
}

enum dml_status cuda_update_arrays(const struct cuda_on *on, const struct dml_optimiser *optimiser,
                                   const void *options, const struct dml_update *update,
                                   const struct cuda_arrays *arrays, size_t n) {
    struct cuda_update described;
    if (!describe(optimiser, options, update, &described))
        return update_on_host(on, optimiser, options, update, arrays, n);
    on->kernels->update(on->stream, &described, n, arrays->values, arrays->grads, arrays->states[0],
                        arrays->states[1]);
    return DML_OK;
}

enum dml_status cuda_params_step(struct cuda_params *params,
                                 const struct dml_optimiser_step *step) {
    enum dml_status status = cuda_params_states(params, step->optimiser->states);
    params->ready = CUDA_STALE;
    for (size_t s = 0; !status && s < step->spans.count; s++) {
        const struct dml_span *span = &step->spans.items[s];
        struct range range = range_of(params, span);
        struct cuda_arrays arrays = {
            params->values + range.start, params->grads + range.start, {0}};
        for (int i = 0; i < DML_OPTIMISER_STATES; i++)
            arrays.states[i] = params->states[i] ? params->states[i] + range.start : NULL;
        if (range.end)
            status =
                cuda_update_arrays(params->on, step->optimiser, step->options,
                                   &step->updates[span->group], &arrays, range.end - range.start);
    }
    return status ? status : cuda_finish(params->on);
}

/* Gradients in these spans, without padding. */
static size_t element_count(const struct cuda_params *params, const struct dml_spans *spans) {
    size_t count = 0;
    for (size_t s = 0; s < spans->count; s++)
        for (int i = spans->items[s].first; i < spans->items[s].end; i++)
            count += params->items[i].learnable ? params->graph->params[i].count : 0;
    return count;
}

enum dml_status cuda_params_gradient_size(struct cuda_params *params, const struct dml_spans *spans,
                                          struct dml_gradient_size *size) {
    const struct cuda_on *on = params->on;
    const struct dml_span whole = {0, params->graph->param_count, 0};
    const struct dml_spans all = {&whole, 1};
    double measured[2] = {0, 0};
    spans = spans ? spans : &all;
    on->api->zero(on->device, params->measure, sizeof measured);
    for (size_t s = 0; s < spans->count; s++) {
        struct range range = range_of(params, &spans->items[s]);
        if (range.end)
            on->kernels->measure(on->stream, range.end - range.start, params->grads + range.start,
                                 params->measure + 2, params->measure);
    }
    on->api->download(on->device, measured, params->measure, sizeof measured);
    enum dml_status status = cuda_finish(on);
    size_t elements = element_count(params, spans);
    if (!status)
        *size =
            (struct dml_gradient_size){.rms = sqrt(measured[0] / (double)(elements ? elements : 1)),
                                       .norm = sqrt(measured[0]),
                                       .max = isfinite(measured[0]) ? measured[1] : measured[0]};
    return status;
}

enum dml_status cuda_params_clip(struct cuda_params *params, const struct dml_spans *spans,
                                 double scale, double limit) {
    const struct cuda_on *on = params->on;
    const struct dml_span whole = {0, params->graph->param_count, 0};
    const struct dml_spans all = {&whole, 1};
    spans = spans ? spans : &all;
    for (size_t s = 0; s < spans->count; s++) {
        struct range range = range_of(params, &spans->items[s]);
        if (range.end)
            on->kernels->clip(on->stream, range.end - range.start, (float)scale, (float)limit,
                              params->grads + range.start);
    }
    return cuda_finish(on);
}

enum dml_status cuda_params_average(struct cuda_params *params, double decay) {
    const struct cuda_on *on = params->on;
    enum dml_status status = cuda_params_averages(params);
    if (status)
        return status;
    if (decay == 0)
        on->api->copy(on->device, params->average, params->values, params->total * sizeof(float));
    else
        on->kernels->average(on->stream, params->total, (float)(1.0 - decay), params->values,
                             params->average);
    return cuda_finish(on);
}

enum dml_status cuda_params_exchange(struct cuda_params *params) {
    enum dml_status status = cuda_params_averages(params);
    if (status)
        return status;
    float *values = params->values;
    params->values = params->average;
    params->average = values;
    params->ready = CUDA_STALE;
    return cuda_finish(params->on);
}
