#include "toy/lines.h"

#include "base/memory.h"
#include "dml/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FIELD(member) offsetof(struct dml_toy_options, member)
static const struct dml_param parameters[] = {
    {.name = "seed",
     .type = DML_PARAM_INT,
     .offset = FIELD(seed),
     .fallback = "1",
     .min = 0,
     .max = 1e15,
     .help = "Seed of data, weights and batches."},
    {.name = "iterations",
     .type = DML_PARAM_INT,
     .offset = FIELD(iterations),
     .fallback = "200",
     .min = 1,
     .max = 1e6,
     .help = "Training steps."},
    {.name = "bs",
     .type = DML_PARAM_INT,
     .offset = FIELD(batch),
     .fallback = "24",
     .min = 4,
     .max = DML_TOY_ALL,
     .help = "Points in a batch."},
    {.name = "lr",
     .type = DML_PARAM_FLOAT,
     .offset = FIELD(lr),
     .fallback = "0.03",
     .min = 0,
     .max = 10,
     .above_min = true,
     .help = "Learning rate of Adam."},
    {.name = "neg_margin",
     .type = DML_PARAM_FLOAT,
     .offset = FIELD(margin),
     .fallback = "0.1",
     .min = 0,
     .max = 2,
     .help = "Distance beyond which negatives do not count."},
    {.name = "swap",
     .type = DML_PARAM_FLOAT,
     .offset = FIELD(swap),
     .fallback = "0.001",
     .min = 0,
     .max = 1,
     .help = "Probability that a positive takes a negative's place in the regularised run."},
    {.name = "output",
     .type = DML_PARAM_STRING,
     .offset = FIELD(output),
     .fallback = "toy",
     .help = "Folder for the figure, its script and its data."},
    {.name = "figure_formats",
     .type = DML_PARAM_STRINGS,
     .offset = FIELD(figure_formats),
     .fallback = "svg",
     .help = "Formats of the figure: svg, pdf, png."},
};
const struct dml_param_table dml_toy_params =
    DML_PARAM_TABLE("Toy experiment", struct dml_toy_options, parameters);

/* 15 of 100 equally spaced points of a segment. */
static void segment(double (*out)[2], double x0, double y0, double x1, double y1,
                    struct dml_rng *rng) {
    uint64_t chosen[DML_TOY_POINTS];
    dml_rng_distinct(rng, 100, DML_TOY_POINTS, chosen);
    for (int i = 0; i < DML_TOY_POINTS; i++) {
        double t = (double)chosen[i] / 99;
        out[i][0] = x0 + (x1 - x0) * t;
        out[i][1] = y0 + (y1 - y0) * t;
    }
}

void dml_toy_make_data(struct dml_toy_data *data, uint64_t seed) {
    static const double tests[DML_TOY_CLASSES][4] = {
        {0.2, 0.2, 0.2, 0.4}, {0.2, 0.55, 0.2, 0.85}, {0.4, 0.2, 0.6, 0.2}, {0.7, 0.2, 0.9, 0.2}};
    struct dml_rng rng = dml_rng_make(seed, DML_PURPOSE_OTHER, 0, 0);
    for (int c = 0; c < DML_TOY_CLASSES; c++) {
        double from = 0.1 + 0.25 * c;
        segment(data->train + c * DML_TOY_POINTS, from, from, from + 0.2, from + 0.2, &rng);
        segment(data->test + c * DML_TOY_POINTS, tests[c][0], tests[c][1], tests[c][2], tests[c][3],
                &rng);
        for (int i = 0; i < DML_TOY_POINTS; i++)
            data->labels[c * DML_TOY_POINTS + i] = c;
    }
}

size_t dml_toy_triplets(const int *labels, size_t n) {
    size_t count = 0;
    for (size_t a = 0; a < n; a++) {
        size_t same = 0;
        for (size_t i = 0; i < n; i++)
            same += labels[i] == labels[a];
        count += (same - 1) * (n - same);
    }
    return count;
}

/* Adds weight * ||a - b|| to the gradient and returns the distance. As in PyTorch's pairwise
 * distance, 1e-6 is added to every component. */
static double distance(const double (*e)[2], size_t a, size_t b, double weight, double (*grad)[2]) {
    double dx = e[a][0] - e[b][0] + 1e-6, dy = e[a][1] - e[b][1] + 1e-6, d = hypot(dx, dy);
    grad[a][0] += weight * dx / d;
    grad[a][1] += weight * dy / d;
    grad[b][0] -= weight * dx / d;
    grad[b][1] -= weight * dy / d;
    return d;
}

static double hinge(const double (*e)[2], size_t a, size_t n, double margin, double weight,
                    double (*grad)[2]) {
    double dx = e[a][0] - e[n][0] + 1e-6, dy = e[a][1] - e[n][1] + 1e-6;
    return hypot(dx, dy) < margin ? margin - distance(e, a, n, -weight, grad) : 0;
}

