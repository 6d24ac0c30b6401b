/* Ranked list loss. Wang, Hua, Kodirov, Hu, Garnier, Robertson 2019, "Ranked list loss for deep
 * metric learning".
 *
 *     positives with x = u - (alpha - margin) > 0, w = exp(Tp x)
 *     negatives with x = alpha - u > 0 and u > 0,  w = exp(Tn x)
 *     L_a = (1 - imbalance) sum w x / (sum w + n 1e-5) over the positives
 *           + imbalance sum w x / (sum w + n 1e-5) over the negatives
 *     L = mean over all n anchors
 *
 * u is the distance of the normalised embeddings. Gradients flow through the weights. */
#include "criteria/pairwise.h"

#include "math/transcendental.h"

struct options {
    double margin;
    double alpha;
    double Tp;
    double Tn;
    double imbalance;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"loss_ranked_list_margin", DML_PARAM_FLOAT, AT(margin), "0.4", 0, 2,
     .help = "Gap between the distances of positives and of negatives."},
    {"loss_ranked_list_alpha", DML_PARAM_FLOAT, AT(alpha), "1.2", 0, 4,
     .help = "Distance beyond which negatives cost nothing."},
    {"loss_ranked_list_Tp", DML_PARAM_FLOAT, AT(Tp), "0", 0, INFINITY,
     .help = "How sharply positives are weighted by their distance."},
    {"loss_ranked_list_Tn", DML_PARAM_FLOAT, AT(Tn), "10", 0, INFINITY,
     .help = "How sharply negatives are weighted by their distance."},
    {"loss_ranked_list_imbalance", DML_PARAM_FLOAT, AT(imbalance), "0.5", 0, 1,
     .help = "Share of the negatives in the loss."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: ranked_list", struct options, params);

/* The pairs of one kind: x = sign (u - bound) > 0, weighted by exp(t x). Adds their part of g; `w`
 * is workspace for m floats. A pair of the kind has sign `sign` in `signs`. */
static double side(struct dml_pairwise *p, size_t i, const float *signs, double bound, float sign,
                   double t, double share, float *w) {
    const double *u = p->s + i * p->m;
    float *g = p->g + i * p->m;
    double most = 0, weights = 0, sum = 0; /* weights are relative to exp(most) */
#pragma omp simd reduction(max : most)
    for (size_t j = 0; j < p->m; j++) {
        double exponent = t * sign * (u[j] - bound);
        exponent = (signs[j] == sign) & (u[j] > 0) ? exponent : 0;
        most = exponent > most ? exponent : most;
    }
#pragma omp simd reduction(+ : weights, sum)
    for (size_t j = 0; j < p->m; j++) {
        double x = sign * (u[j] - bound);
        int counts = (signs[j] == sign) & (u[j] > 0) & (x > 0);
        w[j] = dml_expf((float)(counts ? t * x - most : -1e4));
        weights += w[j];
        sum += w[j] * x;
    }
    if (sum == 0)
        return 0;
    weights += (double)p->n * 1e-5 * exp(-most);
    const double mean = sum / weights, factor = share * sign / weights;
#pragma omp simd
    for (size_t j = 0; j < p->m; j++)
        g[j] += (float)(factor * w[j] * (1 + t * (sign * (u[j] - bound) - mean)));
    return share * mean;
}

static double row(const void *data, struct dml_pairwise *p, size_t i, float *work) {
    const struct options *o = data;
    float *signs = work + p->m;
    dml_row_signs(p->relation + i * p->m, p->m, signs);
    return side(p, i, signs, o->alpha - o->margin, 1, o->Tp, 1 - o->imbalance, work) +
           side(p, i, signs, o->alpha, -1, o->Tn, o->imbalance, work);
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)rng;
    return dml_pairwise_step(data, batch, tuples, DML_UNIT_DISTANCES, DML_OVER_SAMPLES, row, grad,
                             loss);
}

const struct dml_criterion dml_criterion_ranked_list = {
    .method = {.name = "ranked_list",
               .summary = "Pulls positives into a ball and pushes negatives out of a larger one, "
                          "weighted by distance",
               .paper = "Wang et al. 2019, Ranked list loss for deep metric learning",
               .params = &table},
    .takes = DML_TUPLES_NONE,
    .create = dml_pairwise_create,
    .forward_backward = forward_backward,
    .destroy = dml_pairwise_destroy,
};
