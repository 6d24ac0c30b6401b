#include "criteria/class_scores.h"

#include "math/linear.h"
#include "math/transcendental.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 512 }; /* classes at a time */

#define COSINE_LEAST 1e-10
/* exp(z - shift) stays normal in float32 down to here. */
#define RANGE 80.0

enum dml_status dml_class_scores_create(size_t classes, size_t dim, struct dml_class_scores *out) {
    *out = (struct dml_class_scores){.classes = classes, .dim = dim};
    out->vectors = dml_alloc(classes, dim * sizeof(float));
    out->grad = dml_alloc(classes, dim * sizeof(float));
    out->units = dml_alloc(classes, dim * sizeof(float));
    out->norms = dml_alloc(classes, sizeof(float));
    return out->vectors && out->grad && out->units && out->norms ? DML_OK : DML_ERROR_MEMORY;
}

void dml_class_scores_free(struct dml_class_scores *scores) {
    free(scores->vectors);
    free(scores->grad);
    free(scores->units);
    free(scores->norms);
    dml_buffer_free(&scores->memory);
    *scores = (struct dml_class_scores){0};
}

size_t dml_class_scores_parameter(struct dml_class_scores *scores, const char *name, double lr,
                                  struct dml_criterion_parameter *out, size_t max) {
    if (max == 0)
        return 0;
    out[0] = (struct dml_criterion_parameter){.name = name,
                                              .values = scores->vectors,
                                              .grad = scores->grad,
                                              .dims = {scores->classes, scores->dim},
                                              .lr = lr};
    return 1;
}

/* One step. Blocks of exps lie one behind the other, each (n, width). */
struct step {
    struct dml_class_scores *scores;
    const struct dml_class_rule *rule;
    const float *x; /* (n, dim) */
    const int32_t *labels;
    size_t n;
    float *exps;                  /* (n, classes): cosines, then exp(z - shift), 0 for own class */
    float *scaled;                /* (n, dim): x_i times dL/dc_ij / exps_ij */
    double *shift, *sum;          /* (n): what exponents are relative to, a float; sum of exps */
    double *own, *slope, *factor; /* (n): z_iy, dL/dc_iy, dL/dc_ij / exps_ij */
    bool bounded;                 /* shift bounds z, and exps cannot underflow */
};

static size_t width_of(const struct step *step, size_t start) {
    size_t left = step->scores->classes - start;
    return left < BLOCK ? left : BLOCK;
}

/* The samples' own classes in float64, and a shift for each sample: a bound of its logits where
 * that is near enough, -infinity where the maximum must be found first. */
static void prepare(struct step *step) {
    const struct dml_class_scores *scores = step->scores;
    const struct dml_class_rule *rule = step->rule;
    size_t dim = scores->dim;
    step->bounded = true;
    for (size_t i = 0; i < step->n; i++) {
        const float *x = step->x + i * dim, *w = scores->vectors + (size_t)step->labels[i] * dim;
        double norm = sqrt(dml_dot(w, w, dim));
        double cosine = norm < 1e-12 ? 0 : dml_dot(x, w, dim) / norm;
        bool clamped = rule->clamp && (cosine < COSINE_LEAST || cosine > 1 - COSINE_LEAST);
        if (clamped)
            cosine = fmin(fmax(cosine, COSINE_LEAST), 1 - COSINE_LEAST);
        step->slope[i] = rule->scale;
        step->own[i] =
            rule->own ? rule->own(rule->options, cosine, &step->slope[i]) : rule->scale * cosine;
        if (clamped)
            step->slope[i] = 0;
        double bound = rule->clamp ? 1 : sqrt(dml_dot(x, x, dim)) * (1 + 1e-6);
        step->shift[i] = (float)fmax(rule->scale * bound, rule->without_class ? 0 : step->own[i]);
        step->bounded &= (rule->clamp ? 1 : 2) * step->shift[i] <= RANGE;
        step->sum[i] = 0;
    }
    for (size_t i = 0; !step->bounded && i < step->n; i++)
        step->shift[i] = rule->without_class ? -INFINITY : (float)step->own[i];
}

/* Cosines of a block of classes into its place. */
static float *cosines(struct step *step, size_t start) {
    size_t dim = step->scores->dim, width = width_of(step, start);
    float *block = step->exps + step->n * start;
    dml_gemm(0, 1, step->n, width, dim, 1, step->x, dim, step->scores->units + start * dim, dim, 0,
             block, width);
    return block;
}

static void raise_shift(struct step *step, size_t i, size_t start, const float *row) {
    size_t width = width_of(step, start), own = (size_t)step->labels[i] - start;
    float most = -INFINITY;
    for (size_t j = 0; j < width; j++)
        most = row[j] > most && j != own ? row[j] : most;
    double z = step->rule->scale * (step->rule->clamp ? fmin(fmax(most, COSINE_LEAST), 1) : most);
    step->shift[i] = (float)fmax(step->shift[i], z);
}

/* Cosines of sample i to a block become exps and go into its sum; own class and classes without
 * gradient become 0. */
