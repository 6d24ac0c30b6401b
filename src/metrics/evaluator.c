#include "metrics/evaluator.h"

#include "base/memory.h"
#include "metrics/defaults.h"
#include "metrics/means.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const dml_default_metrics[] = {DML_DEFAULT_METRICS(DML_COMMA), NULL};

/* Whether the number of a family is a share. */
static bool takes_share(const struct dml_metric *metric) {
    return metric->compute_at || metric->ratio_at;
}

enum dml_status dml_metric_resolve(const char *name, struct dml_metric_request *out) {
    *out = (struct dml_metric_request){.name = name};
    if (strlen(name) >= sizeof((struct dml_metric_value *)0)->name)
        return dml_fail(DML_ERROR_USAGE, "metric '%.60s...': the name is too long", name);
    const char *at = strchr(name, '@');
    const struct dml_method *method = dml_method_find(DML_METRIC, name);
    if (method && !(at && at[1] == 0)) {
        out->metric = (const struct dml_metric *)method;
        return DML_OK;
    }
    char family[64];
    snprintf(family, sizeof family, "%.*s@", at ? (int)(at - name) : (int)strlen(name), name);
    method = dml_method_find(DML_METRIC, family);
    if (!method)
        return dml_method_unknown(DML_METRIC, name);
    if (!at || at[1] == 0)
        return dml_fail(DML_ERROR_USAGE, "metric '%s': needs a number, as in %s%s", name, family,
                        takes_share((const struct dml_metric *)method) ? "0.1" : "1");
    out->metric = (const struct dml_metric *)method;
    char *end;
    errno = 0;
    if (takes_share(out->metric)) {
        out->at = strtod(at + 1, &end);
        if (errno || *end || strspn(at + 1, "0123456789.eE-") != strlen(at + 1))
            return dml_fail(DML_ERROR_USAGE, "metric '%s': '%s' is not a number", name, at + 1);
        if (!(out->at > 0 && out->at < 1))
            return dml_fail(DML_ERROR_USAGE, "metric '%s': the number must be between 0 and 1",
                            name);
        return DML_OK;
    }
    out->k = strtol(at + 1, &end, 10);
    if (errno || *end || at[1] == ' ' || at[1] == '+')
        return dml_fail(DML_ERROR_USAGE, "metric '%s': '%s' is not a number", name, at + 1);
    if (out->k < out->metric->least_k)
        return dml_fail(DML_ERROR_USAGE, "metric '%s': the number must be at least %ld", name,
                        out->metric->least_k);
    return DML_OK;
}

enum dml_status dml_metrics_check(const char *const *names, size_t count) {
    struct dml_metric_request request;
    enum dml_status status = DML_OK;
    for (size_t i = 0; i < count && !status; i++)
        status = dml_metric_resolve(names[i], &request);
    return status;
}

enum dml_metric_order dml_metric_order_of(const char *name) {
    struct dml_metric_request request;
    return dml_metric_resolve(name, &request) == DML_OK ? request.metric->order
                                                        : DML_METRIC_UNORDERED;
}

bool dml_metric_better(enum dml_metric_order order, double value, double best) {
    if (!isfinite(value))
        return false;
    return isnan(best) || (order == DML_METRIC_LARGER ? value > best : value < best);
}

static void tell(struct dml_prepared *prepared, double done, double span, const char *what) {
    prepared->done = done;
    prepared->span = span;
    prepared->what = what;
    if (prepared->options && prepared->options->progress)
        prepared->options->progress(prepared->options->data, done, what);
}

static enum dml_status prepare(struct dml_prepared *prepared,
                               const struct dml_metric_request *requests, size_t count) {
    unsigned needs = 0;
    for (size_t i = 0; i < count; i++)
        needs |= requests[i].metric->needs;
    const unsigned cosine = DML_NEEDS_RANKS_COSINE | DML_NEEDS_CLUSTERS_COSINE;
    const unsigned euclidean = DML_NEEDS_RANKS_EUCLIDEAN | DML_NEEDS_CLUSTERS_EUCLIDEAN;
    if (needs & cosine)
        needs |= DML_NEEDS_INVERSE_NORMS;
    tell(prepared, 0, 0.05, "statistics");
    enum dml_status status = dml_prepare_statistics(prepared, needs);
    bool both = (needs & cosine) && (needs & euclidean);
    if (!status && (needs & euclidean)) {
        tell(prepared, 0.05, both ? 0.475 : 0.95, "Euclidean distances");
        status = dml_prepare_space(prepared, false, requests, count);
    }
    if (!status && (needs & cosine)) {
        tell(prepared, both ? 0.525 : 0.05, both ? 0.475 : 0.95, "cosine distances");
        status = dml_prepare_space(prepared, true, requests, count);
    }
    return status;
}

