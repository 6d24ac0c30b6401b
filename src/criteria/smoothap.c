/* Smooth-AP. Brown, Xie, Kalogeiton, Zisserman 2020, "Smooth-AP: smoothing the path towards
 * large-scale image retrieval".
 *
 *     rank(q,i) = 1 + sum_{j != i} h(c_qj - c_qi),  rank+(q,i): the same over j of q's class
 *     L = mean over q of 1 - mean_i rank+ / rank,  h(x) = sigmoid(x / temperature)
 *
 * i and j include the query itself, whose similarity is 1. Queries alone in their class are left
 * out. 1 - rank+ / rank is computed as what the negatives add to the rank, over the rank. */
#include "criteria/smooth_steps.h"

#include <string.h>

struct options {
    double temperature;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"loss_smoothap_temperature", DML_PARAM_FLOAT, AT(temperature), "0.01", 0, INFINITY, true,
     .help = "Divisor of the differences of cosines."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: smoothap", struct options, params);

static double row(const void *data, struct dml_pairwise *p, size_t q, float *work) {
    const struct options *o = data;
    const size_t m = p->m;
    const double *c = p->s + q * m;
    uint8_t *relation = p->relation + q * m;
    double *h = (double *)work, *slope = h + m, *pull = slope + m, loss = 0;
    if (p->positives[q] == 0)
        return 0;
    relation[q] = DML_POSITIVE;
    memset(pull, 0, m * sizeof *pull);
    const double share = 1 / (1.0 + p->positives[q]);
    for (size_t i = 0; i < m; i++) {
        if (relation[i] != DML_POSITIVE)
            continue;
        dml_smooth_steps(c, i, m, o->temperature, h, slope);
        double negatives = dml_steps_sum(h, relation, DML_NEGATIVE, m);
        double positives = dml_steps_sum(h, relation, DML_POSITIVE, m);
        double rank = 1 + positives + negatives, weight = share / (rank * rank);
        loss += share * negatives / rank;
        dml_steps_pull(slope, relation, DML_NEGATIVE, weight * (1 + positives), i, m, pull);
        dml_steps_pull(slope, relation, DML_POSITIVE, -weight * negatives, i, m, pull);
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

const struct dml_criterion dml_criterion_smoothap = {
    .method =
        {.name = "smoothap",
         .summary = "Average precision with smooth ranks",
         .paper =
             "Brown et al. 2020, Smooth-AP: smoothing the path towards large-scale image retrieval",
         .params = &table},
    .takes = DML_TUPLES_NONE,
    .create = dml_pairwise_create,
    .forward_backward = forward_backward,
    .destroy = dml_pairwise_destroy,
};
