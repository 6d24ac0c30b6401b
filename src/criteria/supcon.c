/* Supervised contrastive loss. Khosla, Teterwak, Wang, Sarna, Tian, Isola, Maschinot, Liu, Krishnan
 * 2020, "Supervised contrastive learning".
 *
 *     L_a = LSE_{j in P u N}(c_aj / T) - mean_{p in P} c_ap / T
 *     L = mean over the anchors with a positive */
#include "criteria/pairwise.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct options {
    double temperature;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"loss_supcon_temperature", DML_PARAM_FLOAT, AT(temperature), "0.1", 0, INFINITY, true,
     .help = "Divisor of the cosines."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: supcon", struct options, params);

static double row(const void *data, struct dml_pairwise *p, size_t i, float *work) {
    const struct options *o = data;
    const size_t m = p->m;
    if (p->positives[i] == 0)
        return 0;
    const double inverse = 1 / o->temperature, share = 1.0 / p->positives[i];
    const double *c = dml_pairwise_row_of(p, i, work);
    const uint8_t *relation = p->relation + i * m;
    double *z = (double *)work, mean = 0;
    float *e = work + 2 * m, *signs = work + 3 * m, *g = p->g + i * m;
#pragma omp simd
    for (size_t j = 0; j < m; j++)
        z[j] = inverse * c[j];
    struct dml_row_lses lses = dml_row_lse_both(relation, m, z, e, signs);
#pragma omp simd reduction(+ : mean)
    for (size_t j = 0; j < m; j++)
        mean += signs[j] > 0 ? z[j] : 0;
    struct dml_row_shares shares = dml_row_shares_of(&lses);
    /* Of a single positive the sum over positives and their mean cancel. */
    const bool single = p->positives[i] == 1;
    const float away = (float)(inverse * shares.negatives * lses.negative_factor);
    const float towards = single ? 0 : (float)(inverse * shares.positives * lses.positive_factor);
    const float target = (float)(inverse * (single ? shares.negatives : share));
#pragma omp simd
    for (size_t j = 0; j < m; j++)
        g[j] = signs[j] > 0 ? e[j] * towards - target : e[j] * away;
    double spread = single ? 0 : lses.positive_shift + log(lses.positive_sum) - share * mean;
    return spread + shares.loss;
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)rng;
    const struct options *o = ((struct dml_pairwise_state *)data)->options;
    return dml_pairwise_narrow_step(data, batch, tuples, 1 / o->temperature, DML_OVER_ANCHORS, row,
                                    grad, loss);
}

const struct dml_criterion dml_criterion_supcon = {
    .method = {.name = "supcon",
               .summary = "Cross entropy of all positives of an anchor against all other samples",
               .paper = "Khosla et al. 2020, Supervised contrastive learning",
               .params = &table},
    .takes = DML_TUPLES_NONE,
    .may_take = DML_TUPLES_LISTS,
    .takes_reference = true,
    .create = dml_pairwise_create,
    .forward_backward = forward_backward,
    .destroy = dml_pairwise_destroy,
};
