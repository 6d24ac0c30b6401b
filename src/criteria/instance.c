/* Instance loss. Zheng, Zheng, Garrett, Yang, Xu, Shen 2020, "Dual-path convolutional image-text
 * embeddings with instance loss".
 *
 *     L = cross entropy of gamma <e_i, w_c> over the classes c
 *
 * The paper's linear classifier: nothing is normalised, and there is no bias. */
#include "criteria/class_bank.h"

#include <math.h>

struct options {
    double lr, gamma;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"loss_instance_lr", DML_PARAM_FLOAT, AT(lr), "0.0005", 0, INFINITY,
     .help = "Learning rate of the class weights."},
    {"loss_instance_gamma", DML_PARAM_FLOAT, AT(gamma), "1", 0, INFINITY, true,
     .help = "Factor applied to the inner products."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: instance", struct options, params);

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
    return dml_class_bank_place(&state->scores, context, dml_class_scores_destroy);
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)tuples, (void)rng;
    struct state *state = data;
    struct dml_class_rule rule = {.scale = state->options.gamma, .inner = true};
    *loss = (struct dml_loss){.tuples = batch->n, .active = batch->n};
    return dml_class_scores_step(&state->scores, &rule, batch->embeddings, batch->labels, batch->n,
                                 grad, &loss->value);
}

const struct dml_criterion dml_criterion_instance = {
    .method =
        {.name = "instance",
         .summary = "Cross entropy over inner products with learnt class weights",
         .paper =
             "Zheng et al. 2020, Dual-path convolutional image-text embeddings with instance loss",
         .params = &table},
    .takes = DML_TUPLES_NONE,
    .create = create,
    .forward_backward = forward_backward,
    .parameters = dml_class_scores_parameters,
    .destroy = dml_class_scores_destroy,
};
