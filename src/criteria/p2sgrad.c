/* P2SGrad. Zhang, Zhao, Qiao, Wang, Li 2019, "P2SGrad: refined gradients for optimizing deep face
 * models".
 *
 *     L = mean over samples i and classes c of (cos theta_ic - [c = y_i])^2
 *
 * The gradient also goes through the normalisation of the weights. The sample's own class is
 * computed in float64: its cosine may be close to 1. */
#include "criteria/class_cosines.h"

#include <math.h>

struct options {
    double lr;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"loss_p2sgrad_lr", DML_PARAM_FLOAT, AT(lr), "0.0005", 0, INFINITY,
     .help = "Learning rate of the class weights."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: p2sgrad", struct options, params);

static enum dml_status create(const void *options, const struct dml_criterion_context *context,
                              void **out) {
    const struct options *o = options;
    return dml_class_map_new(sizeof(struct dml_class_cosines_state), context, o->lr, out);
}

/* The squares of a row; c becomes dL/dc. */
static double row(float *c, size_t rows, size_t label, double own, float share) {
    double sum = (own - 1) * (own - 1);
    c[label] = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < rows; j++) {
        sum += c[j] * c[j];
        c[j] *= 2 * share;
    }
    c[label] = (float)(2 * share * (own - 1));
    return sum;
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)tuples, (void)rng;
    struct dml_class_cosines_state *state = data;
    struct dml_class_cosines *cosines = &state->cosines;
    enum dml_status status = dml_class_cosines_forward(cosines, &state->scores, batch);
    if (status)
        return status;
    size_t n = batch->n, rows = state->scores.classes;
    double share = 1 / ((double)n * (double)rows), sum = 0;
#pragma omp parallel for if (n * rows > 20000)
    for (size_t i = 0; i < n; i++) {
        size_t label = (size_t)batch->labels[i];
        double own = dml_class_cosine(&state->scores, batch->embeddings + i * batch->dim, label);
        cosines->losses[i] = row(cosines->c + i * rows, rows, label, own, (float)share);
    }
    for (size_t i = 0; i < n; i++)
        sum += cosines->losses[i];
    *loss = (struct dml_loss){.tuples = n, .active = n, .value = share * sum};
    dml_class_cosines_backward(cosines, &state->scores, grad);
    return DML_OK;
}

const struct dml_criterion dml_criterion_p2sgrad = {
    .method = {.name = "p2sgrad",
               .summary = "Squared differences of all cosines to class weights from 0 and 1",
               .paper = "Zhang et al. 2019, P2SGrad: refined gradients for optimizing deep face "
                        "models",
               .params = &table},
    .takes = DML_TUPLES_NONE,
    .create = create,
    .forward_backward = forward_backward,
    .parameters = dml_class_scores_parameters,
    .destroy = dml_class_cosines_destroy,
};
