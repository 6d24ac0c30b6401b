/* Neighbourhood components analysis, its log form. Goldberger, Hinton, Roweis, Salakhutdinov 2004,
 * "Neighbourhood components analysis".
 *
 *     L_a = LSE_{j in P u N}(-s u_aj^2) - LSE_{j in P}(-s u_aj^2),  u^2 = 2 - 2 c
 *     L = mean over the anchors with a positive */
#include "criteria/pairwise.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct options {
    double softmax_scale;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"loss_nca_softmax_scale", DML_PARAM_FLOAT, AT(softmax_scale), "1", 0, INFINITY, true,
     .help = "Factor applied to the squared distances."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: nca", struct options, params);

static double row(const void *data, struct dml_pairwise *p, size_t i, float *work) {
    const struct options *o = data;
    const size_t m = p->m;
    if (p->positives[i] == 0)
        return 0;
    const double scale = 2 * o->softmax_scale, *c = dml_pairwise_row_of(p, i, work);
    const uint8_t *relation = p->relation + i * m;
    double *z = (double *)work;
    float *e = work + 2 * m, *signs = work + 3 * m, *g = p->g + i * m;
#pragma omp simd
    for (size_t j = 0; j < m; j++)
        z[j] = scale * c[j];
    struct dml_row_lses lses = dml_row_lse_both(relation, m, z, e, signs);
    struct dml_row_shares shares = dml_row_shares_of(&lses);
    const float share = (float)(scale * shares.negatives);
    const float away = share * lses.negative_factor, towards = -share * lses.positive_factor;
#pragma omp simd
    for (size_t j = 0; j < m; j++)
        g[j] = e[j] * (signs[j] > 0 ? towards : away);
    return shares.loss;
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)rng;
    const struct options *o = ((struct dml_pairwise_state *)data)->options;
    return dml_pairwise_narrow_step(data, batch, tuples, 2 * o->softmax_scale, DML_OVER_ANCHORS,
                                    row, grad, loss);
}

const struct dml_criterion dml_criterion_nca = {
    .method = {.name = "nca",
               .summary = "Probability that a neighbour drawn by distance is of the sample's class",
               .paper = "Goldberger et al. 2004, Neighbourhood components analysis",
               .params = &table},
    .takes = DML_TUPLES_NONE,
    .may_take = DML_TUPLES_LISTS,
    .takes_reference = true,
    .create = dml_pairwise_create,
    .forward_backward = forward_backward,
    .destroy = dml_pairwise_destroy,
};
