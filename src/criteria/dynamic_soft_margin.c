/* Dynamic soft margin. Zhang, Rajan, Jia 2019, "Learning local descriptors with a CDF-based dynamic
 * soft margin".
 *
 *     x = u_ap - u_an of every triplet of the batch, u: distances of the normalised embeddings
 *     L = mean of F(x) x,  F(x): the share of all x up to the lower node of x, a constant
 *
 * F is the running sum of a histogram of num_bins nodes on [-2, 2], x shared between its two nodes.
 * The histogram (shares of the triplets) starts as the first batch's and moves towards each later
 * batch's by the momentum before it is used. It is a buffer of the criterion; all 0 before the
 * first batch. */
#include "criteria/pairwise.h"

#include "base/memory.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

struct options {
    int64_t num_bins;
    double momentum;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"loss_dynamic_soft_margin_num_bins", DML_PARAM_INT, AT(num_bins), "512", 2, 100000,
     .help = "Nodes of the histogram."},
    {"loss_dynamic_soft_margin_momentum", DML_PARAM_FLOAT, AT(momentum), "0.01", 0, 1,
     .help = "How far the histogram moves towards that of a batch."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: dynamic_soft_margin", struct options, params);

/* The number of parts that the rows of a batch are cut into, each with its own histogram. */
enum { PARTS = 8 };

struct state {
    struct dml_pairwise_state base; /* its options point to this state */
    const struct options *options;
    float *histogram;   /* (num_bins) */
    double *cumulative; /* (num_bins): its running sum over its total */
    double *parts;      /* (PARTS, num_bins) */
};

static void destroy(void *data) {
    struct state *state = data;
    if (state) {
        free(state->histogram);
        free(state->cumulative);
        free(state->parts);
    }
    dml_pairwise_destroy(data);
}

static enum dml_status create(const void *options, const struct dml_criterion_context *context,
                              void **out) {
    (void)context;
    void *made;
    enum dml_status status = dml_pairwise_new(sizeof(struct state), NULL, &made);
    if (status)
        return status;
    struct state *state = made;
    state->base.options = state;
    state->options = options;
    size_t bins = (size_t)state->options->num_bins;
    state->histogram = dml_alloc(bins, sizeof *state->histogram);
    state->cumulative = dml_alloc(bins, sizeof *state->cumulative);
    state->parts = dml_alloc(PARTS * bins, sizeof *state->parts);
    if (!state->histogram || !state->cumulative || !state->parts) {
        destroy(state);
        return DML_ERROR_MEMORY;
    }
    *out = state;
    return DML_OK;
}

static size_t buffers(void *data, struct dml_criterion_buffer *out, size_t max) {
    struct state *state = data;
    if (max == 0)
        return 0;
    out[0] = (struct dml_criterion_buffer){.name = "histogram",
                                           .floats = state->histogram,
                                           .dims = {(size_t)state->options->num_bins, 1}};
    return 1;
}

/* The lower node of x, and the share of x that the upper one gets. */
static inline size_t node_of(double x, size_t bins, double *upper) {
    const double last = (double)(bins - 1), at = (x + 2) * last / 4; /* fmin and fmax are calls */
    const double raised = at > 0 ? at : 0, place = raised < last ? raised : last;
    size_t node = (size_t)place;
    *upper = place - (double)node;
    return node;
}

/* The row's negatives one after another: their distances and columns. */
static size_t negatives_of(const struct dml_pairwise *p, size_t a, double *u, uint32_t *columns) {
    size_t count = 0;
    for (size_t j = 0; j < p->m; j++)
        if (p->relation[a * p->m + j] == DML_NEGATIVE) {
            u[count] = p->s[a * p->m + j];
            columns[count++] = (uint32_t)j;
        }
    return count;
}

static void count_row(const struct dml_pairwise *p, size_t a, size_t bins, double *histogram,
                      float *work) {
    double *u = (double *)work, upper;
    size_t negatives = negatives_of(p, a, u, (uint32_t *)(u + p->m));
    for (size_t i = 0; i < p->m; i++) {
        if (p->relation[a * p->m + i] != DML_POSITIVE)
            continue;
        for (size_t j = 0; j < negatives; j++) {
            size_t node = node_of(p->s[a * p->m + i] - u[j], bins, &upper);
            histogram[node] += 1 - upper;
            if (upper > 0)
                histogram[node + 1] += upper;
        }
    }
}

/* Updates the histogram and its running sum. */
static void update(struct state *state, size_t triplets) {
    struct dml_pairwise *p = &state->base.pairs;
    const size_t bins = (size_t)state->options->num_bins;
    memset(state->parts, 0, PARTS * bins * sizeof *state->parts);
#pragma omp parallel for schedule(dynamic, 1) if (triplets > 2000)
    for (size_t part = 0; part < PARTS; part++)
        for (size_t a = part * p->n / PARTS; a < (part + 1) * p->n / PARTS; a++)
            count_row(p, a, bins, state->parts + part * bins, dml_pairwise_work(p));
    double total = 0, sum = 0;
    for (size_t b = 0; b < bins; b++)
        total += state->histogram[b];
    const double weight = total > 0 ? state->options->momentum : 1;
    total = 0;
    for (size_t b = 0; b < bins; b++) {
        double now = 0;
        for (size_t part = 0; part < PARTS; part++)
            now += state->parts[part * bins + b];
        double old = state->histogram[b];
        state->histogram[b] = (float)((1 - weight) * old + weight * now / (double)triplets);
        total += state->histogram[b];
    }
    for (size_t b = 0; b < bins; b++) {
        sum += state->histogram[b];
        state->cumulative[b] = sum / total;
    }
}

static double row(const void *data, struct dml_pairwise *p, size_t a, float *work) {
    const struct state *state = data;
    const size_t bins = (size_t)state->options->num_bins;
    double *u = (double *)work, *push = u + p->m, loss = 0, upper;
    uint32_t *columns = (uint32_t *)(push + p->m);
    size_t negatives = negatives_of(p, a, u, columns);
    memset(push, 0, negatives * sizeof *push);
    for (size_t i = 0; i < p->m; i++) {
        if (p->relation[a * p->m + i] != DML_POSITIVE)
            continue;
        double pull = 0;
        for (size_t j = 0; j < negatives; j++) {
            double x = p->s[a * p->m + i] - u[j];
            double weight = state->cumulative[node_of(x, bins, &upper)];
            loss += weight * x;
            pull += weight;
            push[j] += weight;
        }
        p->g[a * p->m + i] = (float)pull;
    }
    for (size_t j = 0; j < negatives; j++)
        p->g[a * p->m + columns[j]] = (float)-push[j];
    return loss;
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)rng;
    struct state *state = data;
    struct dml_pairwise *p = &state->base.pairs;
    enum dml_status status = dml_pairwise_distances(p, batch, tuples, true);
    if (status)
        return status;
    size_t triplets = 0;
    for (size_t a = 0; a < p->n; a++)
        triplets += (size_t)p->positives[a] * p->negatives[a];
    dml_loss_none(batch, triplets, grad, loss);
    if (triplets == 0)
        return DML_OK;
    update(state, triplets);
    loss->active = triplets;
    loss->value = dml_pairwise_sum(p, row, state) / (double)triplets;
    dml_pairwise_distances_backward(p, 1 / (double)triplets, grad);
    return DML_OK;
}

const struct dml_criterion dml_criterion_dynamic_soft_margin = {
    .method =
        {.name = "dynamic_soft_margin",
         .summary =
             "All triplets, each weighted by how many are easier according to a running histogram",
         .paper =
             "Zhang et al. 2019, Learning local descriptors with a CDF-based dynamic soft margin",
         .params = &table},
    .takes = DML_TUPLES_NONE,
    .create = create,
    .forward_backward = forward_backward,
    .buffers = buffers,
    .destroy = destroy,
};
