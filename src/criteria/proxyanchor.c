/* Proxy anchor loss. Kim, Kim, Cho, Kwak 2020, "Proxy anchor loss for deep metric learning".
 *
 *     L = 1/|C+| sum_{p in C+} log(1 + sum_{y_i = p} exp(-alpha (c_pi - margin)))
 *         + 1/C sum_p log(1 + sum_{y_i != p} exp(alpha (c_pi + margin)))
 *
 * c_pi is the cosine of a proxy and a sample, C+ the classes in the batch. */
#include "criteria/class_bank.h"
#include "criteria/class_cosines.h"

#include "math/transcendental.h"

#include <math.h>

struct options {
    double lrmulti, margin, alpha;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"loss_proxyanchor_lrmulti", DML_PARAM_FLOAT, AT(lrmulti), "100", 0, INFINITY,
     .help = "Learning rate of the proxies, as a multiple of --lr."},
    {"loss_proxyanchor_margin", DML_PARAM_FLOAT, AT(margin), "0.1", 0, 2,
     .help = "How far beyond 0 cosines are pushed, on either side."},
    {"loss_proxyanchor_alpha", DML_PARAM_FLOAT, AT(alpha), "32", 0, INFINITY, true,
     .help = "Factor applied to the cosines."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: proxyanchor", struct options, params);

static enum dml_status create(const void *data, const struct dml_criterion_context *context,
                              void **out) {
    const struct options *options = data;
    enum dml_status status = dml_class_scores_new(sizeof(struct dml_class_cosines_state), context,
                                                  "proxies", context->lr * options->lrmulti, out);
    if (status)
        return status;
    struct dml_class_cosines_state *state = *out;
    state->options = options;
    dml_init_normal(state->scores.vectors, context->classes * context->dim, context->seed,
                    sqrt(2 / (double)context->classes));
    return dml_class_bank_place(&state->scores, context, dml_class_cosines_destroy);
}

/* log(1 + sum e^z_j) over the samples of the proxy's class (`own`) or over all others; e_j becomes
 * its slope by z_j, 0 for the rest. */
static double softplus(const int32_t *labels, int32_t class, bool own, size_t n, const float *z,
                       float *e) {
    float most = 0;
    double sum = 0;
#pragma omp simd reduction(max : most)
    for (size_t j = 0; j < n; j++) {
        float value = (labels[j] == class) == own ? z[j] : 0;
        most = value > most ? value : most;
    }
#pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < n; j++) {
        float value = dml_expf(z[j] - most);
        e[j] = (labels[j] == class) == own ? value : 0.0f;
        sum += e[j];
    }
    double value = most == 0 ? log1p(sum) : most + log(exp(-most) + sum);
    float scale = (float)exp(most - value);
    for (size_t j = 0; j < n; j++)
        e[j] *= scale;
    return value;
}

/* One step. */
struct step {
    const struct options *options;
    const int32_t *labels;
    size_t n, classes, present; /* present: classes in the batch */
};

/* The loss of proxy p; its cosines become dL/dc. `work` is 3 n floats. */
static double proxy(const void *data, size_t p, float *c, float *work) {
    const struct step *step = data;
    const struct options *o = step->options;
    const size_t n = step->n;
    const int32_t *labels = step->labels, class = (int32_t)p;
    const float alpha = (float)o->alpha, margin = (float)o->margin;
    float *z = work, *pos = work + n, *neg = work + 2 * n;
    int here = 0;
#pragma omp simd reduction(| : here)
    for (size_t j = 0; j < n; j++) {
        here |= labels[j] == class;
        z[j] = labels[j] == class ? -alpha * (c[j] - margin) : alpha * (c[j] + margin);
    }
    double share = here ? 1 / (double)step->present : 0, share_all = 1 / (double)step->classes;
    double loss = share_all * softplus(labels, class, false, n, z, neg);
    float pull = (float)(o->alpha * share), push = (float)(o->alpha * share_all);
    for (size_t j = 0; j < n; j++)
        c[j] = push * neg[j];
    if (!here)
        return loss;
    loss += share * softplus(labels, class, true, n, z, pos);
    for (size_t j = 0; j < n; j++)
        c[j] -= pull * pos[j];
    return loss;
}

static size_t classes_in(const int32_t *labels, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        size_t j = 0;
        while (labels[j] != labels[i])
            j++;
        count += j == i;
    }
    return count;
}

/* The whole step where something else holds the proxies. */
static enum dml_status in_bank(struct dml_class_cosines_state *state, const struct step *step,
                               const struct dml_batch *batch, float *grad, double *loss) {
    struct dml_class_bank *bank = state->scores.bank;
    const size_t n = batch->n, dim = batch->dim;
    const struct dml_bank_anchors anchors = {.alpha = step->options->alpha,
                                             .margin = step->options->margin,
                                             .share = 1 / (double)step->present,
                                             .share_all = 1 / (double)step->classes};
    float *units = dml_buffer_reserve(&state->cosines.memory, n * (2 * dim + 1), sizeof *units);
    if (!units)
        return DML_ERROR_MEMORY;
    float *own = units + n * dim, *norms = own + n * dim;
    dml_units_forward(batch->embeddings, n, dim, units, norms);
    enum dml_status status = bank->ops->begin(bank, units, batch->labels, n, own);
    if (!status)
        status = bank->ops->anchors(bank, &anchors, grad, loss);
    if (!status)
        dml_units_backward(units, norms, n, dim, grad);
    return status;
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)tuples, (void)rng;
    struct dml_class_cosines_state *state = data;
    size_t n = batch->n;
    const struct step step = {.options = state->options,
                              .labels = batch->labels,
                              .n = n,
                              .classes = state->scores.classes,
                              .present = classes_in(batch->labels, n)};
    double sum;
    enum dml_status status = state->scores.bank
                                 ? in_bank(state, &step, batch, grad, &sum)
                                 : dml_class_cosines_by_class(&state->cosines, &state->scores,
                                                              batch, proxy, &step, grad, &sum);
    if (status)
        return status;
    *loss = (struct dml_loss){.tuples = n, .active = n, .value = sum};
    return DML_OK;
}

const struct dml_criterion dml_criterion_proxyanchor = {
    .method = {.name = "proxyanchor",
               .summary = "Each learnt proxy against all samples of the batch",
               .paper = "Kim et al. 2020, Proxy anchor loss for deep metric learning",
               .params = &table},
    .takes = DML_TUPLES_NONE,
    .create = create,
    .forward_backward = forward_backward,
    .parameters = dml_class_scores_parameters,
    .destroy = dml_class_cosines_destroy,
};
