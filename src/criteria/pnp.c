/* PNP. Li, Min, Xiong, Zhang, Wang, Ji, Jiang, Wu 2022, "Rethinking the optimization of average
 * precision: only penalizing negative instances before positive ones is enough".
 *
 *     R(q,i) = sum_{j of other classes} sigmoid((c_qj - c_qi) / anneal)
 *     i: of q's class, q included
 *     L = mean over q and i of f(R)
 *
 *     O: R   Ds: log(1 + R)   Dq: 1 - (1 + R)^-alpha   Iu: (1 + R) log(1 + R)
 *     Ib: (b R - log(1 + b R)) / b^2
 *
 * Queries alone in their class are left out. */
#include "criteria/smooth_steps.h"

#include <string.h>

enum variant { O, DS, DQ, IU, IB };
static const char *const variants[] = {
    [O] = "O", [DS] = "Ds", [DQ] = "Dq", [IU] = "Iu", [IB] = "Ib", NULL};

struct options {
    enum variant variant;
    double anneal;
    double alpha;
    double b;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"loss_pnp_variant", DML_PARAM_CHOICE, AT(variant), "O", .choices = variants,
     .help = "How the number of negatives before a positive is penalised."},
    {"loss_pnp_anneal", DML_PARAM_FLOAT, AT(anneal), "0.01", 0, INFINITY, true,
     .help = "Divisor of the differences of cosines."},
    {"loss_pnp_alpha", DML_PARAM_FLOAT, AT(alpha), "1", 0, INFINITY, true,
     .help = "Exponent of the variant Dq."},
    {"loss_pnp_b", DML_PARAM_FLOAT, AT(b), "2", 0, INFINITY, true,
     .help = "Sharpness of the variant Ib."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: pnp", struct options, params);

/* f(r) and its slope. */
static double penalty(const struct options *o, double r, double *slope) {
    switch (o->variant) {
    case DS:
        *slope = 1 / (1 + r);
        return log1p(r);
    case DQ:
        *slope = o->alpha * pow(1 + r, -o->alpha - 1);
        return -expm1(-o->alpha * log1p(r));
    case IU:
        *slope = 1 + log1p(r);
        return (1 + r) * log1p(r);
    case IB:
        *slope = r / (1 + o->b * r);
        return (o->b * r - log1p(o->b * r)) / (o->b * o->b);
    case O:
        break;
    }
    *slope = 1;
    return r;
}

static double row(const void *data, struct dml_pairwise *p, size_t q, float *work) {
    const struct options *o = data;
    const size_t m = p->m;
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
        dml_smooth_steps(p->s + q * m, i, m, o->anneal, h, slope);
        double weight;
        loss += share * penalty(o, dml_steps_sum(h, relation, DML_NEGATIVE, m), &weight);
        dml_steps_pull(slope, relation, DML_NEGATIVE, share * weight, i, m, pull);
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

const struct dml_criterion dml_criterion_pnp = {
    .method = {.name = "pnp",
               .summary = "Penalises the negatives that rank before a positive",
               .paper = "Li et al. 2022, Rethinking the optimization of average precision: only "
                        "penalizing negative instances before positive ones is enough",
               .params = &table},
    .takes = DML_TUPLES_NONE,
    .create = dml_pairwise_create,
    .forward_backward = forward_backward,
    .destroy = dml_pairwise_destroy,
};
