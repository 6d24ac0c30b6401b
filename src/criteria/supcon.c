/* Supervised contrastive loss. Khosla, Teterwak, Wang, Sarna, Tian, Isola, Maschinot, Liu, Krishnan
 * 2020, "Supervised contrastive learning".
 *
 *     L_a = LSE_{j in P u N}(c_aj / T) - mean_{p in P} c_ap / T
 *     L = mean over the anchors with a positive */
#include "criteria/classmates.h"
#include "criteria/exponentials.h"
#include "criteria/pairwise.h"

#include "math/reduce.h"

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

struct state {
    struct dml_pairwise_state pairwise; /* for pairs, references and low temperatures */
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

/* A step on exponentials k_ij = exp(c_ij / T), where P_a and N_a are their sums over positives and
 * negatives: L_a = log(1 + N_a / P_a) + log P_a - mean_p log k_ap, dL_a/dc_aj = (k_aj / (P_a + N_a)
 * - [j in P] / |P|) / T. */
struct step {
    const struct dml_exponentials *exponentials;
    const int32_t *labels;
    double *losses;  /* (n) */
    float *rates;    /* (n): 1 / (P_a + N_a), 0 without positives */
    float *pulls;    /* (n): 1 / |P|; of a single positive, -T dL_a/dc_ap; 0 without positives */
    uint32_t *mates; /* (n): rings of classmates */
};

static void anchor(const struct step *step, size_t a) {
    const size_t n = step->exponentials->symmetric.n;
    const float *k = step->exponentials->k + a * n;
    double logs = 0, count = 0;
    for (size_t p = step->mates[a]; p != a; p = step->mates[p]) {
        logs += dml_logf(k[p]);
        count++;
    }
    step->losses[a] = step->rates[a] = step->pulls[a] = 0;
    if (count == 0)
        return;
    const struct dml_label_sums sums = dml_sum_by_label(k, step->labels, step->labels[a], n);
    const double rate = 1 / (sums.same + sums.others);
    const double spread = count == 1 ? 0 : log(sums.same) - logs / count;
    step->losses[a] = log1p(sums.others / sums.same) + spread;
    step->rates[a] = (float)rate;
    step->pulls[a] = (float)(count == 1 ? sums.others * rate : 1 / count);
}

/* Row i of dL/dc + (dL/dc)^T, times T and the number of anchors. */
static void fill(const void *data, size_t i, float *f) {
    const struct step *step = data;
    const size_t n = step->exponentials->symmetric.n, mate = step->mates[i];
    const float *k = step->exponentials->k + i * n, *rates = step->rates, own = rates[i];
#pragma omp simd
    for (size_t j = 0; j < n; j++)
        f[j] = k[j] * (own + rates[j]);
    if (mate != i && step->mates[mate] == i)
        f[mate] = 0; /* is in the pull */
    for (size_t p = mate; p != i; p = step->mates[p])
        f[p] -= step->pulls[i] + step->pulls[p];
}

static void by_exponentials(const struct step *step, double inverse, float *grad,
                            struct dml_loss *loss) {
    const size_t n = step->exponentials->symmetric.n;
    double sum = 0;
    size_t anchors = 0, active = 0;
#pragma omp parallel for schedule(dynamic, 8) if (n > 128)
    for (size_t a = 0; a < n; a++)
        anchor(step, a);
    for (size_t a = 0; a < n; a++) {
        sum += step->losses[a];
        anchors += step->rates[a] > 0;
        active += step->losses[a] > 0;
    }
    if (anchors > 0) {
        *loss = (struct dml_loss){sum / (double)anchors, anchors, active};
        dml_symmetric_backward(&step->exponentials->symmetric, fill, step,
                               inverse / (double)anchors, grad);
    }
}

static bool lay_out(struct state *state, const struct dml_batch *batch, struct step *step) {
    const size_t n = batch->n, table = dml_classmates_table(n);
    *step = (struct step){.exponentials = &state->exponentials, .labels = batch->labels};
    step->losses = dml_buffer_reserve(&state->memory, 5 * n + table, sizeof *step->rates);
    if (!step->losses)
        return false;
    step->rates = (float *)(step->losses + n);
    step->pulls = step->rates + n;
    step->mates = (uint32_t *)(step->pulls + n);
    dml_classmates(batch->labels, n, step->mates + n, step->mates);
    return true;
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)rng;
    struct state *state = data;
    const double inverse = 1 / ((const struct options *)state->pairwise.options)->temperature;
    struct step step;
    bool fits = false;
    if (!tuples && !batch->reference && inverse < DML_EXPONENT_MOST) {
        if (!lay_out(state, batch, &step))
            return DML_ERROR_MEMORY;
        enum dml_status status =
            dml_exponentials_forward(&state->exponentials, batch, true, inverse, &fits);
        if (status)
            return status;
        if (fits) {
            dml_loss_none(batch, 0, grad, loss);
            by_exponentials(&step, inverse, grad, loss);
            return DML_OK;
        }
    }
    return dml_pairwise_narrow_step(data, batch, tuples, inverse, DML_OVER_ANCHORS, row, grad,
                                    loss);
}

const struct dml_criterion dml_criterion_supcon = {
    .method = {.name = "supcon",
               .summary = "Cross entropy of all positives of an anchor against all other samples",
               .paper = "Khosla et al. 2020, Supervised contrastive learning",
               .params = &table},
    .takes = DML_TUPLES_NONE,
    .may_take = DML_TUPLES_LISTS,
    .takes_reference = true,
    .create = create,
    .forward_backward = forward_backward,
    .destroy = destroy,
};
