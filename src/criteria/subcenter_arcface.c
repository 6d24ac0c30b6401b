/* Sub-center ArcFace. Deng, Guo, Liu, Gong, Zafeiriou 2020, "Sub-center ArcFace: boosting face
 * recognition by large-scale noisy web faces".
 *
 *     cos theta_ic = max_k <e_i / |e_i|, w_ck / |w_ck|>  over the K sub-centers of a class
 *     z_ic = scale cos theta_ic,  but  z_iy = scale cos(theta_iy + m)  where theta_iy <= pi - m,
 *                                             scale (cos theta_iy - m sin m)  beyond
 *     L = cross entropy of z
 *
 * The cosine to the sample's own class is clamped to 1 - 1e-7 in magnitude, with no gradient where
 * it clamps. */
#include "criteria/class_cosines.h"

#include "math/transcendental.h"

#include <math.h>

struct options {
    double lr, margin, scale;
    int64_t sub_centers;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"loss_subcenter_arcface_lr", DML_PARAM_FLOAT, AT(lr), "0.0005", 0, INFINITY,
     .help = "Learning rate of the class weights."},
    {"loss_subcenter_arcface_sub_centers", DML_PARAM_INT, AT(sub_centers), "3", 1, 1000,
     .help = "Rows of class weights for each class."},
    {"loss_subcenter_arcface_angular_margin", DML_PARAM_FLOAT, AT(margin), "0.5", 0,
     3.14159265358979, .help = "Angle added to that of the sample's class, in radians."},
    {"loss_subcenter_arcface_feature_scale", DML_PARAM_FLOAT, AT(scale), "64", 0, INFINITY, true,
     .help = "Factor applied to the cosines."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: subcenter_arcface", struct options, params);

#define COSINE_MOST (1 - 1e-7)
/* How far two float32 cosines may be from their true order. */
#define COSINE_DOUBT 1e-6f

/* Row c K + k of the class weights is sub-center k of class c. */
static enum dml_status create(const void *data, const struct dml_criterion_context *context,
                              void **out) {
    const struct options *options = data;
    struct dml_criterion_context rows = *context;
    rows.classes *= (size_t)options->sub_centers;
    enum dml_status status =
        dml_class_map_new(sizeof(struct dml_class_cosines_state), &rows, options->lr, out);
    if (status)
        return status;
    struct dml_class_cosines_state *state = *out;
    state->options = options;
    return DML_OK;
}

/* The nearest of `count` sub-centers that begin at row `first`, by their cosines c; decided in
 * float64 where float32 cannot tell. */
static size_t nearest(const struct dml_class_scores *scores, const float *x, const float *c,
                      size_t first, size_t count) {
    /* Without branches: which one is nearest cannot be predicted. */
    float first_most = c[0], second = -INFINITY;
    size_t best = 0;
    for (size_t k = 1; k < count; k++) {
        const float value = c[k], lower = value < first_most ? value : first_most;
        second = lower > second ? lower : second;
        best = value > first_most ? k : best;
        first_most = value > first_most ? value : first_most;
    }
    const float bound = first_most - COSINE_DOUBT;
    const bool unsure = second > bound;
    double most = -2;
    for (size_t k = 0; unsure && k < count; k++) {
        double cosine = c[k] > bound ? dml_class_cosine(scores, x, first + k) : -2;
        best = cosine > most ? k : best;
        most = cosine > most ? cosine : most;
    }
    return best;
}

/* The logit of the sample's own class and its slope by the cosine. */
static double own_logit(const struct options *o, double cosine, double *slope) {
    double c = fmin(fmax(cosine, -COSINE_MOST), COSINE_MOST), sine = sqrt(1 - c * c);
    bool inside = c >= -cos(o->margin); /* theta <= pi - m */
    *slope = inside ? cos(o->margin) + c * sin(o->margin) / sine : 1;
    *slope *= c == cosine ? o->scale : 0;
    return o->scale *
           (inside ? c * cos(o->margin) - sine * sin(o->margin) : c - o->margin * sin(o->margin));
}

/* Loss of one sample; its cosines to all sub-centers become dL/dc, times `share`. */
static double row(const struct dml_class_cosines_state *state, const float *x, size_t label,
                  double share, float *c) {
    const struct options *o = state->options;
    const size_t count = (size_t)o->sub_centers, rows = state->scores.classes;
    const float scale = (float)o->scale;
    float most = -INFINITY;
    size_t own_row = 0;
    for (size_t first = 0; first < rows; first += count) {
        size_t best = nearest(&state->scores, x, c + first, first, count);
        bool own = first == label * count;
        own_row = own ? first + best : own_row;
        const float logit = own ? -INFINITY : scale * c[first + best];
        for (size_t k = 0; k < count; k++)
            c[first + k] = -INFINITY;
        c[first + best] = logit;
        most = logit > most ? logit : most;
    }
    double slope, sum = 0;
    double own = own_logit(o, dml_class_cosine(&state->scores, x, own_row), &slope);
    most = fmaxf(most, (float)own);
#pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < rows; j++) {
        c[j] = dml_expf(c[j] - most);
        sum += c[j];
    }
    double all = sum + exp(own - most);
    float factor = (float)(share * scale / all);
    for (size_t j = 0; j < rows; j++)
        c[j] *= factor;
    c[own_row] = (float)(-share * slope * sum / all);
    return share * (most + log(all) - own);
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
    size_t n = batch->n, dim = batch->dim, rows = state->scores.classes;
#pragma omp parallel for if (n * rows > 2000)
    for (size_t i = 0; i < n; i++)
        cosines->losses[i] = row(state, batch->embeddings + i * dim, (size_t)batch->labels[i],
                                 1 / (double)n, cosines->c + i * rows);
    *loss = (struct dml_loss){.tuples = n, .active = n};
    for (size_t i = 0; i < n; i++)
        loss->value += cosines->losses[i];
    dml_class_cosines_backward(cosines, &state->scores, grad);
    return DML_OK;
}

const struct dml_criterion dml_criterion_subcenter_arcface = {
    .method = {.name = "subcenter_arcface",
               .summary =
                   "ArcFace with several weight vectors per class, of which the nearest counts",
               .paper = "Deng et al. 2020, Sub-center ArcFace: boosting face recognition by "
                        "large-scale noisy web faces",
               .params = &table},
    .takes = DML_TUPLES_NONE,
    .create = create,
    .forward_backward = forward_backward,
    .parameters = dml_class_scores_parameters,
    .destroy = dml_class_cosines_destroy,
};
