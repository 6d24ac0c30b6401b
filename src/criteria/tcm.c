/* Threshold-consistent margin. Zhang, Sun, Chen, Zhu, Zeng, Xing 2024, "Learning for transductive
 * threshold calibration in open-world recognition" and "Threshold-consistent margin loss for
 * open-world deep metric learning". Meant to be added to another criterion.
 *
 *     L = pos_weight mean_{positive pairs, c <= pos_margin} (pos_margin - c)
 *         + neg_weight mean_{negative pairs, c >= neg_margin} (c - neg_margin) */
#include "criteria/pairwise.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct options {
    double pos_margin;
    double neg_margin;
    double pos_weight;
    double neg_weight;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"loss_tcm_pos_margin", DML_PARAM_FLOAT, AT(pos_margin), "0.9", -1, 1,
     .help = "Positive pairs with a lower cosine are pulled together."},
    {"loss_tcm_neg_margin", DML_PARAM_FLOAT, AT(neg_margin), "0.5", -1, 1,
     .help = "Negative pairs with a higher cosine are pushed apart."},
    {"loss_tcm_pos_weight", DML_PARAM_FLOAT, AT(pos_weight), "1", 0, INFINITY,
     .help = "Weight of the positive pairs."},
    {"loss_tcm_neg_weight", DML_PARAM_FLOAT, AT(neg_weight), "1", 0, INFINITY,
     .help = "Weight of the negative pairs."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: tcm", struct options, params);

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
    const struct dml_hinge pos = dml_pairwise_hinge(p, DML_POSITIVE, o->pos_margin, -1);
    const struct dml_hinge neg = dml_pairwise_hinge(p, DML_NEGATIVE, o->neg_margin, 1);
    dml_pairwise_hinge_backward(p, DML_POSITIVE, o->pos_margin, -1, o->pos_weight * pos.share);
    dml_pairwise_hinge_backward(p, DML_NEGATIVE, o->neg_margin, 1, o->neg_weight * neg.share);
    *loss = (struct dml_loss){.tuples = dml_pairwise_count(p, DML_POSITIVE) +
                                        dml_pairwise_count(p, DML_NEGATIVE),
                              .active = pos.active + neg.active,
                              .value = o->pos_weight * pos.mean + o->neg_weight * neg.mean};
    dml_pairwise_cosines_backward(p, 1, grad);
    return DML_OK;
}

const struct dml_criterion dml_criterion_tcm = {
    .method = {.name = "tcm",
               .summary = "One threshold for all classes: pairs on the wrong side of a margin, "
                          "alongside another criterion",
               .paper = "Zhang et al. 2024, Threshold-consistent margin loss for open-world deep "
                        "metric learning",
               .params = &table},
    .takes = DML_TUPLES_NONE,
    .may_take = DML_TUPLES_LISTS,
    .takes_reference = true,
    .create = dml_pairwise_create,
    .forward_backward = forward_backward,
    .destroy = dml_pairwise_destroy,
};
