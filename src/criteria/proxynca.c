/* Proxy-NCA. Movshovitz-Attias, Toshev, Leung, Ioffe, Singh 2017, "No fuss distance metric learning
 * using proxies".
 *
 *     e_i, p_c: embeddings and proxies normalised to length 3
 *     L = mean_i ||e_i - p_{y_i}||^2 + LSE_{c != y_i}(-||e_i - p_c||^2)
 *
 * All lengths being 3, ||e - p||^2 = 18 - 18 cos: the 18s cancel, and what is left is the cross
 * entropy of class_scores.h with scale 18 over all classes but the sample's own. With one class
 * there is nothing to tell it from, and the loss is 0. A zero vector has no direction: cos = 0. */
#include "criteria/class_bank.h"

#include <math.h>

struct options {
    double lrmulti;
};

static const struct dml_param params[] = {
    {.name = "loss_proxynca_lrmulti",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, lrmulti),
     .fallback = "50",
     .max = INFINITY,
     .help = "Learning rate of the proxies, as a multiple of --lr."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: proxynca", struct options, params);

#define SCALE 18.0 /* 2 * 3 * 3 */

static enum dml_status create(const void *data, const struct dml_criterion_context *context,
                              void **out) {
    const struct options *options = data;
    enum dml_status status = dml_class_scores_new(sizeof(struct dml_class_scores), context,
                                                  "proxies", context->lr * options->lrmulti, out);
    if (status)
        return status;
    struct dml_class_scores *scores = *out;
    dml_init_normal(scores->vectors, context->classes * context->dim, context->seed, 0.125);
    return dml_class_bank_place(scores, context, dml_class_scores_destroy);
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)tuples, (void)rng;
    struct dml_class_scores *scores = data;
    struct dml_class_rule rule = {.scale = SCALE, .without_class = true};
    *loss = (struct dml_loss){.tuples = batch->n, .active = scores->classes > 1 ? batch->n : 0};
    return dml_class_scores_unit_step(scores, &rule, batch, grad, &loss->value);
}

const struct dml_criterion dml_criterion_proxynca = {
    .method = {.name = "proxynca",
               .summary = "Nearest-neighbour probabilities over one learnt proxy per class",
               .paper = "Movshovitz-Attias et al. 2017, No fuss distance metric learning using "
                        "proxies",
               .params = &table},
    .takes = DML_TUPLES_NONE,
    .create = create,
    .forward_backward = forward_backward,
    .parameters = dml_class_scores_parameters,
    .destroy = dml_class_scores_destroy,
};
