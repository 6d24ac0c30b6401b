/* ROADMAP. Ramzi, Thome, Rambour, Audebert, Bitot 2021, "Robust and decomposable average precision
 * for image retrieval".
 *
 *     L = supap_weight (1 - SupAP)
 *         + calibration_weight (mean of the [pos_margin - c]+ > 0 of positive pairs
 *                               + mean of the [c - neg_margin]+ > 0 of negative pairs)
 *
 * SupAP is as in smoothap, the query included, but with the step of x = c_qj - c_qi
 *
 *     j of q's class:  1 where x >= 0, else 0, without gradient
 *     other j:         sigmoid(x / tau) where x <= 0,  1/2 + sigmoid(x / tau) up to delta,
 *                      rho (x - delta) + offset above */
#include "criteria/pairwise.h"

#include "math/transcendental.h"

#include <string.h>

struct options {
    double tau;
    double rho;
    double delta;
    double offset;
    double pos_margin;
    double neg_margin;
    double supap_weight;
    double calibration_weight;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"loss_roadmap_tau", DML_PARAM_FLOAT, AT(tau), "0.01", 0, INFINITY, true,
     .help = "Divisor of the differences of cosines."},
    {"loss_roadmap_rho", DML_PARAM_FLOAT, AT(rho), "100", 0, INFINITY,
     .help = "Slope of the step for negatives far before a positive."},
    {"loss_roadmap_delta", DML_PARAM_FLOAT, AT(delta), "0.05", 0, 2,
     .help = "Difference of cosines where that slope begins."},
    {"loss_roadmap_offset", DML_PARAM_FLOAT, AT(offset), "1.44", 0, INFINITY,
     .help = "Value of the step there."},
    {"loss_roadmap_pos_margin", DML_PARAM_FLOAT, AT(pos_margin), "0.9", -1, 1,
     .help = "Positive pairs with a lower cosine are pulled together."},
    {"loss_roadmap_neg_margin", DML_PARAM_FLOAT, AT(neg_margin), "0.6", -1, 1,
     .help = "Negative pairs with a higher cosine are pushed apart."},
    {"loss_roadmap_supap_weight", DML_PARAM_FLOAT, AT(supap_weight), "1", 0, INFINITY,
     .help = "Weight of the average precision."},
    {"loss_roadmap_calibration_weight", DML_PARAM_FLOAT, AT(calibration_weight), "1", 0, INFINITY,
     .help = "Weight of the terms on pairs."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: roadmap", struct options, params);

/* Cosines of equal embeddings differ by no more than this, and others by far more. */
#define TIE 1e-13

struct job {
    const struct options *options;
    double share; /* of a query */
};

/* The steps of the negatives before positive i: their sum, and slope_j = dh_j/dc_j; 0 for others.
 */
static double negatives_before(const struct options *o, const struct dml_pairwise *p, size_t q,
                               size_t i, double *restrict slope) {
    const double *c = p->s + q * p->m, at = c[i], inverse = 1 / o->tau;
    const uint8_t *relation = p->relation + q * p->m;
    const double rho = o->rho, delta = o->delta, offset = o->offset;
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < p->m; j++) {
        double x = c[j] - at, e = dml_exp64(inverse * (x < 0 ? x : -x)), r = 1 / (1 + e);
        double h = x <= TIE ? e * r : 0.5 + r, by_x = inverse * e * r * r;
        h = x > delta ? rho * (x - delta) + offset : h;
        by_x = x > delta ? rho : by_x;
        sum += relation[j] == DML_NEGATIVE ? h : 0;
        slope[j] = relation[j] == DML_NEGATIVE ? by_x : 0;
    }
    return sum;
}

/* How many samples of the class are at least as near as i, i included: its rank among them. */
static double rank_in_class(const struct dml_pairwise *p, size_t q, size_t i) {
    const double *c = p->s + q * p->m;
    double rank = 0;
    for (size_t j = 0; j < p->m; j++)
        rank += p->relation[q * p->m + j] == DML_POSITIVE && c[j] >= c[i] - TIE;
    return rank;
}

static double row(const void *data, struct dml_pairwise *p, size_t q, float *work) {
    const struct job *job = data;
    const size_t m = p->m;
    uint8_t *relation = p->relation + q * m;
    double *slope = (double *)work, *pull = slope + m, loss = 0;
    if (p->positives[q] == 0)
        return 0;
    relation[q] = DML_POSITIVE;
    memset(pull, 0, m * sizeof *pull);
    const double share = job->share / (1.0 + p->positives[q]);
    for (size_t i = 0; i < m; i++) {
        if (relation[i] != DML_POSITIVE)
            continue;
        double negatives = negatives_before(job->options, p, q, i, slope);
        double positives = rank_in_class(p, q, i), rank = positives + negatives;
        double weight = share * positives / (rank * rank);
        loss += share * negatives / rank;
        for (size_t j = 0; j < m; j++) {
            pull[j] += weight * slope[j];
            pull[i] -= weight * slope[j];
        }
    }
    for (size_t j = 0; j < m; j++)
        p->g[q * m + j] += (float)pull[j];
    return loss;
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)rng;
    struct dml_pairwise_state *state = data;
    const struct options *o = state->options;
    struct dml_pairwise *p = &state->pairs;
    enum dml_status status = dml_pairwise_cosines(p, batch, tuples);
    if (status)
        return status;
    const struct dml_hinge pos = dml_pairwise_hinge(p, DML_POSITIVE, o->pos_margin, -1);
    const struct dml_hinge neg = dml_pairwise_hinge(p, DML_NEGATIVE, o->neg_margin, 1);
    const double weight = o->calibration_weight;
    dml_pairwise_hinge_backward(p, DML_POSITIVE, o->pos_margin, -1, weight * pos.share);
    dml_pairwise_hinge_backward(p, DML_NEGATIVE, o->neg_margin, 1, weight * neg.share);
    size_t queries = dml_pairwise_anchors(p, false);
    const struct job job = {o, queries ? o->supap_weight / (double)queries : 0};
    *loss = (struct dml_loss){.tuples = p->n, .value = weight * (pos.mean + neg.mean)};
    loss->value += dml_pairwise_sum(p, row, &job);
    loss->active = loss->value > 0 ? p->n : 0;
    dml_pairwise_cosines_backward(p, 1, grad);
    return DML_OK;
}

const struct dml_criterion dml_criterion_roadmap = {
    .method =
        {.name = "roadmap",
         .summary = "An upper bound of 1 - average precision, and terms that hold all queries to "
                    "one scale",
         .paper =
             "Ramzi et al. 2021, Robust and decomposable average precision for image retrieval",
         .params = &table},
    .takes = DML_TUPLES_NONE,
    .create = dml_pairwise_create,
    .forward_backward = forward_backward,
    .destroy = dml_pairwise_destroy,
};
