/* Recall@k surrogate. Patel, Tolias, Matas 2022, "Recall@k surrogate loss with large batches and
 * similarity mixup".
 *
 *     rank(q,i) = 1 + sum_{j != i} sigmoid((c_qj - c_qi) / temperature)
 *     i: another sample of q's class
 *     R_k(q) = min(k, sum_i sigmoid((k - rank) / k_temperature)) / min(k, number of i)
 *     L = mean over q of 1 - mean over k of R_k(q)
 *
 * j includes the query, as in the official code, so that the best rank is about 2; without it this
 * is the paper's formula. Queries alone in their class are left out; k is at most the batch
 * size. */
#include "criteria/smooth_steps.h"

#include <string.h>

struct options {
    struct dml_ints k;
    double temperature;
    double k_temperature;
    bool exclude_query;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"loss_recallk_k", DML_PARAM_INTS, AT(k), "1 2 4 8 16", 1, 1e9,
     .help = "Values of k to average over."},
    {"loss_recallk_temperature", DML_PARAM_FLOAT, AT(temperature), "0.01", 0, INFINITY, true,
     .help = "Divisor of the differences of cosines."},
    {"loss_recallk_k_temperature", DML_PARAM_FLOAT, AT(k_temperature), "1", 0, INFINITY, true,
     .help = "Divisor of the differences between k and a rank."},
    {"loss_recallk_exclude_query", DML_PARAM_FLAG, AT(exclude_query),
     .help = "Rank only the other samples, as the paper's formula does."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: recallk", struct options, params);

/* The loss of a query from the ranks of its positives, and dL/drank in their place. `ranks` has 0
 * for other samples. */
static double recall(const struct options *o, size_t n, size_t count, size_t m, double *ranks,
                     double *weights) {
    double loss = 0;
    memset(weights, 0, m * sizeof *weights);
    for (size_t t = 0; t < o->k.count; t++) {
        const double k = (double)(o->k.items[t] < (int64_t)n ? o->k.items[t] : (int64_t)n);
        const double most = fmin(k, (double)count), share = 1 / (double)o->k.count;
        double sum = 0;
        for (size_t i = 0; i < m; i++)
            sum += ranks[i] > 0 ? dml_sigmoid((k - ranks[i]) / o->k_temperature) : 0;
        loss += share * (1 - fmin(k, sum) / most);
        for (size_t i = 0; sum < k && i < m; i++) {
            if (ranks[i] == 0)
                continue;
            double e = exp(-fabs(k - ranks[i]) / o->k_temperature);
            weights[i] += share / most * e / ((1 + e) * (1 + e)) / o->k_temperature;
        }
    }
    return loss;
}

static double row(const void *data, struct dml_pairwise *p, size_t q, float *work) {
    const struct options *o = data;
    const size_t m = p->m;
    const double *c = p->s + q * m;
    uint8_t *relation = p->relation + q * m;
    double *h = (double *)work, *slope = h + m, *ranks = slope + m, *weights = ranks + m;
    if (p->positives[q] == 0)
        return 0;
    for (size_t i = 0; i < m; i++) {
        ranks[i] = 0;
        if (relation[i] != DML_POSITIVE)
            continue;
        dml_smooth_steps(c, i, m, o->temperature, h, slope);
        ranks[i] = 1 + dml_steps_sum(h, relation, DML_POSITIVE, m) +
                   dml_steps_sum(h, relation, DML_NEGATIVE, m) + (o->exclude_query ? 0 : h[q]);
    }
    double loss = recall(o, p->n, p->positives[q], m, ranks, weights), *pull = ranks;
    memset(pull, 0, m * sizeof *pull);
    for (size_t i = 0; i < m; i++) {
        if (weights[i] == 0)
            continue;
        dml_smooth_steps(c, i, m, o->temperature, h, slope);
        dml_steps_pull(slope, relation, DML_POSITIVE, weights[i], i, m, pull);
        dml_steps_pull(slope, relation, DML_NEGATIVE, weights[i], i, m, pull);
        pull[i] -= o->exclude_query ? 0 : weights[i] * slope[q];
    }
    for (size_t j = 0; j < m; j++)
        p->g[q * m + j] = (float)pull[j];
    return loss;
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)rng;
    return dml_pairwise_step(data, batch, tuples, DML_COSINES, DML_OVER_ANCHORS, row, grad, loss);
}

const struct dml_criterion dml_criterion_recallk = {
    .method =
        {.name = "recallk",
         .summary = "Recall at several k with smooth ranks",
         .paper =
             "Patel et al. 2022, Recall@k surrogate loss with large batches and similarity mixup",
         .params = &table},
    .takes = DML_TUPLES_NONE,
    .create = dml_pairwise_create,
    .forward_backward = forward_backward,
    .destroy = dml_pairwise_destroy,
};
