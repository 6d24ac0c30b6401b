/* Quadruplet loss. Chen, Chen, Zhang, Huang 2017, "Beyond triplet loss: a deep quadruplet network
 * for person re-identification".
 *
 *     d(x, y) = ||x - y||
 *     L = mean_t [d(a,p) - d(a,n) + alpha_1]+ + mean_t [d(a,p) - d(n,m) + alpha_2]+
 *
 * m, the fourth sample, is drawn uniformly among those of the batch whose class is neither the
 * anchor's nor the negative's, unless the tuples supply it. Where there is none, a triplet has only
 * its first term; both means still divide by the number of triplets. dd/dx = (x - y) / d, taken as
 * 0 where d is 0. */
#include "criteria/common.h"

#include <math.h>
#include <stdlib.h>

struct options {
    double alpha_1, alpha_2;
};

static const struct dml_param params[] = {
    {.name = "loss_quadruplet_margin_alpha_1",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, alpha_1),
     .fallback = "0.2",
     .max = INFINITY,
     .help = "Margin between the positive's and the negative's distance to the anchor."},
    {.name = "loss_quadruplet_margin_alpha_2",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, alpha_2),
     .fallback = "0.2",
     .max = INFINITY,
     .help = "Margin between the positive's distance and that of two negatives."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: quadruplet", struct options, params);

static enum dml_status create(const void *options, const struct dml_criterion_context *context,
                              void **state) {
    (void)context;
    return dml_state_new(sizeof(struct options), options, sizeof(struct options), state);
}

static bool is_fourth(const struct dml_batch *batch, size_t m, int32_t a, int32_t n) {
    return batch->labels[m] != batch->labels[a] && batch->labels[m] != batch->labels[n];
}

/* Draws by rejection, which nearly always ends at once; counts and picks when it does not.
 * -1: the batch holds no third class. */
static int32_t draw_fourth(const struct dml_batch *batch, int32_t a, int32_t n,
                           struct dml_rng *rng) {
    for (int attempt = 0; attempt < 8; attempt++) {
        size_t m = dml_rng_below(rng, batch->n);
        if (is_fourth(batch, m, a, n))
            return (int32_t)m;
    }
    size_t found = 0;
    for (size_t m = 0; m < batch->n; m++)
        found += is_fourth(batch, m, a, n);
    if (found == 0)
        return -1;
    size_t left = dml_rng_below(rng, found);
    for (size_t m = 0;; m++)
        if (is_fourth(batch, m, a, n) && left-- == 0)
            return (int32_t)m;
}

/* [d(a,p) - d(i,j) + alpha]+ times weight, with its gradient. */
static double term(const struct dml_batch *batch, int32_t a, int32_t p, int32_t i, int32_t j,
                   double alpha, double weight, float *grad) {
    double near = dml_pair_distance(batch, (size_t)a, (size_t)p, 0);
    double far = dml_pair_distance(batch, (size_t)i, (size_t)j, 0);
    double value = near - far + alpha;
    if (value <= 0)
        return 0;
    if (near > 0)
        dml_pair_pull(batch, (size_t)a, (size_t)p, 0, weight / near, grad);
    if (far > 0)
        dml_pair_pull(batch, (size_t)i, (size_t)j, 0, -weight / far, grad);
    return value * weight;
}

static enum dml_status forward_backward(void *state, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    const struct options *options = state;
    if (!tuples->fourth && !rng && tuples->count)
        return dml_fail(DML_ERROR_INPUT,
                        "quadruplet: neither fourth samples nor a generator to draw them");
    dml_loss_none(batch, tuples->count, grad, loss);
    double weight = 1 / (double)tuples->count;
    for (size_t t = 0; t < tuples->count; t++) {
        int32_t a = tuples->anchors[t], p = tuples->positives[t], n = tuples->negatives[t];
        int32_t m = tuples->fourth ? tuples->fourth[t] : draw_fourth(batch, a, n, rng);
        double value = term(batch, a, p, a, n, options->alpha_1, weight, grad);
        if (m >= 0)
            value += term(batch, a, p, n, m, options->alpha_2, weight, grad);
        loss->value += value;
        loss->active += value > 0;
    }
    return DML_OK;
}

const struct dml_criterion dml_criterion_quadruplet = {
    .method = {.name = "quadruplet",
               .summary = "Triplet loss with a second margin, to a pair from two other classes",
               .paper = "Chen et al. 2017, Beyond triplet loss: a deep quadruplet network for "
                        "person re-identification",
               .params = &table},
    .takes = DML_TUPLES_TRIPLETS,
    .create = create,
    .forward_backward = forward_backward,
    .destroy = free,
};
