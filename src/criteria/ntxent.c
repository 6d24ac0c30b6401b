/* Normalised temperature-scaled cross entropy. Sohn 2016, "Improved deep metric learning with
 * multi-class N-pair loss objective"; Chen, Kornblith, Norouzi, Hinton 2020, "A simple framework
 * for contrastive learning of visual representations".
 *
 *     L_ap = log(1 + sum_{n in N(a)} exp((c_an - c_ap) / T)),  mean over the positive pairs
 *
 * Other positives are not in the denominator, so the negatives of an anchor are summed once. */
#include "criteria/pairwise.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct options {
    double temperature;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"loss_ntxent_temperature", DML_PARAM_FLOAT, AT(temperature), "0.07", 0, INFINITY, true,
     .help = "Divisor of the cosines."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: ntxent", struct options, params);

static double row(const void *data, struct dml_pairwise *p, size_t i, float *work) {
    const struct options *o = data;
    const size_t m = p->m;
    if (p->positives[i] == 0 || p->negatives[i] == 0)
        return 0;
    const double inverse = 1 / o->temperature, *c = p->s + i * m;
    const uint8_t *relation = p->relation + i * m;
    double *z = (double *)work, sum = 0, pull = 0;
    float *neg = work + 2 * m, *g = p->g + i * m;
    for (size_t j = 0; j < m; j++)
        z[j] = inverse * c[j];
    double all = dml_row_lse(relation, DML_NEGATIVE, m, z, neg);
    for (size_t j = 0; j < m; j++)
        if (relation[j] == DML_POSITIVE) {
            double slope = dml_sigmoid(all - z[j]);
            sum += dml_softplus(all - z[j]);
            pull += slope;
            g[j] = (float)(-slope * inverse);
        }
    for (size_t j = 0; j < m; j++)
        g[j] += (float)(pull * inverse) * neg[j];
    return sum;
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)rng;
    return dml_pairwise_step(data, batch, tuples, DML_COSINES, DML_OVER_POSITIVE_PAIRS, row, grad,
                             loss);
}

const struct dml_criterion dml_criterion_ntxent = {
    .method = {.name = "ntxent",
               .summary = "Cross entropy of each positive pair against the negatives of its "
                          "anchor, with a temperature",
               .paper = "Chen et al. 2020, A simple framework for contrastive learning of visual "
                        "representations",
               .params = &table},
    .takes = DML_TUPLES_NONE,
    .may_take = DML_TUPLES_LISTS,
    .takes_reference = true,
    .create = dml_pairwise_create,
    .forward_backward = forward_backward,
    .destroy = dml_pairwise_destroy,
};
