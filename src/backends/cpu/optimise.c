#include "backends/cpu/params.h"
#include "math/descent.h"

#include "backends/cpu/align.h"
#include <math.h>

/* What happens to parameters and gradients between a backward and a forward pass. */

/* A part of the arrays of learnable parameters, padding included. */
struct range {
    size_t start, end;
};

/* The range of a span's learnable parameters, which lie side by side. */
static struct range range_of(const struct cpu_params *params, const struct dml_span *span) {
    struct range range = {0, 0};
    for (int i = span->first; i < span->end; i++) {
        const struct cpu_param *item = &params->items[i];
        if (!item->learnable)
            continue;
        if (range.end == 0)
            range.start = item->offset;
        range.end = item->offset + cpu_aligned_floats(item->count);
    }
    return range;
}

/* The next run of spans that lie side by side, from *at on; NULL spans: everything. */
static bool next_range(const struct cpu_params *params, const struct dml_spans *spans, size_t *at,
                       struct range *out) {
    size_t count = spans ? spans->count : 1;
    if (*at >= count)
        return false;
    *out = spans ? range_of(params, &spans->items[*at]) : (struct range){0, params->learnable};
    for (++*at; *at < count; ++*at) {
        struct range next = range_of(params, &spans->items[*at]);
        if (next.end && out->end && next.start != out->end)
            break;
        if (next.end)
            *out = (struct range){out->end ? out->start : next.start, next.end};
    }
    return true;
}

enum dml_status cpu_params_step(struct cpu_params *params, const struct dml_optimiser_step *step) {
    const struct dml_optimiser *optimiser = step->optimiser;
    enum dml_status status = cpu_params_states(params, optimiser->states);
    if (status)
        return status;
    params->prepared = CPU_PREPARED_NOT;
    for (size_t s = 0; s < step->spans.count; s++) {
        const struct dml_span *span = &step->spans.items[s];
        struct range range = range_of(params, span);
        float *states[DML_OPTIMISER_STATES] = {NULL};
        for (size_t i = 0; i < optimiser->states; i++)
            states[i] = params->states[i] + range.start;
        optimiser->update(step->options, &step->updates[span->group], params->values + range.start,
                          params->grads + range.start, states, range.end - range.start);
    }
    return DML_OK;
}

/* Gradients in these spans, without padding. */
static size_t element_count(const struct cpu_params *params, const struct dml_spans *spans) {
    const struct dml_span whole = {0, params->graph->param_count, 0};
    const struct dml_spans all = {&whole, 1};
    size_t count = 0;
    spans = spans ? spans : &all;
    for (size_t s = 0; s < spans->count; s++)
        for (int i = spans->items[s].first; i < spans->items[s].end; i++)
            count += params->items[i].learnable ? params->graph->params[i].count : 0;
    return count;
}

struct dml_gradient_size cpu_params_gradient_size(const struct cpu_params *params,
                                                  const struct dml_spans *spans) {
    double squares = 0, largest = 0;
    struct range range;
    for (size_t at = 0; next_range(params, spans, &at, &range);)
        dml_gradient_measure(params->grads + range.start, range.end - range.start, &squares,
                             &largest);
    size_t elements = element_count(params, spans);
    return (struct dml_gradient_size){
        .rms = sqrt(squares / (double)(elements ? elements : 1)),
        .norm = sqrt(squares),
        .max = isfinite(squares) ? largest : squares}; /* a comparison drops NaN, a sum keeps it */
}

void cpu_params_clip(struct cpu_params *params, const struct dml_spans *spans, double scale,
                     double limit) {
    struct range range;
    for (size_t at = 0; next_range(params, spans, &at, &range);)
        dml_gradient_clip(params->grads + range.start, range.end - range.start, scale, limit);
}

enum dml_status cpu_params_average(struct cpu_params *params, double decay) {
    enum dml_status status = cpu_params_averages(params);
    if (!status)
        dml_moving_average(params->average, params->values, params->total, decay);
    return status;
}

enum dml_status cpu_params_exchange(struct cpu_params *params) {
    enum dml_status status = cpu_params_averages(params);
    if (status)
        return status;
    float *values = params->values;
    params->values = params->average;
    params->average = values;
    params->prepared = CPU_PREPARED_NOT;
    return DML_OK;
}
