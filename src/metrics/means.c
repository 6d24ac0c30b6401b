/* Means over queries or classes, and their intervals. */
#include "metrics/means.h"

#include "base/memory.h"
#include "dml/rng.h"

#include <math.h>
#include <stdlib.h>

/* The values of the queries that count, class by class. */
struct values {
    size_t n, classes;
    double *value; /* (n) */
    size_t *start; /* (classes + 1) */
    size_t *class; /* (n) */
};

static void free_values(struct values *values) {
    free(values->value);
    free(values->start);
    free(values->class);
}

/* Ranks are ordered by class already. */
static enum dml_status collect(const struct dml_metric_inputs *in, const struct dml_ranks *ranks,
                               const struct dml_metric_request *request, struct values *out) {
    *out = (struct values){.value = dml_alloc(ranks->queries, sizeof *out->value),
                           .start = dml_alloc(ranks->queries + 1, sizeof *out->start),
                           .class = dml_alloc(ranks->queries, sizeof *out->class)};
    if (!out->value || !out->start || !out->class)
        return DML_ERROR_MEMORY;
    int32_t last = -1;
    for (size_t q = 0; q < ranks->queries; q++) {
        double value = request->metric->of_query(ranks, request->k, q);
        if (isnan(value))
            continue;
        int32_t class = in->class_of[ranks->query[q]];
        if (class != last)
            out->start[out->classes++] = out->n;
        last = class;
        out->class[out->n] = out->classes - 1;
        out->value[out->n++] = value;
    }
    out->start[out->classes] = out->n;
    return DML_OK;
}

static double sum_of_class(const struct values *values, size_t c) {
    double sum = 0;
    for (size_t i = values->start[c]; i < values->start[c + 1]; i++)
        sum += values->value[i];
    return sum;
}

static double size_of_class(const struct values *values, size_t c) {
    return (double)(values->start[c + 1] - values->start[c]);
}

static double mean_of(const struct values *values, bool over_classes) {
    double sum = 0;
    if (over_classes) {
        for (size_t c = 0; c < values->classes; c++)
            sum += sum_of_class(values, c) / size_of_class(values, c);
        return sum / (double)values->classes;
    }
    for (size_t i = 0; i < values->n; i++)
        sum += values->value[i];
    return sum / (double)values->n;
}

/* The mean of queries drawn anew; `sums` and `counts` (classes) are its own. */
static double draw_queries(const struct values *values, bool over_classes, struct dml_rng *rng,
                           double *sums, double *counts) {
    double sum = 0;
    size_t drawn = 0;
    for (size_t c = 0; over_classes && c < values->classes; c++)
        sums[c] = counts[c] = 0;
    for (size_t i = 0; i < values->n; i++) {
        size_t q = dml_rng_below(rng, values->n);
        sum += values->value[q];
        if (over_classes) {
            sums[values->class[q]] += values->value[q];
            counts[values->class[q]]++;
        }
    }
    if (!over_classes)
        return sum / (double)values->n;
    sum = 0;
    for (size_t c = 0; c < values->classes; c++)
        if (counts[c] > 0) {
            sum += sums[c] / counts[c];
            drawn++;
        }
    return sum / (double)drawn;
}

/* The mean of classes drawn anew, with all their queries; `sums` holds each class's. */
static double draw_classes(const struct values *values, bool over_classes, struct dml_rng *rng,
                           const double *sums) {
    double sum = 0, count = 0;
    for (size_t i = 0; i < values->classes; i++) {
        size_t c = dml_rng_below(rng, values->classes);
        double size = size_of_class(values, c);
        sum += over_classes ? sums[c] / size : sums[c];
        count += over_classes ? 1 : size;
    }
    return sum / count;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Linear between order statistics. */
static double quantile(const double *sorted, size_t n, double share) {
    double at = share * (double)(n - 1);
    size_t low = (size_t)at, high = low + 1 < n ? low + 1 : low;
    return sorted[low] + (sorted[high] - sorted[low]) * (at - (double)low);
}

static enum dml_status bootstrap(const struct values *values, bool over_classes, bool classes,
                                 const struct dml_evaluation_options *options,
                                 struct dml_metric_value *out) {
    enum { PURPOSE_INDEX = 0xC1 };
    size_t resamples = options->resamples ? options->resamples : 1000;
    double level = options->level > 0 ? options->level : 0.95;
    double *means = dml_alloc(resamples, sizeof *means);
    double *class_sums = dml_alloc(values->classes, sizeof *class_sums);
    bool failed = !means || !class_sums;
    for (size_t c = 0; !failed && c < values->classes; c++)
        class_sums[c] = sum_of_class(values, c);
#pragma omp parallel if (!failed)
    {
        double *sums = dml_alloc(2 * values->classes, sizeof *sums);
#pragma omp for schedule(static)
        for (size_t b = 0; b < resamples; b++) {
            struct dml_rng rng = dml_rng_make(options->seed, DML_PURPOSE_OTHER, PURPOSE_INDEX, b);
            if (sums && !failed)
                means[b] = classes ? draw_classes(values, over_classes, &rng, class_sums)
                                   : draw_queries(values, over_classes, &rng, sums,
                                                  sums + values->classes);
        }
        if (!sums)
#pragma omp atomic write
            failed = true;
        free(sums);
    }
    if (!failed) {
        qsort(means, resamples, sizeof *means, ascending);
        out->low = quantile(means, resamples, (1 - level) / 2);
        out->high = quantile(means, resamples, (1 + level) / 2);
    }
    free(means);
    free(class_sums);
    return failed ? DML_ERROR_MEMORY : DML_OK;
}

enum dml_status dml_metric_mean(const struct dml_prepared *prepared,
                                const struct dml_metric_request *request,
                                struct dml_metric_value *out) {
    const struct dml_metric_inputs *in = &prepared->inputs;
    const struct dml_evaluation_options *options = prepared->options;
    const struct dml_metric *metric = request->metric;
    bool cosine = metric->needs & DML_NEEDS_RANKS_COSINE, classes = metric->over_classes;
    const struct dml_ranks *ranks = cosine ? in->cosine.ranks : in->euclidean.ranks;
    struct values values = {0};
    enum dml_status status = collect(in, ranks, request, &values);
    out->value = NAN;
    if (!status && values.n > 0) {
        out->value = mean_of(&values, classes);
        bool asked = options && options->interval, sampled = in->queries < prepared->population;
        if (asked || sampled)
            status = bootstrap(&values, classes, asked && options->interval == DML_INTERVAL_CLASSES,
                               options, out);
        if (!status && sampled && !asked) {
            double shrink = sqrt(1 - (double)in->queries / (double)prepared->population);
            out->low = out->value - (out->value - out->low) * shrink;
            out->high = out->value + (out->high - out->value) * shrink;
        }
    }
    free_values(&values);
    return status;
}
