/* Triplet loss. Schroff, Kalenichenko, Philbin 2015, "FaceNet: a unified embedding for face
 * recognition and clustering".
 *
 *     L = mean_t [||a - p||^2 - ||a - n||^2 + m]+
 *
 * An active triplet gives 2/T (a - p) to a and its negative to p, -2/T (a - n) to a and its
 * negative to n. */
#include "criteria/common.h"

#include "math/linear.h"

#include <math.h>
#include <stdlib.h>

struct options {
    double margin;
};

static const struct dml_param params[] = {
    {.name = "loss_triplet_margin",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, margin),
     .fallback = "0.2",
     .max = INFINITY,
     .help = "How much farther than the positive, in squared distance, a negative should be."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: triplet", struct options, params);

static enum dml_status create(const void *options, const struct dml_criterion_context *context,
                              void **state) {
    (void)context;
    return dml_state_new(sizeof(struct options), options, sizeof(struct options), state);
}

static enum dml_status forward_backward(void *state, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)rng;
    double m = ((const struct options *)state)->margin;
    size_t dim = batch->dim;
    const float *x = batch->embeddings;
    dml_loss_none(batch, tuples->count, grad, loss);
    double weight = 1 / (double)tuples->count;
    for (size_t t = 0; t < tuples->count; t++) {
        size_t a = (size_t)tuples->anchors[t];
        size_t p = (size_t)tuples->positives[t], n = (size_t)tuples->negatives[t];
        double value = dml_distance2(x + a * dim, x + p * dim, dim) -
                       dml_distance2(x + a * dim, x + n * dim, dim) + m;
        if (value <= 0)
            continue;
        loss->value += value * weight;
        loss->active++;
        dml_pair_pull(batch, a, p, 0, 2 * weight, grad);
        dml_pair_pull(batch, a, n, 0, -2 * weight, grad);
    }
    return DML_OK;
}

static double margin(const void *options) {
    return ((const struct options *)options)->margin;
}

const struct dml_criterion dml_criterion_triplet = {
    .method = {.name = "triplet",
               .summary = "Negatives farther than positives by a margin, in squared distance",
               .paper = "Schroff et al. 2015, FaceNet: a unified embedding for face recognition "
                        "and clustering",
               .params = &table},
    .takes = DML_TUPLES_TRIPLETS,
    .create = create,
    .forward_backward = forward_backward,
    .destroy = free,
    .margin = margin,
};