/* Checks what can be checked before anything is computed. */
static enum dml_status start(const struct dml_evaluation_set *set, const char *const *names,
                             size_t count, struct dml_prepared *prepared,
                             struct dml_metric_request *requests) {
    enum dml_status status = DML_OK;
    for (size_t i = 0; i < count && !status; i++)
        status = dml_metric_resolve(names[i], &requests[i]);
    if (!status)
        status = dml_prepare_classes(set, prepared);
    for (size_t i = 0; i < count && !status; i++)
        if (requests[i].metric->check)
            status = requests[i].metric->check(&prepared->inputs, requests[i].k);
    return status;
}

enum dml_status dml_metrics_check_set(const struct dml_evaluation_set *set,
                                      const char *const *names, size_t count) {
    struct dml_prepared prepared = {0};
    struct dml_metric_request *requests = dml_alloc(count, sizeof *requests);
    enum dml_status status =
        requests ? start(set, names, count, &prepared, requests) : DML_ERROR_MEMORY;
    dml_prepared_free(&prepared);
    free(requests);
    return status;
}

static enum dml_status compute(const struct dml_prepared *prepared,
                               const struct dml_metric_request *request,
                               struct dml_metric_value *out) {
    const struct dml_metric *metric = request->metric;
    out->low = out->high = NAN;
    if (metric->of_query || metric->ratio_at)
        return dml_metric_mean(prepared, request, out);
    if (metric->compute_at)
        return metric->compute_at(&prepared->inputs, request->at, out);
    return metric->compute(&prepared->inputs, request->k, out);
}

/* Per-query scores look at all ranks of the spaces that the metrics ask for. */
static const struct dml_metric all_euclidean = {.needs = DML_NEEDS_RANKS_EUCLIDEAN};
static const struct dml_metric all_cosine = {.needs = DML_NEEDS_RANKS_COSINE};

static size_t add_scores(struct dml_metric_request *requests, size_t count) {
    unsigned needs = 0;
    for (size_t i = 0; i < count; i++)
        needs |= requests[i].metric->needs;
    size_t more = count;
    if ((needs & DML_NEEDS_RANKS_EUCLIDEAN) || !(needs & DML_NEEDS_RANKS_COSINE))
        requests[more++].metric = &all_euclidean;
    if (needs & DML_NEEDS_RANKS_COSINE)
        requests[more++].metric = &all_cosine;
    return more;
}

static enum dml_status give_more(const struct dml_prepared *prepared,
                                 const struct dml_evaluation_options *options) {
    if (options && options->counts)
        *options->counts = (struct dml_query_counts){prepared->inputs.queries, prepared->population,
                                                     prepared->lone, prepared->first_lone};
    if (options && options->per_query)
        return dml_per_query_fill(prepared, options->per_query);
    return DML_OK;
}

enum dml_status dml_evaluate(const struct dml_evaluation_set *set, const char *const *names,
                             size_t count, const struct dml_evaluation_options *options,
                             struct dml_metric_value *out) {
    struct dml_prepared prepared = {.options = options};
    struct dml_metric_request *requests = dml_alloc(count + 2, sizeof *requests);
    enum dml_status status = requests ? DML_OK : DML_ERROR_MEMORY;
    if (count)
        memset(out, 0, count * sizeof *out);
    if (!status)
        status = start(set, names, count, &prepared, requests);
    size_t all = count;
    if (!status && options && options->per_query)
        all = add_scores(requests, count);
    if (!status)
        status = prepare(&prepared, requests, all);
    for (size_t i = 0; i < count && !status; i++) {
        strcpy(out[i].name, names[i]);
        status = compute(&prepared, &requests[i], &out[i]);
        if (status)
            dml_fail_within(status, "%s", names[i]);
    }
    if (!status)
        status = give_more(&prepared, options);
    if (!status)
        tell(&prepared, 1, 0, "done");
    if (status)
        dml_metric_values_free(out, count);
    dml_prepared_free(&prepared);
    free(requests);
    return status;
}

void dml_metric_values_free(struct dml_metric_value *values, size_t count) {
    for (size_t i = 0; i < count; i++) {
        free(values[i].vector);
        values[i].vector = NULL;
        values[i].vector_count = 0;
    }
}

void dml_prepared_free(struct dml_prepared *prepared) {
    struct dml_prepared_space *spaces[] = {&prepared->euclidean, &prepared->cosine};
    for (int s = 0; s < 2; s++) {
        free(spaces[s]->query);
        free(spaces[s]->positives);
        free(spaces[s]->rank);
        free(spaces[s]->start);
        free(spaces[s]->assigned);
    }
    free(prepared->class_of);
    free(prepared->class_start);
    free(prepared->by_class);
    free(prepared->asked);
    free(prepared->inverse_norms);
    free(prepared->query_inverse_norms);
    free(prepared->normalised);
    free(prepared->class_means);
    free(prepared->singular);
}
