/* Contrastive loss. Hadsell, Chopra, LeCun 2006, "Dimensionality reduction by learning an invariant
 * mapping".
 *
 *     d(x, y) = ||x - y + 1e-6||
 *     L = mean_t [d(a,p) - m+]+ + mean_t [m- - d(a,n)]+
 *
 * Each active term gives dL/dd = +-1/T over T triplets, with dd/dx = (x - y + 1e-6) / d. With a
 * reference: all pairs of a sample and a reference sample, and for each kind the mean of the terms
 * above 0. */
#include "criteria/pairwise.h"

#include <math.h>
#include <stdlib.h>

struct options {
    double pos_margin, neg_margin;
};

static const struct dml_param params[] = {
    {.name = "loss_contrastive_pos_margin",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, pos_margin),
     .fallback = "0",
     .max = INFINITY,
     .help = "Distance up to which positives cost nothing."},
    {.name = "loss_contrastive_neg_margin",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, neg_margin),
     .fallback = "1",
     .max = INFINITY,
     .help = "Distance beyond which negatives cost nothing."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: contrastive", struct options, params);

/* All pairs with the reference. */
static enum dml_status compare(struct dml_pairwise_state *state, const struct dml_batch *batch,
                               float *grad, struct dml_loss *loss) {
    const struct options *o = state->options;
    struct dml_pairwise *p = &state->pairs;
    p->shift = DML_PAIR_OFFSET;
    enum dml_status status = dml_pairwise_distances(p, batch, NULL, false);
    if (status)
        return status;
    const struct dml_hinge pos = dml_pairwise_hinge(p, DML_POSITIVE, o->pos_margin, 1);
    const struct dml_hinge neg = dml_pairwise_hinge(p, DML_NEGATIVE, o->neg_margin, -1);
    dml_pairwise_hinge_backward(p, DML_POSITIVE, o->pos_margin, 1, pos.share);
    dml_pairwise_hinge_backward(p, DML_NEGATIVE, o->neg_margin, -1, neg.share);
    *loss = (struct dml_loss){.value = pos.mean + neg.mean,
                              .tuples = dml_pairwise_count(p, DML_POSITIVE) +
                                        dml_pairwise_count(p, DML_NEGATIVE),
                              .active = pos.active + neg.active};
    dml_pairwise_distances_backward(p, 1, grad);
    return DML_OK;
}

/* One term: sign 1 is [d - margin]+, sign -1 is [margin - d]+. Returns its value. */
static double pair(const struct dml_batch *batch, int32_t i, int32_t j, double margin, int sign,
                   double weight, float *grad) {
    double d = dml_pair_distance(batch, (size_t)i, (size_t)j, DML_PAIR_OFFSET);
    double value = sign * (d - margin);
    if (value <= 0)
        return 0;
    if (d > 0)
        dml_pair_pull(batch, (size_t)i, (size_t)j, DML_PAIR_OFFSET, sign * weight / d, grad);
    return value * weight;
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)rng;
    struct dml_pairwise_state *state = data;
    const struct options *options = state->options;
    if (batch->reference)
        return compare(state, batch, grad, loss);
    dml_loss_none(batch, tuples->count, grad, loss);
    double weight = 1 / (double)tuples->count;
    for (size_t t = 0; t < tuples->count; t++) {
        int32_t a = tuples->anchors[t];
        double term = pair(batch, a, tuples->positives[t], options->pos_margin, 1, weight, grad) +
                      pair(batch, a, tuples->negatives[t], options->neg_margin, -1, weight, grad);
        loss->value += term;
        loss->active += term > 0;
    }
    return DML_OK;
}

const struct dml_criterion dml_criterion_contrastive = {
    .method = {.name = "contrastive",
               .summary = "Pulls positives together, pushes negatives beyond a margin",
               .paper = "Hadsell et al. 2006, Dimensionality reduction by learning an invariant "
                        "mapping",
               .params = &table},
    .takes = DML_TUPLES_TRIPLETS,
    .takes_reference = true,
    .create = dml_pairwise_create,
    .forward_backward = forward_backward,
    .destroy = dml_pairwise_destroy,
};