double dml_toy_loss(const double (*embeddings)[2], const int *labels, size_t n, double margin,
                    const unsigned char *swapped, double (*grad)[2]) {
    size_t triplets = dml_toy_triplets(labels, n), at = 0;
    double sum = 0, weight = 1 / (double)(triplets ? triplets : 1);
    memset(grad, 0, n * sizeof *grad);
    for (size_t a = 0; a < n; a++)
        for (size_t p = 0; p < n; p++) {
            if (p == a || labels[p] != labels[a])
                continue;
            for (size_t q = 0; q < n; q++) {
                if (labels[q] == labels[a])
                    continue;
                size_t negative = swapped && swapped[at] ? p : q;
                if (!swapped)
                    sum += distance(embeddings, a, p, weight, grad);
                sum += hinge(embeddings, a, negative, margin, weight, grad);
                at++;
            }
        }
    return sum * weight;
}

static double train_step(struct dml_toy_net *net, const struct dml_toy_data *data,
                         const struct dml_toy_options *options, bool swap, uint64_t step,
                         unsigned char *swapped) {
    struct dml_rng rng = dml_rng_make((uint64_t)options->seed, DML_PURPOSE_SAMPLER, step, 0);
    size_t n = (size_t)options->batch;
    uint64_t chosen[DML_TOY_ALL];
    double points[DML_TOY_ALL][2], grad[DML_TOY_ALL][2];
    int labels[DML_TOY_ALL];
    dml_rng_distinct(&rng, DML_TOY_ALL, n, chosen);
    for (size_t i = 0; i < n; i++) {
        memcpy(points[i], data->train[chosen[i]], sizeof points[i]);
        labels[i] = data->labels[chosen[i]];
    }
    struct dml_rng miner = dml_rng_make((uint64_t)options->seed, DML_PURPOSE_MINER, step, 0);
    for (size_t t = dml_toy_triplets(labels, n), i = 0; swap && i < t; i++)
        swapped[i] = dml_rng_uniform(&miner) < options->swap;
    dml_toy_net_forward(net, (const double(*)[2])points, n);
    double loss = dml_toy_loss((const double(*)[2])net->embeddings, labels, n, options->margin,
                               swap ? swapped : NULL, grad);
    dml_toy_net_backward(net, (const double(*)[2])grad);
    dml_toy_net_step(net, options->lr);
    return loss;
}

/* Singular values of (n, 2): roots of the eigenvalues of the 2 x 2 product. */
static void spectrum_of(const double (*e)[2], size_t n, double out[2]) {
    double xx = 0, xy = 0, yy = 0;
    for (size_t i = 0; i < n; i++) {
        xx += e[i][0] * e[i][0];
        xy += e[i][0] * e[i][1];
        yy += e[i][1] * e[i][1];
    }
    double middle = (xx + yy) / 2, away = hypot((xx - yy) / 2, xy);
    double first = sqrt(middle + away), second = sqrt(fmax(0, middle - away));
    out[0] = first / (first + second);
    out[1] = second / (first + second);
}

static double recall_of(const double (*e)[2], const int *labels, size_t n) {
    size_t right = 0;
    for (size_t q = 0; q < n; q++) {
        size_t nearest = n;
        double least = INFINITY;
        for (size_t i = 0; i < n; i++) {
            double d = hypot(e[q][0] - e[i][0], e[q][1] - e[i][1]);
            if (i != q && d < least) {
                least = d;
                nearest = i;
            }
        }
        right += nearest < n && labels[nearest] == labels[q];
    }
    return (double)right / (double)n;
}

enum dml_status dml_toy_train(const struct dml_toy_data *data,
                              const struct dml_toy_options *options, bool swap,
                              struct dml_toy_result *out) {
    struct dml_toy_net *net = dml_alloc(1, sizeof *net);
    /* A batch has fewer triplets than n^3. */
    size_t most = (size_t)(options->batch * options->batch * options->batch);
    unsigned char *swapped = dml_alloc(most, 1);
    if (!net || !swapped) {
        free(net);
        free(swapped);
        return DML_ERROR_MEMORY;
    }
    /* The two networks start from different weights, as the study's do. */
    dml_toy_net_init(net, (uint64_t)options->seed * 2 + swap);
    for (int64_t i = 0; i < options->iterations; i++) {
        out->last = train_step(net, data, options, swap, (uint64_t)i, swapped);
        if (i == 0)
            out->first = out->last;
    }
    dml_toy_net_forward(net, data->train, DML_TOY_ALL);
    memcpy(out->train, net->embeddings, sizeof out->train);
    dml_toy_net_forward(net, data->test, DML_TOY_ALL);
    memcpy(out->test, net->embeddings, sizeof out->test);
    spectrum_of((const double(*)[2])out->train, DML_TOY_ALL, out->spectrum);
    out->test_recall = recall_of((const double(*)[2])out->test, data->labels, DML_TOY_ALL);
    free(net);
    free(swapped);
    return DML_OK;
}
