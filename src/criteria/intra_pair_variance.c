/* Intra-pair variance loss. Yu, Tao 2019, "Deep metric learning with tuplet margin loss".
 *
 *     L = mean_pos [(1 - pos_eps) m+ - c]+^2 + mean_neg [c - (1 + neg_eps) m-]+^2
 *
 * m+ and m- are the mean cosines of the positive and of the negative pairs; gradients flow through
 * them. */
#include "criteria/classmates.h"
#include "criteria/pairwise.h"
#include "criteria/symmetric.h"

#include "math/reduce.h"

#include <stdlib.h>
#include <string.h>

struct options {
    double pos_eps;
    double neg_eps;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"loss_intra_pair_variance_pos_eps", DML_PARAM_FLOAT, AT(pos_eps), "0.01", 0, INFINITY,
     .help = "Slack of positive pairs, as a share of their mean cosine."},
    {"loss_intra_pair_variance_neg_eps", DML_PARAM_FLOAT, AT(neg_eps), "0.01", 0, INFINITY,
     .help = "Slack of negative pairs, as a share of their mean cosine."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: intra_pair_variance", struct options, params);

struct state {
    struct dml_pairwise_state pairwise; /* for pairs and references */
    struct dml_symmetric symmetric;
    struct dml_buffer memory;
};

/* Positive and negative pairs; their terms are [bound - c]+ and [c - bound]+. */
enum { KINDS = 2 };

struct sums {
    double first[KINDS], second[KINDS];
};

static enum dml_status create(const void *options, const struct dml_criterion_context *context,
                              void **out) {
    (void)context;
    return dml_pairwise_new(sizeof(struct state), options, out);
}

static void destroy(void *data) {
    struct state *state = data;
    if (state) {
        dml_symmetric_free(&state->symmetric);
        dml_buffer_free(&state->memory);
    }
    dml_pairwise_destroy(data);
}

/* Sums over a row: of its cosines (`bounds` NULL), or of the terms and their squares. */
static struct sums sum_row(const struct dml_pairwise *p, size_t i, const double *bounds) {
    float *signs = dml_pairwise_work(p);
    const double *c = dml_pairwise_row_of(p, i, signs);
    const double high = bounds ? bounds[0] : 0, low = bounds ? bounds[1] : 0;
    double pos = 0, neg = 0, pos2 = 0, neg2 = 0;
    dml_row_signs(p->relation + i * p->m, p->m, signs);
    if (!bounds) {
#pragma omp simd reduction(+ : pos, neg)
        for (size_t j = 0; j < p->m; j++) {
            pos += signs[j] > 0 ? c[j] : 0;
            neg += signs[j] < 0 ? c[j] : 0;
        }
        return (struct sums){{pos, neg}, {0, 0}};
    }
#pragma omp simd reduction(+ : pos, neg, pos2, neg2)
    for (size_t j = 0; j < p->m; j++) {
        double short_by = high - c[j], over = c[j] - low;
        short_by = signs[j] > 0 && short_by > 0 ? short_by : 0;
        over = signs[j] < 0 && over > 0 ? over : 0;
        pos += short_by;
        neg += over;
        pos2 += short_by * short_by;
        neg2 += over * over;
    }
    return (struct sums){{pos, neg}, {pos2, neg2}};
}

/* Sums over all rows, added in row order. */
static struct sums sum_rows(const struct dml_pairwise *p, const double *bounds,
                            struct sums *of_rows) {
    struct sums sums = {0};
#pragma omp parallel for if (p->n * p->m > 20000)
    for (size_t i = 0; i < p->n; i++)
        of_rows[i] = sum_row(p, i, bounds);
    for (size_t i = 0; i < p->n; i++)
        for (int kind = 0; kind < KINDS; kind++) {
            sums.first[kind] += of_rows[i].first[kind];
            sums.second[kind] += of_rows[i].second[kind];
        }
    return sums;
}

/* g of a row. means: those of the terms, times d bound / d mean cosine. */
static void fill_row(struct dml_pairwise *p, size_t i, const double *bounds, const double *means,
                     const double *shares) {
    float *signs = dml_pairwise_work(p), *g = p->g + i * p->m;
    const double *c = dml_pairwise_row_of(p, i, signs);
    const double high = bounds[0], low = bounds[1], pos = means[0], neg = means[1];
    const double up = 2 * shares[0], down = -2 * shares[1];
    dml_row_signs(p->relation + i * p->m, p->m, signs);
#pragma omp simd
    for (size_t j = 0; j < p->m; j++) {
        double term = signs[j] > 0 ? high - c[j] : c[j] - low;
        double mean = signs[j] > 0 ? pos : neg, slope = signs[j] > 0 ? up : down;
        float value = (float)(slope * (mean - (term > 0 ? term : 0)));
        g[j] = signs[j] != 0 ? value : 0.0f;
    }
}

/* The bounds of both kinds and, once their terms are known, the loss and what of a mean of terms
 * reaches the mean cosine. */
struct kinds {
    double shares[KINDS]; /* 1 / pairs, 0 where there are none */
    double factors[KINDS], bounds[KINDS], means[KINDS];
};

static struct kinds bounds_of(const struct options *o, size_t positives, size_t negatives,
                              const struct sums *cosines) {
    const size_t counts[KINDS] = {positives, negatives};
    struct kinds kinds = {.factors = {1 - o->pos_eps, 1 + o->neg_eps}};
    for (int kind = 0; kind < KINDS; kind++) {
        kinds.shares[kind] = counts[kind] ? 1 / (double)counts[kind] : 0;
        kinds.bounds[kind] = kinds.factors[kind] * cosines->first[kind] * kinds.shares[kind];
    }
    return kinds;
}

static struct dml_loss loss_of(struct kinds *kinds, size_t pairs, const struct sums *terms) {
    struct dml_loss loss = {.tuples = pairs, .active = pairs};
    for (int kind = 0; kind < KINDS; kind++) {
        kinds->means[kind] = kinds->factors[kind] * terms->first[kind] * kinds->shares[kind];
        loss.value += terms->second[kind] * kinds->shares[kind];
    }
    return loss;
}

static enum dml_status by_pairs(struct state *state, const struct dml_batch *batch,
                                const struct dml_tuples *tuples, float *grad,
                                struct dml_loss *loss) {
    struct dml_pairwise *p = &state->pairwise.pairs;
    struct sums *rows = dml_buffer_reserve(&state->memory, batch->n, sizeof *rows);
    if (!rows)
        return DML_ERROR_MEMORY;
    enum dml_status status = dml_pairwise_cosines(p, batch, tuples);
    if (status)
        return status;
    const size_t positives = dml_pairwise_count(p, DML_POSITIVE);
    const size_t negatives = dml_pairwise_count(p, DML_NEGATIVE);
    struct sums sums = sum_rows(p, NULL, rows);
    struct kinds kinds = bounds_of(state->pairwise.options, positives, negatives, &sums);
    sums = sum_rows(p, kinds.bounds, rows);
    *loss = loss_of(&kinds, positives + negatives, &sums);
#pragma omp parallel for if (p->n * p->m > 20000)
    for (size_t i = 0; i < p->n; i++)
        fill_row(p, i, kinds.bounds, kinds.means, kinds.shares);
    dml_pairwise_cosines_backward(p, 1, grad);
    return DML_OK;
}

/* A step on all pairs of a batch: cosines and gradients are symmetric, sums are of one half.
 * Cosines are relative to one in their middle, so that those of samples that are all alike keep
 * their differences. */
struct step {
    size_t n;
    double middle;
    const float *c;  /* (n, n): cosines less `middle` */
    float high, low; /* bounds less `middle` */
    const int32_t *labels;
    float *offsets;    /* (n) and more: centred products become cosines with those of both */
    uint32_t *mates;   /* (n): rings of classmates */
    struct sums *rows; /* (n): of the pairs with earlier samples */
    struct kinds kinds;
};

/* A block of products becomes one of c. */
static void add_offsets(const void *data, size_t row, size_t rows, size_t column, float *block) {
    const float *offsets = data;
    for (size_t i = 0; i < rows; i++, block += DML_PANEL)
#pragma omp simd
        for (size_t j = 0; j < DML_PANEL; j++)
            block[j] += offsets[row + i] + offsets[column + j];
}

static struct sums sum_cosines(const struct step *step, size_t i) {
    const struct dml_label_sums sums =
        dml_sum_by_label(step->c + i * step->n, step->labels, step->labels[i], i);
    double same = 0;
    for (size_t j = step->mates[i]; j != i; j = step->mates[j])
        same += j < i;
    return (struct sums){
        {sums.same + same * step->middle, sums.others + ((double)i - same) * step->middle}, {0, 0}};
}

/* The sums of the terms of a row's negatives with earlier samples, and of their squares. */
static void sum_negatives(const struct step *step, size_t i, double *first, double *second) {
    const float *c = step->c + i * step->n, low = step->low;
    const int32_t *labels = step->labels, label = labels[i];
    dml_lanes terms = {0}, squares = {0};
    size_t j = 0;
    for (; j + DML_LANES <= i; j += DML_LANES) {
        const dml_lanes over = dml_lanes_load(c + j) - low;
        const dml_lane_bits counts = (over > 0) & (dml_lane_bits_load(labels + j) != label);
        const dml_lanes term = (dml_lanes)((dml_lane_bits)over & counts);
        terms += term;
        squares += term * term;
    }
    *first = dml_lanes_total(terms);
    *second = dml_lanes_total(squares);
    for (; j < i; j++) {
        const double over = (double)c[j] - low;
        *first += labels[j] != label && over > 0 ? over : 0;
        *second += labels[j] != label && over > 0 ? over * over : 0;
    }
}

static struct sums sum_terms(const struct step *step, size_t i) {
    const float *c = step->c + i * step->n;
    struct sums sums = {0};
    sum_negatives(step, i, &sums.first[1], &sums.second[1]);
    for (size_t j = step->mates[i]; j != i; j = step->mates[j]) {
        const double short_by = (double)step->high - c[j];
        sums.first[0] += j < i && short_by > 0 ? short_by : 0;
        sums.second[0] += j < i && short_by > 0 ? short_by * short_by : 0;
    }
    return sums;
}

/* Over all pairs, added in the order of rows. */
static struct sums sum_all(const struct step *step,
                           struct sums (*of_row)(const struct step *step, size_t i)) {
    struct sums sums = {0};
#pragma omp parallel for schedule(dynamic, 16) if (step->n > 128)
    for (size_t i = 0; i < step->n; i++)
        step->rows[i] = of_row(step, i);
    for (size_t i = 0; i < step->n; i++)
        for (int kind = 0; kind < KINDS; kind++) {
            sums.first[kind] += 2 * step->rows[i].first[kind];
            sums.second[kind] += 2 * step->rows[i].second[kind];
        }
    return sums;
}

/* Row i of dL/dc + (dL/dc)^T. */
static void fill(const void *data, size_t i, float *f) {
    const struct step *step = data;
    const struct kinds *kinds = &step->kinds;
    const float *c = step->c + i * step->n;
    const float high = step->high, low = step->low;
    const float pos = (float)kinds->means[0], neg = (float)kinds->means[1];
    const float up = (float)(4 * kinds->shares[0]), down = (float)(-4 * kinds->shares[1]);
#pragma omp simd
    for (size_t j = 0; j < step->n; j++) {
        const float over = c[j] - low;
        f[j] = down * (neg - (over > 0 ? over : 0.0f));
    }
    for (size_t j = step->mates[i]; j != i; j = step->mates[j]) {
        const float short_by = high - c[j];
        f[j] = up * (pos - (short_by > 0 ? short_by : 0.0f));
    }
    f[i] = 0;
}

static enum dml_status by_batch(struct state *state, const struct dml_batch *batch, float *grad,
                                struct dml_loss *loss) {
    struct dml_symmetric *s = &state->symmetric;
    const size_t n = batch->n;
    struct step step = {.n = n, .labels = batch->labels};
    step.rows = dml_buffer_reserve(&state->memory,
                                   n * sizeof *step.rows + (n + DML_PANEL) * sizeof *step.offsets +
                                       (n + dml_classmates_table(n)) * sizeof *step.mates,
                                   1);
    enum dml_status status = step.rows ? dml_symmetric_start(s, batch, true) : DML_ERROR_MEMORY;
    if (status)
        return status;
    step.offsets = (float *)(step.rows + n);
    step.mates = (uint32_t *)(step.offsets + n + DML_PANEL);
    dml_classmates(batch->labels, n, step.mates + n, step.mates);
    dml_symmetric_offsets(s, 1, step.offsets, &step.middle);
    dml_symmetric_forward(s, add_offsets, step.offsets, &s->rows.products, 1, n);
    step.c = s->rows.products;
    size_t positives = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = step.mates[i]; j != i; j = step.mates[j])
            positives++;
    struct sums sums = sum_all(&step, sum_cosines);
    step.kinds = bounds_of(state->pairwise.options, positives, n * (n - 1) - positives, &sums);
    step.high = (float)(step.kinds.bounds[0] - step.middle);
    step.low = (float)(step.kinds.bounds[1] - step.middle);
    sums = sum_all(&step, sum_terms);
    *loss = loss_of(&step.kinds, n * (n - 1), &sums);
    dml_symmetric_backward(s, fill, &step, 1, grad);
    return DML_OK;
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)rng;
    return tuples || batch->reference ? by_pairs(data, batch, tuples, grad, loss)
                                      : by_batch(data, batch, grad, loss);
}

const struct dml_criterion dml_criterion_intra_pair_variance = {
    .method = {.name = "intra_pair_variance",
               .summary =
                   "Pulls the similarities of positive and of negative pairs towards their means",
               .paper = "Yu and Tao 2019, Deep metric learning with tuplet margin loss",
               .params = &table},
    .takes = DML_TUPLES_NONE,
    .may_take = DML_TUPLES_LISTS,
    .takes_reference = true,
    .create = create,
    .forward_backward = forward_backward,
    .destroy = destroy,
};
