/* Intra-pair variance loss. Yu, Tao 2019, "Deep metric learning with tuplet margin loss".
 *
 *     L = mean_pos [(1 - pos_eps) m+ - c]+^2 + mean_neg [c - (1 + neg_eps) m-]+^2
 *
 * m+ and m- are the mean cosines of the positive and of the negative pairs; gradients flow through
 * them. */
#include "criteria/pairwise.h"

#include <math.h>
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

/* What the pairs of one kind cost; their part of g. `sign` is 1 where cosines shall be high. */
static double spread(struct dml_pairwise *p, enum dml_relation relation, double eps, double sign) {
    size_t count = dml_pairwise_count(p, relation);
    if (count == 0)
        return 0;
    double sum = 0, squares = 0, short_by = 0;
    for (size_t k = 0; k < p->n * p->m; k++)
        sum += p->relation[k] == relation ? p->s[k] : 0;
    const double factor = 1 - sign * eps, bound = factor * sum / (double)count;
    for (size_t k = 0; k < p->n * p->m; k++) {
        double term = p->relation[k] == relation ? fmax(sign * (bound - p->s[k]), 0) : 0;
        squares += term * term;
        short_by += term;
    }
    const double share = 1 / (double)count, mean = factor * short_by * share;
    for (size_t k = 0; k < p->n * p->m; k++)
        if (p->relation[k] == relation)
            p->g[k] = (float)(2 * sign * share * (mean - fmax(sign * (bound - p->s[k]), 0)));
    return squares * share;
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
    size_t count = dml_pairwise_count(p, DML_POSITIVE) + dml_pairwise_count(p, DML_NEGATIVE);
    *loss = (struct dml_loss){.tuples = count, .active = count};
    loss->value = spread(p, DML_POSITIVE, o->pos_eps, 1) + spread(p, DML_NEGATIVE, o->neg_eps, -1);
    dml_pairwise_cosines_backward(p, 1, grad);
    return DML_OK;
}

const struct dml_criterion dml_criterion_intra_pair_variance = {
    .method = {.name = "intra_pair_variance",
               .summary = "Draws the similarities of positive and of negative pairs to their means",
               .paper = "Yu and Tao 2019, Deep metric learning with tuplet margin loss",
               .params = &table},
    .takes = DML_TUPLES_NONE,
    .may_take = DML_TUPLES_LISTS,
    .takes_reference = true,
    .create = dml_pairwise_create,
    .forward_backward = forward_backward,
    .destroy = dml_pairwise_destroy,
};
