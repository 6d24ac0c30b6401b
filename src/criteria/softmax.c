/* Normalised softmax. Zhai, Wu 2018, "Classification is a strong baseline for deep metric
 * learning".
 *
 *     L = cross entropy of <e_i, w_c / ||w_c||> / T over the classes c
 *
 * The class weights w are learnt. The gradient is that of class_scores.h with scale 1 / T. */
#include "criteria/class_bank.h"

#include <math.h>

struct options {
    double lr, temperature, class_share;
};

static const struct dml_param params[] = {
    {.name = "loss_softmax_lr",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, lr),
     .fallback = "0.00001",
     .max = INFINITY,
     .help = "Learning rate of the class weights."},
    {.name = "loss_softmax_temperature",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, temperature),
     .fallback = "0.05",
     .max = INFINITY,
     .above_min = true,
     .help = "Divisor of the similarities."},
    {.name = "loss_softmax_class_share",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, class_share),
     .fallback = "1",
     .max = 1,
     .above_min = true,
     .help = "Share of the classes that a step looks at: the batch's and others at random (Partial "
             "FC)."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: softmax", struct options, params);

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

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)tuples;
    struct state *state = data;
    struct dml_class_rule rule = {.scale = 1 / state->options.temperature,
                                  .class_share = state->options.class_share,
                                  .rng = rng};
    *loss = (struct dml_loss){.tuples = batch->n, .active = batch->n};
    return dml_class_scores_step(&state->scores, &rule, batch->embeddings, batch->labels, batch->n,
                                 grad, &loss->value);
}

const struct dml_criterion dml_criterion_softmax = {
    .method = {.name = "softmax",
               .summary = "Cross entropy over the cosines to learnt class weights",
               .paper = "Zhai and Wu 2018, Classification is a strong baseline for deep metric "
                        "learning",
               .params = &table},
    .takes = DML_TUPLES_NONE,
    .create = create,
    .forward_backward = forward_backward,
    .parameters = dml_class_scores_parameters,
    .destroy = dml_class_scores_destroy,
};
