/* Pairwise cross entropy in the Poincare ball or on the sphere. Ermolov, Mirvakhabova, Khrulkov,
 * Sebe, Oseledets 2022, "Hyperbolic vision transformers: combining improvements in metric
 * learning".
 *
 *     A sample's slot: how many of its class come before it in the batch. For every ordered pair of
 *     slots u != v, the rows are the classes that have both; row k is the cross entropy of
 *     D(x_ku, x_kv) among D(x_ku, x_lv) of all rows l and D(x_ku, x_lu) of l != k, all over the
 *     temperature.
 *     L = sum over the pairs of slots of the mean over rows
 *
 *     c > 0: r = min(1, clip_r / (||e|| + 1e-5)), 1 without clip_r;  z = r e
 *            x = tanh(min(a, 15)) z / a,  a = sqrt(c) ||z||,  shortened to 0.999 / sqrt(c)
 *            D(x, y) = -2 / sqrt(c) artanh(min(q, 1 - 1e-5))
 *            q = sqrt(c) ||x - y|| sqrt(t) / (t + 1e-5),  t = 1 - 2 c <x, y> + c^2 ||x||^2 ||y||^2
 *     c = 0: D = cosine
 *
 * Norms in a denominator are at least 1e-5, and there is no gradient where something is clamped. */
#include "criteria/common.h"

#include "math/linear.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct options {
    double c;
    double clip_r;
    double temperature;
};

#define AT(field) offsetof(struct options, field)
static const struct dml_param params[] = {
    {"loss_hyp_pce_c", DML_PARAM_FLOAT, AT(c), "0.1", 0, INFINITY,
     .help = "Curvature of the ball; 0: the sphere."},
    {"loss_hyp_pce_clip_r", DML_PARAM_FLOAT, AT(clip_r), "2.3", 0, INFINITY,
     .help = "Length that embeddings are clipped to before they enter the ball; 0: none."},
    {"loss_hyp_pce_temperature", DML_PARAM_FLOAT, AT(temperature), "0.2", 0, INFINITY, true,
     .help = "Divisor of the distances."},
};
#undef AT
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: hyp_pce", struct options, params);

#define SMALL 1e-5

struct state {
    struct options options;
    struct dml_buffer memory;
};

static void destroy(void *data) {
    struct state *state = data;
    if (state)
        dml_buffer_free(&state->memory);
    free(state);
}

static enum dml_status create(const void *options, const struct dml_criterion_context *context,
                              void **out) {
    (void)context;
    return dml_state_new(sizeof(struct state), options, sizeof(struct options), out);
}

/* One step. Classes are numbered by decreasing size, so that those with a slot come first. */
struct step {
    const struct options *o;
    const float *e;
    size_t n, dim, classes;
    double *x;        /* (n, dim): points */
    double *squares;  /* (n): ||x||^2 */
    double *d;        /* (n, n): D */
    double *g;        /* (n, n): dL/dD, then weights of the points */
    double *pull;     /* (n, dim): dL/dx */
    double *losses;   /* (n) */
    double *inner;    /* (n, n): <x, y> */
    uint32_t *class;  /* (n): of a sample */
    uint32_t *slot;   /* (n): of a sample */
    uint32_t *size;   /* (classes): samples of each */
    uint32_t *sample; /* (n): of class and slot, class by class */
    uint32_t *first;  /* (classes): where a class begins in sample */
    uint32_t *having; /* (n): how many classes have a slot */
};

static bool start(struct step *step, struct state *state, const struct dml_batch *batch) {
    size_t n = batch->n, dim = batch->dim;
    double *memory = dml_buffer_reserve(&state->memory, n * (3 * n + 2 * dim + 5), sizeof *memory);
    if (!memory)
        return false;
    *step = (struct step){.o = &state->options, .e = batch->embeddings, .n = n, .dim = dim};
    step->x = memory;
    step->pull = step->x + n * dim;
    step->d = step->pull + n * dim;
    step->g = step->d + n * n;
    step->inner = step->g + n * n;
    step->squares = step->inner + n * n;
    step->losses = step->squares + n;
    step->class = (uint32_t *)(step->losses + n);
    step->slot = step->class + n;
    step->size = step->slot + n;
    step->sample = step->size + n;
    step->first = step->sample + n;
    step->having = step->first + n;
    return true;
}

