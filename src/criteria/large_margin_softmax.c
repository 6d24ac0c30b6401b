/* Large-margin softmax. Liu, Wen, Yu, Yang 2016, "Large-margin softmax loss for convolutional
 * neural networks".
 *
 *     z_ic = scale ||e_i|| ||w_c|| cos theta_ic,  but  z_iy = scale ||e_i|| ||w_y|| psi(theta_iy)
 *     L = cross entropy of z
 *
 * psi is that of multiple_angle.h. dz_iy/de = scale (psi' w + ||w|| (psi - psi' cos theta) e /
 * ||e||), psi' being its slope by the cosine, and the same with e and w swapped. */
#include "criteria/class_bank.h"
#include "criteria/multiple_angle.h"

#include <math.h>

struct options {
    double lr, scale, class_share;
    int64_t margin;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"loss_large_margin_softmax_lr", DML_PARAM_FLOAT, AT(lr), "0.0005", 0, INFINITY,
     .help = "Learning rate of the class weights."},
    {"loss_large_margin_softmax_margin", DML_PARAM_INT, AT(margin), "4", 1, 64,
     .help = "Factor applied to the angle to the sample's class."},
    {"loss_large_margin_softmax_scale", DML_PARAM_FLOAT, AT(scale), "1", 0, INFINITY, true,
     .help = "Factor applied to the logits; larger for normalised embeddings."},
    {"loss_large_margin_softmax_class_share", DML_PARAM_FLOAT, AT(class_share), "1", 0, 1, true,
     .help = "Share of the classes that a step looks at: the batch's and others at random (Partial "
             "FC)."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: large_margin_softmax", struct options, params);

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

static struct dml_own_score with_margin(const void *data, double product, double x_norm,
                                        double w_norm) {
    const struct options *o = data;
    double norms = x_norm * w_norm, slope;
    double cosine = norms < 1e-12 ? 0 : product / norms;
    double psi = dml_multiple_angle(cosine, (int)o->margin, &slope);
    double radial = o->scale * (psi - slope * cosine);
    return (struct dml_own_score){.value = o->scale * norms * psi,
                                  .slope = o->scale * slope,
                                  .along_x = radial * w_norm,
                                  .along_w = radial * x_norm};
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)tuples;
    struct state *state = data;
    struct dml_class_rule rule = {.scale = state->options.scale,
                                  .inner = true,
                                  .own = with_margin,
                                  .options = &state->options,
                                  .class_share = state->options.class_share,
                                  .rng = rng};
    *loss = (struct dml_loss){.tuples = batch->n, .active = batch->n};
    return dml_class_scores_step(&state->scores, &rule, batch->embeddings, batch->labels, batch->n,
                                 grad, &loss->value);
}

const struct dml_criterion dml_criterion_large_margin_softmax = {
    .method = {.name = "large_margin_softmax",
               .summary = "Softmax with a multiple of the angle to the sample's class",
               .paper =
                   "Liu et al. 2016, Large-margin softmax loss for convolutional neural networks",
               .params = &table},
    .takes = DML_TUPLES_NONE,
    .create = create,
    .forward_backward = forward_backward,
    .parameters = dml_class_scores_parameters,
    .destroy = dml_class_scores_destroy,
};
