/* Circle loss. Sun, Cheng, Zhang, Zhang, Zheng, Wang, Wei 2020, "Circle loss: a unified perspective
 * of pair similarity optimization".
 *
 *     L_a = softplus(LSE_n(gamma [c_an + m]+ (c_an - m))
 *                    + LSE_p(-gamma [1 + m - c_ap]+ (c_ap - 1 + m)))
 *     L = mean over the anchors with a positive and a negative; the weights [.]+ are constants */
#include "criteria/pairwise.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct options {
    double m;
    double gamma;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"loss_circle_m", DML_PARAM_FLOAT, AT(m), "0.4", 0, 1,
     .help = "Relaxation of the circle towards which similarities are pulled."},
    {"loss_circle_gamma", DML_PARAM_FLOAT, AT(gamma), "80", 0, INFINITY, true,
     .help = "Factor applied to the weighted similarities."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: circle", struct options, params);

static double row(const void *data, struct dml_pairwise *p, size_t i, float *work) {
    const struct options *o = data;
    const size_t m = p->m;
    if (p->positives[i] == 0 || p->negatives[i] == 0)
        return 0;
    const double *c = p->s + i * m;
    const uint8_t *relation = p->relation + i * m;
    double *z = (double *)work;
    float *e = work + 2 * m, *signs = work + 3 * m, *g = p->g + i * m;
    const double margin = o->m, gamma = o->gamma;
#pragma omp simd
    for (size_t j = 0; j < m; j++) {
        double below = 1 + margin - c[j], above = c[j] + margin;
        double towards = (below > 0 ? below : 0) * (1 - margin - c[j]);
        double away = (above > 0 ? above : 0) * (c[j] - margin);
        z[j] = gamma * (relation[j] == DML_POSITIVE ? towards : away);
    }
    struct dml_row_lses lse = dml_row_lse_both(relation, m, z, e, signs);
    double x = lse.positive_shift + lse.negative_shift + log(lse.positive_sum * lse.negative_sum);
    double scale = dml_sigmoid(x) * gamma;
    const float push = (float)(scale * lse.negative_factor);
    const float pull = (float)(scale * -lse.positive_factor), near = (float)margin;
#pragma omp simd
    for (size_t j = 0; j < m; j++) {
        float cosine = (float)c[j], below = 1 + near - cosine, above = cosine + near;
        below = below > 0 ? below : 0;
        above = above > 0 ? above : 0;
        g[j] = e[j] * (signs[j] > 0 ? pull * below : push * above);
    }
    return dml_softplus(x);
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)rng;
    return dml_pairwise_step(data, batch, tuples, DML_COSINES, DML_OVER_ANCHORS_WITH_BOTH, row,
                             grad, loss);
}

const struct dml_criterion dml_criterion_circle = {
    .method =
        {.name = "circle",
         .summary =
             "Pulls similarities towards a circle, each weighted by its distance from its optimum",
         .paper =
             "Sun et al. 2020, Circle loss: a unified perspective of pair similarity optimization",
         .params = &table},
    .takes = DML_TUPLES_NONE,
    .may_take = DML_TUPLES_LISTS,
    .takes_reference = true,
    .create = dml_pairwise_create,
    .forward_backward = forward_backward,
    .destroy = dml_pairwise_destroy,
};
