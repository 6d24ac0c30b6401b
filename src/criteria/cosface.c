/* CosFace. Wang, Wang, Zhou, Ji, Gong, Zhou, Li, Liu 2018, "CosFace: large margin cosine loss for
 * deep face recognition".
 *
 *     z_ic = scale (cos theta_ic - margin [c = y_i]),  L = cross entropy of z */
#include "criteria/class_bank.h"

#include <math.h>

struct options {
    double lr, margin, scale, class_share;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"loss_cosface_lr", DML_PARAM_FLOAT, AT(lr), "0.0005", 0, INFINITY,
     .help = "Learning rate of the class weights."},
    {"loss_cosface_margin", DML_PARAM_FLOAT, AT(margin), "0.35", 0, 2,
     .help = "Margin subtracted from the cosine to the sample's class."},
    {"loss_cosface_scale", DML_PARAM_FLOAT, AT(scale), "64", 0, INFINITY, true,
     .help = "Factor applied to the cosines."},
    {"loss_cosface_class_share", DML_PARAM_FLOAT, AT(class_share), "1", 0, 1, true,
     .help = "Share of the classes that a step looks at: the batch's and others at random (Partial "
             "FC)."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: cosface", struct options, params);

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
    return (struct dml_own_score){.value = o->scale * (cosine - o->margin), .slope = o->scale};
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)tuples;
    struct state *state = data;
    struct dml_class_rule rule = {.scale = state->options.scale,
                                  .own = with_margin,
                                  .options = &state->options,
                                  .class_share = state->options.class_share,
                                  .rng = rng};
    *loss = (struct dml_loss){.tuples = batch->n, .active = batch->n};
    return dml_class_scores_unit_step(&state->scores, &rule, batch, grad, &loss->value);
}

const struct dml_criterion dml_criterion_cosface = {
    .method = {.name = "cosface",
               .summary =
                   "Cross entropy over cosines, with a margin on the cosine to the sample's class",
               .paper =
                   "Wang et al. 2018, CosFace: large margin cosine loss for deep face recognition",
               .params = &table},
    .takes = DML_TUPLES_NONE,
    .create = create,
    .forward_backward = forward_backward,
    .parameters = dml_class_scores_parameters,
    .destroy = dml_class_scores_destroy,
};
