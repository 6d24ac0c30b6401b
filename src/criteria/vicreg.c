/* VICReg. Bardes, Ponce, LeCun 2022, "VICReg: variance-invariance-covariance regularization for
 * self-supervised learning", with anchors and positives as the two views.
 *
 *     L = invariance_weight mean (a - p)^2 + variance_weight (v(a) + v(p))
 *         + covariance_weight (k(a) + k(p))
 *     v(x) = 1/2 mean_k [1 - sqrt(var_k + eps)]+,  k(x) = sum_{k != l} cov_kl^2 / dim
 *
 * Variances are unbiased, over the tuples. With x centred, T tuples and s_k = sqrt(var_k + eps):
 * dv/dx_tk = -x_tk / (2 dim s_k (T - 1)) where s_k < 1, and dk/dx = 4 x C / (dim (T - 1)), C the
 * covariances without their diagonal. Fewer than two tuples cost nothing. */
#include "criteria/common.h"

#include "math/linear.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct options {
    double invariance_weight;
    double variance_weight;
    double covariance_weight;
    double eps;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"loss_vicreg_invariance_weight", DML_PARAM_FLOAT, AT(invariance_weight), "25", 0, INFINITY,
     .help = "Weight of the squared differences."},
    {"loss_vicreg_variance_weight", DML_PARAM_FLOAT, AT(variance_weight), "25", 0, INFINITY,
     .help = "Weight of the variances below 1."},
    {"loss_vicreg_covariance_weight", DML_PARAM_FLOAT, AT(covariance_weight), "1", 0, INFINITY,
     .help = "Weight of the squared covariances."},
    {"loss_vicreg_eps", DML_PARAM_FLOAT, AT(eps), "0.0001", 0, INFINITY,
     .help = "Added to a variance before its root is taken."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: vicreg", struct options, params);

struct state {
    struct options options;
    struct dml_buffer memory;
};

static void destroy(void *data) {
    struct state *state = data;
    if (state)
        dml_buffer_free(&state->memory);
    free(state);
}

static enum dml_status create(const void *options, const struct dml_criterion_context *context,
                              void **out) {
    (void)context;
    return dml_state_new(sizeof(struct state), options, sizeof(struct options), out);
}

/* One view of T tuples, its two gradients, and its covariances. */
struct view {
    size_t tuples, dim;
    double *x, *grad; /* (tuples, dim) */
    double *c;        /* (dim, dim) */
};

static void centre(struct view *v) {
    for (size_t k = 0; k < v->dim; k++) {
        double mean = 0;
        for (size_t t = 0; t < v->tuples; t++)
            mean += v->x[t * v->dim + k];
        mean /= (double)v->tuples;
        for (size_t t = 0; t < v->tuples; t++)
            v->x[t * v->dim + k] -= mean;
    }
}

/* Variance and covariance terms of a view, weighted; adds their gradient. */
static double spread(const struct options *o, struct view *v) {
    const size_t dim = v->dim;
    const double free_tuples = (double)v->tuples - 1;
    double variance = 0, covariance = 0;
    centre(v);
    dml_gemm64(1, 0, dim, dim, v->tuples, 1 / free_tuples, v->x, dim, v->x, dim, 0, v->c, dim);
    for (size_t k = 0; k < dim; k++) {
        double deviation = sqrt(v->c[k * dim + k] + o->eps);
        v->c[k * dim + k] = 0;
        if (deviation >= 1)
            continue;
        variance += (1 - deviation) / (2 * (double)dim);
        double slope = deviation > 0 ? -1 / (2 * (double)dim * deviation * free_tuples) : 0;
        for (size_t t = 0; t < v->tuples; t++)
            v->grad[t * dim + k] += o->variance_weight * slope * v->x[t * dim + k];
    }
    for (size_t k = 0; k < dim * dim; k++)
        covariance += v->c[k] * v->c[k] / (double)dim;
    dml_gemm64(0, 0, v->tuples, dim, dim, 4 * o->covariance_weight / ((double)dim * free_tuples),
               v->x, dim, v->c, dim, 1, v->grad, dim);
    return o->variance_weight * variance + o->covariance_weight * covariance;
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)rng;
    struct state *state = data;
    const struct options *o = &state->options;
    const size_t count = tuples->count, dim = batch->dim, size = count * dim;
    double *memory =
        dml_buffer_reserve(&state->memory, 4 * size + dim * dim + batch->n * dim, sizeof *memory);
    if (!memory)
        return DML_ERROR_MEMORY;
    dml_loss_none(batch, count, grad, loss);
    if (count < 2)
        return DML_OK;
    const int32_t *const samples[2] = {tuples->anchors, tuples->positives};
    struct view views[2];
    double *sums = memory + 4 * size + dim * dim; /* (n, dim) */
    for (int v = 0; v < 2; v++) {
        double *x = memory + 2 * (size_t)v * size;
        views[v] = (struct view){count, dim, x, x + size, memory + 4 * size};
        for (size_t t = 0; t < count; t++)
            for (size_t k = 0; k < dim; k++)
                x[t * dim + k] = batch->embeddings[(size_t)samples[v][t] * dim + k];
    }
    const double share = o->invariance_weight / (double)size;
    for (size_t i = 0; i < size; i++) {
        double difference = views[0].x[i] - views[1].x[i];
        loss->value += share * difference * difference;
        views[0].grad[i] = 2 * share * difference;
        views[1].grad[i] = -2 * share * difference;
    }
    memset(sums, 0, batch->n * dim * sizeof *sums);
    for (int v = 0; v < 2; v++) {
        loss->value += spread(o, &views[v]);
        for (size_t t = 0; t < count; t++)
            for (size_t k = 0; k < dim; k++)
                sums[(size_t)samples[v][t] * dim + k] += views[v].grad[t * dim + k];
    }
    for (size_t i = 0; i < batch->n * dim; i++)
        grad[i] = (float)sums[i];
    loss->active = count;
    return DML_OK;
}

const struct dml_criterion dml_criterion_vicreg = {
    .method =
        {.name = "vicreg",
         .summary =
             "Pulls positives together, keeps the variance of each dimension and decorrelates them",
         .paper = "Bardes et al. 2022, VICReg: variance-invariance-covariance regularization for "
                  "self-supervised learning",
         .params = &table},
    .takes = DML_TUPLES_PAIRS,
    .create = create,
    .forward_backward = forward_backward,
    .destroy = destroy,
};
