/* Neighbourhood components analysis, its log form. Goldberger, Hinton, Roweis, Salakhutdinov 2004,
 * "Neighbourhood components analysis".
 *
 *     L_a = LSE_{j in P u N}(-s u_aj^2) - LSE_{j in P}(-s u_aj^2),  u^2 = 2 - 2 c
 *     L = mean over the anchors with a positive */
#include "criteria/exponentials.h"
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

struct state {
    struct dml_pairwise_state pairwise; /* for pairs, references and large scales */
    struct dml_exponentials exponentials;
    struct dml_buffer memory;
};

static enum dml_status create(const void *options, const struct dml_criterion_context *context,
                              void **out) {
    (void)context;
    return dml_pairwise_new(sizeof(struct state), options, out);
}

static void destroy(void *data) {
    struct state *state = data;
    if (state) {
        dml_exponentials_free(&state->exponentials);
        dml_buffer_free(&state->memory);
    }
    dml_pairwise_destroy(data);
}

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

/* A step on exponentials k_ij = exp(2 s c_ij): with P_a and N_a their sums over the positives and
 * negatives of a, L_a = log(1 + N_a / P_a). */
struct step {
    const struct dml_exponentials *exponentials;
    const int32_t *labels;
    double *losses;        /* (n) */
    float *away, *towards; /* (n): dL_a/dc_aj over 2 s k_aj; 0 without positives */
};

static void anchor(const struct step *step, size_t a) {
    const size_t n = step->exponentials->symmetric.n;
    const struct dml_label_sums sums =
        dml_sum_by_label(step->exponentials->k + a * n, step->labels, step->labels[a], n);
    const double odds = sums.others / sums.same;
    const bool any = sums.same > 0;
    step->losses[a] = any ? log1p(odds) : 0;
    step->away[a] = any ? (float)(1 / (sums.same + sums.others)) : 0;
    step->towards[a] = any ? (float)(-odds / (sums.same + sums.others)) : 0;
}

/* Row i of dL/dc + (dL/dc)^T over 2 s. */
static void fill(const void *data, size_t i, float *f) {
    const struct step *step = data;
    const size_t n = step->exponentials->symmetric.n;
    const float *k = step->exponentials->k + i * n, *away = step->away, *towards = step->towards;
    const float own_away = away[i], own_towards = towards[i];
    const int32_t *labels = step->labels, label = labels[i];
#pragma omp simd
    for (size_t j = 0; j < n; j++) {
        float apart = own_away + away[j], together = own_towards + towards[j];
        f[j] = k[j] * (labels[j] == label ? together : apart);
    }
}

static void by_exponentials(const struct step *step, double scale, float *grad,
                            struct dml_loss *loss) {
    const size_t n = step->exponentials->symmetric.n;
    double sum = 0;
    size_t anchors = 0, active = 0;
#pragma omp parallel for schedule(dynamic, 8) if (n > 128)
    for (size_t a = 0; a < n; a++)
        anchor(step, a);
    for (size_t a = 0; a < n; a++) {
        sum += step->losses[a];
        anchors += step->away[a] > 0;
        active += step->losses[a] > 0;
    }
    if (anchors > 0) {
        *loss = (struct dml_loss){sum / (double)anchors, anchors, active};
        dml_symmetric_backward(&step->exponentials->symmetric, fill, step, scale / (double)anchors,
                               grad);
    }
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)rng;
    struct state *state = data;
    const size_t n = batch->n;
    const double scale = 2 * ((const struct options *)state->pairwise.options)->softmax_scale;
    struct step step = {.exponentials = &state->exponentials, .labels = batch->labels};
    bool fits = false;
    if (!tuples && !batch->reference && scale < DML_EXPONENT_MOST) {
        step.losses = dml_buffer_reserve(&state->memory, 4 * n, sizeof(float));
        if (!step.losses)
            return DML_ERROR_MEMORY;
        step.away = (float *)(step.losses + n);
        step.towards = step.away + n;
        enum dml_status status =
            dml_exponentials_forward(&state->exponentials, batch, true, scale, &fits);
        if (status)
            return status;
        if (fits) {
            dml_loss_none(batch, 0, grad, loss);
            by_exponentials(&step, scale, grad, loss);
            return DML_OK;
        }
    }
    return dml_pairwise_narrow_step(data, batch, tuples, scale, DML_OVER_ANCHORS, row, grad, loss);
}

const struct dml_criterion dml_criterion_nca = {
    .method = {.name = "nca",
               .summary = "Probability that a neighbour drawn by distance is of the sample's class",
               .paper = "Goldberger et al. 2004, Neighbourhood components analysis",
               .params = &table},
    .takes = DML_TUPLES_NONE,
    .may_take = DML_TUPLES_LISTS,
    .takes_reference = true,
    .create = create,
    .forward_backward = forward_backward,
    .destroy = destroy,
};
