/* Circle loss. Sun, Cheng, Zhang, Zhang, Zheng, Wang, Wei 2020, "Circle loss: a unified perspective
 * of pair similarity optimization".
 *
 *     L_a = softplus(LSE_n(gamma [c_an + m]+ (c_an - m)) + LSE_p(-gamma [1 + m - c_ap]+ (c_ap - 1 +
 * m))) L = mean over the anchors with a positive and a negative; the weights [.]+ are constants */
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
     .help = "Relaxation of the circle that similarities are drawn to."},
    {"loss_circle_gamma", DML_PARAM_FLOAT, AT(gamma), "80", 0, INFINITY, true,
     .help = "What the weighted similarities are multiplied by."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: circle", struct options, params);

static double row(const void *data, struct dml_pairwise *p, size_t i, float *room) {
    const struct options *o = data;
    const size_t m = p->m;
    if (p->positives[i] == 0 || p->negatives[i] == 0)
        return 0;
    const double *c = p->s + i * m;
    const uint8_t *relation = p->relation + i * m;
    double *z = (double *)room;
    float *pos = room + 2 * m, *neg = room + 3 * m, *g = p->g + i * m;
#pragma omp simd
    for (size_t j = 0; j < m; j++) {
        double towards = fmax(1 + o->m - c[j], 0) * (1 - o->m - c[j]);
        double away = fmax(c[j] + o->m, 0) * (c[j] - o->m);
        z[j] = o->gamma * (relation[j] == DML_POSITIVE ? towards : away);
    }
    double x = dml_row_lse(relation, DML_POSITIVE, m, z, pos) +
               dml_row_lse(relation, DML_NEGATIVE, m, z, neg);
    float scale = (float)(dml_sigmoid(x) * o->gamma), margin = (float)o->m;
#pragma omp simd
    for (size_t j = 0; j < m; j++) {
        float cosine = (float)c[j];
        g[j] =
            scale * (neg[j] * fmaxf(cosine + margin, 0) - pos[j] * fmaxf(1 + margin - cosine, 0));
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
             "Draws similarities to a circle, each weighted by how far it is from its optimum",
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
