/* ArcFace. Deng, Guo, Xue, Zafeiriou 2018, "ArcFace: additive angular margin loss for deep face
 * recognition".
 *
 *     c_ij = clamp(<e_i, w_j / ||w_j||>, 1e-10, 1 - 1e-10), with no gradient where it clamps
 *     z_ij = scale c_ij,  except for the sample's own class:  z_iy = scale cos(acos(c_iy) + m)
 *     L = cross entropy of z
 *
 * cos(acos(c) + m) = c cos m - sqrt(1 - c^2) sin m has the slope cos m + c sin m / sqrt(1 - c^2),
 * which the clamp keeps finite at c = 1. The rest of the gradient is that of class_scores.h. */
#include "criteria/class_bank.h"

#include <math.h>

struct options {
    double lr, margin, scale, class_share;
};

static const struct dml_param params[] = {
    {.name = "loss_arcface_lr",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, lr),
     .fallback = "0.0005",
     .max = INFINITY,
     .help = "Learning rate of the class weights."},
    {.name = "loss_arcface_angular_margin",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, margin),
     .fallback = "0.5",
     .max = 3.14159265358979,
     .help = "Angle added to that of the sample's class, in radians."},
    {.name = "loss_arcface_feature_scale",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, scale),
     .fallback = "16",
     .max = INFINITY,
     .above_min = true,
     .help = "Factor applied to the cosines."},
    {.name = "loss_arcface_class_share",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, class_share),
     .fallback = "1",
     .max = 1,
     .above_min = true,
     .help = "Share of the classes that a step looks at: the batch's and others at random (Partial "
             "FC)."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: arcface", struct options, params);

struct state {
    struct dml_class_scores scores;
    struct options options;
};

static enum dml_status create(const void *data, const struct dml_criterion_context *context,
                              void **out) {
    const struct options *options = data;
    enum dml_status status = dml_class_map_new(sizeof(struct state), context, options->lr, out);
    if (status)
        return status;
    struct state *state = *out;
    state->options = *options;
    return options->class_share < 1
               ? DML_OK
               : dml_class_bank_place(&state->scores, context, dml_class_scores_destroy);
}

static struct dml_own_score with_margin(const void *data, double cosine, double x_norm,
                                        double w_norm) {
    (void)x_norm, (void)w_norm;
    const struct options *o = data;
    double sine = sqrt(1 - cosine * cosine);
    return (struct dml_own_score){
        .value = o->scale * (cosine * cos(o->margin) - sine * sin(o->margin)),
        .slope = o->scale * (cos(o->margin) + cosine * sin(o->margin) / sine)};
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)tuples;
    struct state *state = data;
    struct dml_class_rule rule = {.scale = state->options.scale,
                                  .clamp = true,
                                  .own = with_margin,
                                  .options = &state->options,
                                  .class_share = state->options.class_share,
                                  .rng = rng};
    *loss = (struct dml_loss){.tuples = batch->n, .active = batch->n};
    return dml_class_scores_step(&state->scores, &rule, batch->embeddings, batch->labels, batch->n,
                                 grad, &loss->value);
}

const struct dml_criterion dml_criterion_arcface = {
    .method = {.name = "arcface",
               .summary =
                   "Cross entropy over cosines, with a margin on the angle to the sample's class",
               .paper = "Deng et al. 2018, ArcFace: additive angular margin loss for deep face "
                        "recognition",
               .params = &table},
    .takes = DML_TUPLES_NONE,
    .create = create,
    .forward_backward = forward_backward,
    .parameters = dml_class_scores_parameters,
    .destroy = dml_class_scores_destroy,
};