static void classify(struct step *step, const int32_t *labels) {
    const size_t n = step->n;
    uint32_t *leader = step->first; /* the first sample of each class, by decreasing size */
    for (size_t i = 0; i < n; i++) {
        step->slot[i] = 0;
        uint32_t size = 1;
        for (size_t j = 0; j < n; j++) {
            step->slot[i] += j < i && labels[j] == labels[i];
            size += j != i && labels[j] == labels[i];
        }
        step->class[i] = size; /* replaced below by the number of its class */
    }
    step->classes = 0;
    for (size_t i = 0; i < n; i++) {
        if (step->slot[i] > 0)
            continue;
        size_t at = step->classes++;
        for (; at > 0 && step->class[leader[at - 1]] < step -> class[i]; at--)
            leader[at] = leader[at - 1];
        leader[at] = (uint32_t)i;
    }
    memset(step->having, 0, n * sizeof *step->having);
    uint32_t begin = 0;
    for (size_t k = 0; k < step->classes; k++)
        step->size[k] = step->class[leader[k]];
    for (size_t k = 0; k < step->classes; k++) {
        const int32_t label = labels[leader[k]];
        for (size_t i = leader[k]; i < n; i++)
            if (labels[i] == label) {
                step->class[i] = (uint32_t)k;
                step->sample[begin + step->slot[i]] = (uint32_t)i;
            }
        step->first[k] = begin;
        begin += step->size[k];
        for (uint32_t u = 0; u < step->size[k]; u++)
            step->having[u]++;
    }
}

/* The points of the embeddings in the ball, or on the sphere. */
static void enter(struct step *step) {
    const struct options *o = step->o;
    const size_t dim = step->dim;
    for (size_t i = 0; i < step->n; i++) {
        const float *e = step->e + i * dim;
        double norm = sqrt(dml_dot(e, e, dim)), scale = 1 / fmax(norm, 1e-12);
        if (o->c > 0) {
            const double root = sqrt(o->c);
            scale = o->clip_r > 0 ? fmin(1, o->clip_r / (norm + SMALL)) : 1;
            double a = root * fmax(scale * norm, SMALL);
            double stretch = tanh(fmin(a, 15)) / a, length = stretch * scale * norm;
            scale *= stretch;
            if (fmax(length, SMALL) > 0.999 / root)
                scale *= 0.999 / root / fmax(length, SMALL);
        }
        for (size_t k = 0; k < dim; k++)
            step->x[i * dim + k] = scale * e[k];
        step->squares[i] = scale * scale * norm * norm;
    }
}

/* g, dL/dx of point i, becomes dL/de. */
static void leave(const struct step *step, size_t i, double *g) {
    const struct options *o = step->o;
    const size_t dim = step->dim;
    const float *e = step->e + i * dim;
    const double norm = sqrt(dml_dot(e, e, dim)), root = sqrt(o->c);
    double along = 0, scale, radial; /* of dL/de = scale g + radial <g, e> e */
    for (size_t k = 0; k < dim; k++)
        along += g[k] * e[k];
    const double inverse2 = norm > 0 ? 1 / (norm * norm) : 0;
    if (o->c == 0) {
        scale = norm < 1e-12 ? 0 : 1 / norm;
        radial = -scale * inverse2;
    } else {
        /* x = f(||e||) e, and df/d||e|| follows the clamps one by one */
        double clip = 1, by_norm = 0;
        if (o->clip_r > 0 && o->clip_r < norm + SMALL) {
            clip = o->clip_r / (norm + SMALL);
            by_norm = -clip / (norm + SMALL);
        }
        double z = clip * norm, by_z = clip + norm * by_norm; /* dz/d||e|| */
        double a = root * fmax(z, SMALL), t = tanh(fmin(a, 15)), stretch = t / a;
        double by_a = z < SMALL ? 0 : ((a < 15 ? 1 - t * t : 0) - stretch) / a;
        by_norm = stretch * by_norm + clip * by_a * root * by_z;
        scale = stretch * clip;
        if (scale * norm > 0.999 / root) {
            scale = 0.999 / root / norm;
            by_norm = -scale / norm;
        }
        radial = norm > 0 ? by_norm / norm : 0;
    }
    for (size_t k = 0; k < dim; k++)
        g[k] = scale * g[k] + radial * along * e[k];
}

static double distance(const struct step *step, size_t i, size_t j) {
    double sum = 0;
    for (size_t k = 0; k < step->dim; k++) {
        double difference = step->x[i * step->dim + k] - step->x[j * step->dim + k];
        sum += difference * difference;
    }
    return sqrt(sum);
}

/* ||x - y|| and t of two points, given <x, y>. */
static double apart(const struct step *step, size_t i, size_t j, double inner, double *t) {
    const double c = step->o->c, sum = step->squares[i] + step->squares[j];
    double square = sum - 2 * inner;
    *t = 1 - 2 * c * inner + c * c * step->squares[i] * step->squares[j];
    return square > 1e-6 * sum ? sqrt(square) : distance(step, i, j);
}

/* D from the inner products. */
static void measure(struct step *step) {
    const double root = sqrt(step->o->c);
#pragma omp parallel for if (step->n > 32)
    for (size_t i = 0; i < step->n; i++)
        for (size_t j = 0; j < step->n; j++) {
            double t, inner = step->inner[i * step->n + j], *d = step->d + i * step->n + j;
            *d = inner;
            if (root == 0)
                continue;
            double far = apart(step, i, j, inner, &t);
            double q = root * far * sqrt(fmax(t, 0)) / (t + SMALL);
            *d = -2 / root * atanh(fmin(q, 1 - 1e-5));
        }
}

