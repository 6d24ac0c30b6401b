/* Lifted structured embedding. Song, Xiang, Jegelka, Savarese 2016, "Deep metric learning via
 * lifted structured feature embedding".
 *
 *     J_ap = log(sum_{n in N(a)} exp(neg_margin - d_an) + sum_{n in N(p)} exp(neg_margin - d_pn))
 *            + d_ap - pos_margin
 *     L = sum over positive pairs [J]+^2 / (2 x number of positive pairs)
 *
 * A pair without any negative costs nothing. A sample's negatives are summed once; the weights that
 * its pairs give them are added up before the gradient is passed on. */
#include "criteria/pairwise.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct options {
    double neg_margin;
    double pos_margin;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"loss_lifted_original_neg_margin", DML_PARAM_FLOAT, AT(neg_margin), "1", 0, INFINITY,
     .help = "Distance beyond which negatives hardly count."},
    {"loss_lifted_original_pos_margin", DML_PARAM_FLOAT, AT(pos_margin), "0", 0, INFINITY,
     .help = "Distance that positive pairs may have."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: lifted_original", struct options, params);

/* The log of the sum over the row's negatives, and e_j / sum at its negatives in g. */
static double row(const void *data, struct dml_pairwise *p, size_t i, float *work) {
    const struct options *o = data;
    const double *d = p->s + i * p->m;
    double *z = (double *)work;
    for (size_t j = 0; j < p->m; j++)
        z[j] = o->neg_margin - d[j];
    return dml_row_lse(p->relation + i * p->m, DML_NEGATIVE, p->m, z, p->g + i * p->m);
}

/* J of all positive pairs: the sum of [J]+^2, dL/dJ in g, and in `weights` (n) what each row's
 * negatives are weighted by. */
static double positives(const struct options *o, struct dml_pairwise *p, double *weights,
                        size_t *active) {
    double sum = 0;
    memset(weights, 0, p->n * sizeof *weights);
    for (size_t a = 0; a < p->n; a++)
        for (size_t q = 0; q < p->n; q++) {
            if (p->relation[a * p->m + q] != DML_POSITIVE)
                continue;
            double most = fmax(p->losses[a], p->losses[q]);
            if (most == -INFINITY)
                continue;
            double own = exp(p->losses[a] - most), other = exp(p->losses[q] - most);
            double j = most + log(own + other) + p->s[a * p->m + q] - o->pos_margin;
            if (j <= 0)
                continue;
            sum += j * j;
            weights[a] += j * own / (own + other);
            weights[q] += j * other / (own + other);
            p->g[a * p->m + q] = (float)j;
            ++*active;
        }
    return sum;
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)rng;
    struct dml_pairwise_state *state = data;
    struct dml_pairwise *p = &state->pairs;
    enum dml_status status = dml_pairwise_distances(p, batch, tuples, false);
    if (status)
        return status;
    size_t count = dml_pairwise_count(p, DML_POSITIVE);
    dml_loss_none(batch, count, grad, loss);
    if (count == 0)
        return DML_OK;
    dml_pairwise_sum(p, row, state->options);
    double *weights = (double *)p->rows;
    loss->value = positives(state->options, p, weights, &loss->active) / (2 * (double)count);
    for (size_t i = 0; i < p->n; i++)
        for (size_t j = 0; j < p->m; j++)
            if (p->relation[i * p->m + j] == DML_NEGATIVE)
                p->g[i * p->m + j] *= (float)-weights[i];
    dml_pairwise_distances_backward(p, 1 / (double)count, grad);
    return DML_OK;
}

const struct dml_criterion dml_criterion_lifted_original = {
    .method = {.name = "lifted_original",
               .summary = "Each positive pair against the negatives of both of its samples",
               .paper =
                   "Song et al. 2016, Deep metric learning via lifted structured feature embedding",
               .params = &table},
    .takes = DML_TUPLES_NONE,
    .may_take = DML_TUPLES_LISTS,
    .create = dml_pairwise_create,
    .forward_backward = forward_backward,
    .destroy = dml_pairwise_destroy,
};
