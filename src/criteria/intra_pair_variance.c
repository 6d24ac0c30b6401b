/* Intra-pair variance loss. Yu, Tao 2019, "Deep metric learning with tuplet margin loss".
 *
 *     L = mean_pos [(1 - pos_eps) m+ - c]+^2 + mean_neg [c - (1 + neg_eps) m-]+^2
 *
 * m+ and m- are the mean cosines of the positive and of the negative pairs; gradients flow through
 * them. */
#include "criteria/pairwise.h"

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
    struct dml_pairwise_state pairwise;
    struct dml_buffer memory; /* for sums */
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
    if (state)
        dml_buffer_free(&state->memory);
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

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)rng;
    struct state *state = data;
    const struct options *o = state->pairwise.options;
    struct dml_pairwise *p = &state->pairwise.pairs;
    struct sums *rows = dml_buffer_reserve(&state->memory, batch->n, sizeof *rows);
    if (!rows)
        return DML_ERROR_MEMORY;
    enum dml_status status = dml_pairwise_narrow_cosines(p, batch, tuples, 1);
    if (status)
        return status;
    const size_t counts[KINDS] = {dml_pairwise_count(p, DML_POSITIVE),
                                  dml_pairwise_count(p, DML_NEGATIVE)};
    const double factors[KINDS] = {1 - o->pos_eps, 1 + o->neg_eps};
    double bounds[KINDS], means[KINDS], shares[KINDS];
    struct sums sums = sum_rows(p, NULL, rows);
    for (int kind = 0; kind < KINDS; kind++) {
        shares[kind] = counts[kind] ? 1 / (double)counts[kind] : 0;
        bounds[kind] = factors[kind] * sums.first[kind] * shares[kind];
    }
    sums = sum_rows(p, bounds, rows);
    for (int kind = 0; kind < KINDS; kind++)
        means[kind] = factors[kind] * sums.first[kind] * shares[kind];
#pragma omp parallel for if (p->n * p->m > 20000)
    for (size_t i = 0; i < p->n; i++)
        fill_row(p, i, bounds, means, shares);
    size_t count = counts[0] + counts[1];
    *loss = (struct dml_loss){.tuples = count, .active = count};
    loss->value = sums.second[0] * shares[0] + sums.second[1] * shares[1];
    dml_pairwise_cosines_backward(p, 1, grad);
    return DML_OK;
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
