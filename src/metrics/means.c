/* Means over queries or classes, and their intervals. */
#include "metrics/means.h"

#include "base/memory.h"
#include "dml/rng.h"

#include <math.h>
#include <stdlib.h>

/* The values of the queries that count, class by class. Their mean is that of value / weight,
 * weighted. */
struct values {
    size_t n, classes;
    double *value;  /* (n) */
    double *weight; /* (n), above 0; NULL: 1 each */
    size_t *start;  /* (classes + 1) */
    size_t *class;  /* (n) */
};

static void free_values(struct values *values) {
    free(values->value);
    free(values->weight);
    free(values->start);
    free(values->class);
}

/* The next query, of class `class` of the set. */
static void add(struct values *values, int32_t *last, int32_t class, double value) {
    if (class != *last)
        values->start[values->classes++] = values->n;
    *last = class;
    values->class[values->n] = values->classes - 1;
    values->value[values->n++] = value;
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
        if (!isnan(value))
            add(out, &last, in->class_of[ranks->query[q]], value);
    }
    out->start[out->classes] = out->n;
    return DML_OK;
}

/* For a ratio: the queries that have something to count. */
static enum dml_status collect_ratio(const struct dml_metric_inputs *in,
                                     const struct dml_metric_request *request, struct values *out) {
    size_t n = in->set->n;
    double *counted = dml_alloc(n, sizeof *counted), *of = dml_alloc(n, sizeof *of);
    *out = (struct values){.value = dml_alloc(n, sizeof *out->value),
                           .weight = dml_alloc(n, sizeof *out->weight),
                           .start = dml_alloc(n + 1, sizeof *out->start),
                           .class = dml_alloc(n, sizeof *out->class)};
    enum dml_status status = DML_ERROR_MEMORY;
    if (counted && of && out->value && out->weight && out->start && out->class)
        status = request->metric->ratio_at(in, request->at, counted, of);
    int32_t last = -1;
    for (size_t r = 0; !status && r < n; r++) {
        uint32_t i = in->by_class[r];
        if (of[i] > 0) {
            out->weight[out->n] = of[i];
            add(out, &last, in->class_of[i], counted[i]);
        }
    }
    if (!status)
        out->start[out->classes] = out->n;
    free(counted);
    free(of);
    return status;
}

static double sum_of_class(const struct values *values, size_t c) {
    double sum = 0;
    for (size_t i = values->start[c]; i < values->start[c + 1]; i++)
        sum += values->value[i];
    return sum;
}

static double weight_of(const struct values *values, size_t i) {
    return values->weight ? values->weight[i] : 1;
}

static double size_of_class(const struct values *values, size_t c) {
    double size = 0;
    for (size_t i = values->start[c]; i < values->start[c + 1]; i++)
        size += weight_of(values, i);
    return size;
}

static double mean_of(const struct values *values, bool over_classes) {
    double sum = 0;
    if (over_classes) {
        for (size_t c = 0; c < values->classes; c++)
            sum += sum_of_class(values, c) / size_of_class(values, c);
        return sum / (double)values->classes;
    }
    double weights = 0;
    for (size_t i = 0; i < values->n; i++) {
        sum += values->value[i];
        weights += weight_of(values, i);
    }
    return sum / weights;
}

/* The mean of resampled queries; `sums` and `counts` (classes) are its workspace. */
static double draw_queries(const struct values *values, bool over_classes, struct dml_rng *rng,
                           double *sums, double *counts) {
    double sum = 0, weights = 0;
    size_t drawn = 0;
    for (size_t c = 0; over_classes && c < values->classes; c++)
        sums[c] = counts[c] = 0;
    for (size_t i = 0; i < values->n; i++) {
        size_t q = dml_rng_below(rng, values->n);
        sum += values->value[q];
        weights += weight_of(values, q);
        if (over_classes) {
            sums[values->class[q]] += values->value[q];
            counts[values->class[q]]++;
        }
    }
    if (!over_classes)
        return sum / weights;
    sum = 0;
    for (size_t c = 0; c < values->classes; c++)
        if (counts[c] > 0) {
            sum += sums[c] / counts[c];
            drawn++;
        }
    return sum / (double)drawn;
}

/* The mean of resampled classes, with all their queries; `sums` and `sizes` hold each class's. */
static double draw_classes(const struct values *values, bool over_classes, struct dml_rng *rng,
                           const double *sums, const double *sizes) {
    double sum = 0, count = 0;
    for (size_t i = 0; i < values->classes; i++) {
        size_t c = dml_rng_below(rng, values->classes);
        sum += over_classes ? sums[c] / sizes[c] : sums[c];
        count += over_classes ? 1 : sizes[c];
    }
    return sum / count;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Interpolates linearly between order statistics. */
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
    double *class_sums = dml_alloc(2 * values->classes, sizeof *class_sums);
    double *sizes = class_sums + values->classes;
    bool failed = !means || !class_sums;
    for (size_t c = 0; !failed && c < values->classes; c++) {
        class_sums[c] = sum_of_class(values, c);
        sizes[c] = size_of_class(values, c);
    }
#pragma omp parallel if (!failed)
    {
        double *sums = dml_alloc(2 * values->classes, sizeof *sums);
#pragma omp for schedule(static)
        for (size_t b = 0; b < resamples; b++) {
            struct dml_rng rng = dml_rng_make(options->seed, DML_PURPOSE_OTHER, PURPOSE_INDEX, b);
            if (sums && !failed)
                means[b] = classes ? draw_classes(values, over_classes, &rng, class_sums, sizes)
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
    enum dml_status status = metric->ratio_at ? collect_ratio(in, request, &values)
                                              : collect(in, ranks, request, &values);
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
