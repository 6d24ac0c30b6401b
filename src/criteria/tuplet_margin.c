/* Tuplet margin loss. Yu, Tao 2019, "Deep metric learning with tuplet margin loss".
 *
 *     L_ap = log(1 + sum_{n in N(a)} exp(scale (c_an - cos(theta_ap - margin))))
 *     L = mean over the positive pairs
 *
 * The cosine of a positive pair is clamped to 1 - 1e-7 in magnitude, with no gradient where it
 * clamps. */
#include "criteria/pairwise.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct options {
    double margin;
    double scale;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"loss_tuplet_margin_margin", DML_PARAM_FLOAT, AT(margin), "0.1", 0, 3.14159265358979,
     .help = "Slack of the angle of positive pairs, in radians."},
    {"loss_tuplet_margin_scale", DML_PARAM_FLOAT, AT(scale), "64", 0, INFINITY, true,
     .help = "Factor applied to the cosines."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: tuplet_margin", struct options, params);

#define COSINE_MOST (1 - 1e-7)

/* cos(theta - margin) and its slope by the cosine. */
static double slack_cosine(double cosine, double margin, double *slope) {
    double c = fmin(fmax(cosine, -COSINE_MOST), COSINE_MOST), sine = sqrt(1 - c * c);
    *slope = c == cosine ? cos(margin) - c * sin(margin) / sine : 0;
    return c * cos(margin) + sine * sin(margin);
}

static double row(const void *data, struct dml_pairwise *p, size_t i, float *work) {
    const struct options *o = data;
    const size_t m = p->m;
    if (p->positives[i] == 0 || p->negatives[i] == 0)
        return 0;
    const double *c = p->s + i * m;
    const uint8_t *relation = p->relation + i * m;
    double *z = (double *)work, sum = 0, pull = 0;
    float *neg = work + 2 * m, *g = p->g + i * m;
    for (size_t j = 0; j < m; j++)
        z[j] = o->scale * c[j];
    double all = dml_row_lse(relation, DML_NEGATIVE, m, z, neg);
    for (size_t j = 0; j < m; j++)
        if (relation[j] == DML_POSITIVE) {
            double slope, x = all - o->scale * slack_cosine(c[j], o->margin, &slope);
            double weight = dml_sigmoid(x);
            sum += dml_softplus(x);
            pull += weight;
            g[j] = (float)(-weight * o->scale * slope);
        }
    for (size_t j = 0; j < m; j++)
        g[j] += (float)(pull * o->scale) * neg[j];
    return sum;
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)rng;
    return dml_pairwise_step(data, batch, tuples, DML_COSINES, DML_OVER_POSITIVE_PAIRS, row, grad,
                             loss);
}

const struct dml_criterion dml_criterion_tuplet_margin = {
    .method = {.name = "tuplet_margin",
               .summary =
                   "A positive pair with slack on its angle against all negatives of its anchor",
               .paper = "Yu and Tao 2019, Deep metric learning with tuplet margin loss",
               .params = &table},
    .takes = DML_TUPLES_NONE,
    .may_take = DML_TUPLES_LISTS,
    .takes_reference = true,
    .create = dml_pairwise_create,
    .forward_backward = forward_backward,
    .destroy = dml_pairwise_destroy,
};