/* Adds share dL/dD of the row of one sample against the samples in slot v, and returns its loss. */
static double row(const struct step *step, size_t i, uint32_t v, double *z) {
    const uint32_t u = step->slot[i], own = step->class[i];
    const uint32_t rows = step->having[u > v ? u : v];
    const double *d = step->d + i * step->n, inverse = 1 / step->o->temperature;
    const double target = inverse * d[step->sample[step->first[own] + v]], share = 1 / (double)rows;
    double *g = step->g + i * step->n, most = target, sum = 0;
    size_t count = 0;
    for (uint32_t l = 0; l < rows; l++) {
        z[count++] = inverse * d[step->sample[step->first[l] + v]];
        z[count++] = l == own ? -INFINITY : inverse * d[step->sample[step->first[l] + u]];
    }
    for (size_t t = 0; t < count; t++)
        most = fmax(most, z[t]);
    double others = 0; /* without the target, to keep the digits of 1 minus its share */
    for (size_t t = 0; t < count; t++) {
        z[t] = exp(z[t] - most);
        sum += z[t];
        others += t == 2 * own ? 0 : z[t];
    }
    const double scale = share * inverse / sum;
    for (uint32_t l = 0; l < rows; l++) {
        g[step->sample[step->first[l] + v]] += scale * (l == own ? -others : z[2 * l]);
        g[step->sample[step->first[l] + u]] += l == own ? 0 : scale * z[2 * l + 1];
    }
    return share * (z[2 * own] > 0.5 ? log1p(others / z[2 * own]) : most + log(sum) - target);
}

/* dL/dD becomes the weights of the points: pull = own x_i - sum_j g_ij x_j. Returns own. */
static double weigh(struct step *step, size_t i) {
    const double c = step->o->c, root = sqrt(c);
    double own = 0;
    for (size_t j = 0; j < step->n; j++) {
        double *g = step->g + i * step->n + j;
        const double slope = *g;
        if (c == 0) {
            *g = -slope;
            continue;
        }
        *g = 0;
        double t, inner = step->inner[i * step->n + j], far = apart(step, i, j, inner, &t);
        if (slope == 0 || far == 0 || t <= 0)
            continue;
        double over = sqrt(t) / (t + SMALL), q = root * far * over;
        if (q >= 1 - 1e-5)
            continue;
        double by_q = slope * -2 / root / (1 - q * q);
        double by_far = by_q * root * over / far;
        double by_t = by_q * root * far * (0.5 / sqrt(t) - over) / (t + SMALL);
        *g = by_far + 2 * c * by_t;
        own += by_far + 2 * c * c * step->squares[j] * by_t;
    }
    return own;
}

static void backward(struct step *step, float *grad) {
    const size_t n = step->n, dim = step->dim;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            double sum = step->g[i * n + j] + step->g[j * n + i];
            step->g[i * n + j] = step->g[j * n + i] = i == j ? 0 : sum;
        }
#pragma omp parallel for if (n > 32)
    for (size_t i = 0; i < n; i++)
        step->losses[i] = weigh(step, i);
    dml_gemm64(0, 0, n, dim, n, -1, step->g, n, step->x, dim, 0, step->pull, dim);
#pragma omp parallel for if (n > 32)
    for (size_t i = 0; i < n; i++) {
        double *pull = step->pull + i * dim;
        for (size_t k = 0; k < dim; k++)
            pull[k] += step->losses[i] * step->x[i * dim + k];
        leave(step, i, pull);
        for (size_t k = 0; k < dim; k++)
            grad[i * dim + k] = (float)pull[k];
    }
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)tuples, (void)rng;
    struct step step;
    if (!start(&step, data, batch))
        return DML_ERROR_MEMORY;
    const size_t n = step.n, dim = step.dim;
    classify(&step, batch->labels);
    enter(&step);
    dml_gemm64(0, 1, n, n, dim, 1, step.x, dim, step.x, dim, 0, step.inner, n);
    measure(&step);
    memset(step.g, 0, n * n * sizeof *step.g);
    *loss = (struct dml_loss){.tuples = 0};
    for (size_t i = 0; i < n; i++)
        for (uint32_t v = 0; v < step.size[step.class[i]]; v++) {
            if (v == step.slot[i])
                continue;
            double value = row(&step, i, v, step.pull);
            loss->value += value;
            loss->tuples++;
            loss->active += value > 0;
        }
    backward(&step, grad);
    return DML_OK;
}

const struct dml_criterion dml_criterion_hyp_pce = {
    .method =
        {.name = "hyp_pce",
         .summary =
             "Cross entropy of positive pairs among all pairs, by distance in the Poincare ball",
         .paper = "Ermolov et al. 2022, Hyperbolic vision transformers: combining "
                  "improvements in metric learning",
         .params = &table},
    .takes = DML_TUPLES_NONE,
    .create = create,
    .forward_backward = forward_backward,
    .destroy = destroy,
};
