/* SphereFace. Liu, Wen, Yu, Li, Raj, Song 2017, "SphereFace: deep hypersphere embedding for face
 * recognition".
 *
 *     z_ic = scale ||e_i|| cos theta_ic,  but  z_iy = scale ||e_i|| psi(theta_iy)
 *     L = cross entropy of z
 *
 * psi is that of multiple_angle.h. With c = <e, u>, dz_iy/de = scale (psi' u + (psi - psi' cos
 * theta) e / ||e||), psi' being its slope by the cosine. */
#include "criteria/class_bank.h"
#include "criteria/multiple_angle.h"

#include <math.h>

struct options {
    double lr, scale, class_share;
    int64_t margin;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"loss_sphereface_lr", DML_PARAM_FLOAT, AT(lr), "0.0005", 0, INFINITY,
     .help = "Learning rate of the class weights."},
    {"loss_sphereface_margin", DML_PARAM_INT, AT(margin), "4", 1, 64,
     .help = "Factor applied to the angle to the sample's class."},
    {"loss_sphereface_scale", DML_PARAM_FLOAT, AT(scale), "1", 0, INFINITY, true,
     .help = "Factor applied to the logits; larger for normalised embeddings."},
    {"loss_sphereface_class_share", DML_PARAM_FLOAT, AT(class_share), "1", 0, 1, true,
     .help = "Share of the classes that a step looks at: the batch's and others at random (Partial "
             "FC)."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: sphereface", struct options, params);

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
    double norms = x_norm, slope;
    double cosine = norms < 1e-12 ? 0 : product / norms;
    double psi = dml_multiple_angle(cosine, (int)o->margin, &slope);
    double radial = o->scale * (psi - slope * cosine);
    return (struct dml_own_score){.value = o->scale * norms * psi,
                                  .slope = o->scale * slope,
                                  .along_x = w_norm < 1e-12 ? 0 : radial};
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
    return dml_class_scores_step(&state->scores, &rule, batch->embeddings, batch->labels, batch->n,
                                 grad, &loss->value);
}

const struct dml_criterion dml_criterion_sphereface = {
    .method =
        {.name = "sphereface",
         .summary =
             "Softmax with a multiple of the angle to the sample's class, over weights of length 1",
         .paper = "Liu et al. 2017, SphereFace: deep hypersphere embedding for face recognition",
         .params = &table},
    .takes = DML_TUPLES_NONE,
    .create = create,
    .forward_backward = forward_backward,
    .parameters = dml_class_scores_parameters,
    .destroy = dml_class_scores_destroy,
};
