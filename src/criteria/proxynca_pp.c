/* ProxyNCA++. Teh, DeVries, Taylor 2020, "ProxyNCA++: revisiting and revitalizing proxy
 * neighborhood component analysis".
 *
 *     L = cross entropy of -||e_i / |e_i| - p_c / |p_c|||^2 / temperature over all classes c
 *
 * The squared distance is 2 - 2 cos, and the 2 cancels: the scale of class_scores.h is 2 /
 * temperature. Unlike in proxynca, the sample's own class is in the denominator. */
#include "criteria/class_bank.h"

#include <math.h>

struct options {
    double lrmulti, temperature;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"loss_proxynca_pp_lrmulti", DML_PARAM_FLOAT, AT(lrmulti), "50", 0, INFINITY,
     .help = "Learning rate of the proxies, as a multiple of --lr."},
    {"loss_proxynca_pp_temperature", DML_PARAM_FLOAT, AT(temperature), "0.1111111111111111", 0,
     INFINITY, true, .help = "Divisor of the squared distances."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: proxynca_pp", struct options, params);

struct state {
    struct dml_class_scores scores;
    struct options options;
};

static enum dml_status create(const void *data, const struct dml_criterion_context *context,
                              void **out) {
    const struct options *options = data;
    enum dml_status status = dml_class_scores_new(sizeof(struct state), context, "proxies",
                                                  context->lr * options->lrmulti, out);
    if (status)
        return status;
    struct state *state = *out;
    state->options = *options;
    dml_init_normal(state->scores.vectors, context->classes * context->dim, context->seed, 0.125);
    return dml_class_bank_place(&state->scores, context, dml_class_scores_destroy);
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)tuples, (void)rng;
    struct state *state = data;
    struct dml_class_rule rule = {.scale = 2 / state->options.temperature};
    *loss = (struct dml_loss){.tuples = batch->n, .active = batch->n};
    return dml_class_scores_unit_step(&state->scores, &rule, batch, grad, &loss->value);
}

const struct dml_criterion dml_criterion_proxynca_pp = {
    .method = {.name = "proxynca_pp",
               .summary = "Probability of the sample's proxy among one learnt proxy per class, "
                          "with a temperature",
               .paper =
                   "Teh et al. 2020, ProxyNCA++: revisiting and revitalizing proxy neighborhood "
                   "component analysis",
               .params = &table},
    .takes = DML_TUPLES_NONE,
    .create = create,
    .forward_backward = forward_backward,
    .parameters = dml_class_scores_parameters,
    .destroy = dml_class_scores_destroy,
};