static void exponentials(struct step *step, size_t i, size_t start, float *row) {
    size_t width = width_of(step, start);
    float scale = (float)step->rule->scale, shift = (float)step->shift[i], sum = 0;
    size_t own = (size_t)step->labels[i] - start;
    if (own < width)
        row[own] = -INFINITY;
    if (step->rule->clamp) {
        const float least = (float)COSINE_LEAST;
#pragma omp simd reduction(+ : sum)
        for (size_t j = 0; j < width; j++) {
            float cosine = row[j], inside = cosine < least ? least : cosine;
            inside = inside > 1.0f ? 1.0f : inside;
            float e = dml_expf(scale * inside - shift);
            e = cosine == -INFINITY ? 0.0f : e;
            sum += e;
            row[j] = cosine == inside && cosine < 1.0f ? e : 0.0f;
        }
    } else {
#pragma omp simd reduction(+ : sum)
        for (size_t j = 0; j < width; j++) {
            row[j] = dml_expf(scale * row[j] - shift);
            sum += row[j];
        }
    }
    step->sum[i] += sum;
}

/* Fills exps and sums, and in grad sum_j exps_ij u_j. */
static void forward(struct step *step, float *grad) {
    size_t n = step->n, dim = step->scores->dim, classes = step->scores->classes;
    for (size_t start = 0; !step->bounded && start < classes; start += BLOCK) {
        float *block = cosines(step, start);
        for (size_t i = 0; i < n; i++)
            raise_shift(step, i, start, block + i * width_of(step, start));
    }
    for (size_t start = 0; start < classes; start += BLOCK) {
        size_t width = width_of(step, start);
        float *block = step->bounded ? cosines(step, start) : step->exps + n * start;
#pragma omp parallel for if (n * width > 20000)
        for (size_t i = 0; i < n; i++)
            exponentials(step, i, start, block + i * width);
        dml_gemm(0, 0, n, dim, width, 1, block, width, step->scores->units + start * dim, dim,
                 start ? 1 : 0, grad, dim);
    }
}

/* The loss; fills `factor`, turns `slope` into dL/dc_iy and `grad` into dL/dx. */
static double finish_samples(struct step *step, float *grad) {
    const struct dml_class_rule *rule = step->rule;
    size_t dim = step->scores->dim;
    double loss = 0, share = 1 / (double)step->n;
    for (size_t i = 0; i < step->n; i++) {
        double own = rule->without_class ? 0 : exp(step->own[i] - step->shift[i]);
        double sum = step->sum[i] + own;
        if (sum == 0) { /* a single class: nothing to tell it from */
            step->factor[i] = step->slope[i] = 0;
        } else {
            loss += share * (step->shift[i] + log(sum) - step->own[i]);
            step->factor[i] = share * rule->scale / sum;
            step->slope[i] *= share * (own / sum - 1);
        }
        float factor = (float)step->factor[i], slope = (float)step->slope[i];
        const float *x = step->x + i * dim;
        const float *unit = step->scores->units + (size_t)step->labels[i] * dim;
        for (size_t k = 0; k < dim; k++) {
            step->scaled[i * dim + k] = factor * x[k];
            grad[i * dim + k] = factor * grad[i * dim + k] + slope * unit[k];
        }
    }
    return loss;
}

static void backward_vectors(struct step *step) {
    struct dml_class_scores *scores = step->scores;
    size_t dim = scores->dim, n = step->n;
    for (size_t start = 0; start < scores->classes; start += BLOCK) {
        size_t width = width_of(step, start);
        dml_gemm(1, 0, width, dim, n, 1, step->exps + n * start, width, step->scaled, dim, 0,
                 scores->grad + start * dim, dim);
    }
    for (size_t i = 0; i < n; i++) {
        float *grad = scores->grad + (size_t)step->labels[i] * dim, slope = (float)step->slope[i];
        for (size_t k = 0; k < dim; k++)
            grad[k] += slope * step->x[i * dim + k];
    }
    dml_units_backward(scores->units, scores->norms, scores->classes, dim, scores->grad);
}

enum dml_status dml_class_scores_step(struct dml_class_scores *scores,
                                      const struct dml_class_rule *rule, const float *x,
                                      const int32_t *labels, size_t n, float *grad, double *loss) {
    size_t classes = scores->classes, dim = scores->dim;
    struct step step = {.scores = scores, .rule = rule, .x = x, .labels = labels, .n = n};
    double *memory = dml_buffer_reserve(&scores->memory, n * (10 + classes + dim), sizeof(float));
    if (!memory)
        return DML_ERROR_MEMORY;
    step.shift = memory;
    step.sum = memory + n;
    step.own = memory + 2 * n;
    step.slope = memory + 3 * n;
    step.factor = memory + 4 * n;
    step.exps = (float *)(memory + 5 * n);
    step.scaled = step.exps + n * classes;

    dml_units_forward(scores->vectors, classes, dim, scores->units, scores->norms);
    prepare(&step);
    forward(&step, grad);
    *loss = finish_samples(&step, grad);
    backward_vectors(&step);
    return DML_OK;
}
