#include "criteria/class_scores.h"

#include "math/linear.h"
#include "math/transcendental.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Classes at a time, so that their exponentials stay in a core's cache; and how many parts the
 * classes are cut into, each with its own sum of gradients, whatever the number of threads. */
enum { BLOCK = 256, PARTS = 8 };

#define COSINE_LEAST 1e-10
/* exp(z - shift) stays normal in float32 down to here. */
#define RANGE 80.0

enum dml_status dml_class_scores_new(size_t size, const struct dml_criterion_context *context,
                                     const char *name, double lr, void **state) {
    size_t classes = context->classes, dim = context->dim;
    struct dml_class_scores *scores = dml_alloc(1, size);
    if (!scores)
        return DML_ERROR_MEMORY;
    scores->name = name;
    scores->lr = lr;
    scores->classes = classes;
    scores->dim = dim;
    scores->vectors = dml_alloc(classes, dim * sizeof(float));
    scores->grad = dml_alloc(classes, dim * sizeof(float));
    scores->units = dml_alloc(classes, dim * sizeof(float));
    scores->norms = dml_alloc(classes, sizeof(float));
    if (!scores->vectors || !scores->grad || !scores->units || !scores->norms) {
        dml_class_scores_destroy(scores);
        return DML_ERROR_MEMORY;
    }
    *state = scores;
    return DML_OK;
}

void dml_class_scores_destroy(void *state) {
    struct dml_class_scores *scores = state;
    if (!scores)
        return;
    free(scores->vectors);
    free(scores->grad);
    free(scores->units);
    free(scores->norms);
    dml_buffer_free(&scores->memory);
    free(scores);
}

size_t dml_class_scores_parameters(void *state, struct dml_criterion_parameter *out, size_t max) {
    struct dml_class_scores *scores = state;
    if (max == 0)
        return 0;
    out[0] = (struct dml_criterion_parameter){.name = scores->name,
                                              .values = scores->vectors,
                                              .grad = scores->grad,
                                              .dims = {scores->classes, scores->dim},
                                              .lr = scores->lr};
    return 1;
}

/* One step. Blocks of exps lie one behind the other, each (n, width). */
struct step {
    struct dml_class_scores *scores;
    const struct dml_class_rule *rule;
    const float *x; /* (n, dim) */
    const int32_t *labels;
    size_t n, parts, blocks; /* parts of the classes; blocks in a part, fewer in the last */
    float *exps;             /* (n, classes): cosines, then exp(z - shift), 0 for own class */
    float *pulls;            /* (parts, n, dim): sum_j exps_ij u_j over a part's classes */
    float *scaled;           /* (n, dim): x_i times dL/dc_ij / exps_ij */
    double *sums;            /* (parts, n): of exps */
    double *shift;           /* (n): what exponents are relative to, a float */
    double *own, *slope;     /* (n): z_iy; dz_iy/dc_iy, then dL/dc_iy */
    bool bounded;            /* shift bounds z, and exps cannot underflow */
};

/* A product of one block: on this core when there are more blocks than one, else on all. */
static void multiply(const struct step *step, int transpose_a, int transpose_b, size_t m, size_t n,
                     size_t k, const float *a, size_t lda, const float *b, bool add, float *c,
                     size_t ldc) {
    (step->parts > 1 ? dml_gemm_alone : dml_gemm)(transpose_a, transpose_b, m, n, k, 1, a, lda, b,
                                                  step->scores->dim, add, c, ldc);
}

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
    }
    for (size_t i = 0; !step->bounded && i < step->n; i++)
        step->shift[i] = rule->without_class ? -INFINITY : (float)step->own[i];
}

/* Units of a block of classes, and the cosines to them into its place in exps. */
static float *cosines(struct step *step, size_t start) {
    struct dml_class_scores *scores = step->scores;
    size_t dim = scores->dim, width = width_of(step, start);
    float *block = step->exps + step->n * start, *units = scores->units + start * dim;
    dml_units_forward(scores->vectors + start * dim, width, dim, units, scores->norms + start);
    multiply(step, 0, 1, step->n, width, dim, step->x, dim, units, false, block, width);
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

/* Where no bound serves: all cosines, and the largest logit of each sample as its shift. */
static void find_shifts(struct step *step) {
    size_t classes = step->scores->classes;
#pragma omp parallel for schedule(dynamic, 1) if (step->parts > 1)
    for (size_t start = 0; start < classes; start += BLOCK)
        cosines(step, start);
#pragma omp parallel for if (step->n * classes > 20000)
    for (size_t i = 0; i < step->n; i++)
        for (size_t start = 0; start < classes; start += BLOCK)
            raise_shift(step, i, start, step->exps + step->n * start + i * width_of(step, start));
}

/* Cosines of sample i to a block become exps, whose sum it returns; own class and classes without
 * gradient become 0. */
static float exponentials(const struct step *step, size_t i, size_t start, float *row) {
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
    return sum;
}

/* Fills exps, sums and pulls for the classes of one part. */
static void forward_part(struct step *step, size_t part) {
    size_t n = step->n, dim = step->scores->dim, classes = step->scores->classes;
    size_t first = part * step->blocks * BLOCK, end = first + step->blocks * BLOCK;
    double *sums = step->sums + part * n;
    memset(sums, 0, n * sizeof *sums);
    for (size_t start = first; start < end && start < classes; start += BLOCK) {
        size_t width = width_of(step, start);
        float *block = step->bounded ? cosines(step, start) : step->exps + n * start;
#pragma omp parallel for if (n * width > 20000)
        for (size_t i = 0; i < n; i++)
            sums[i] += exponentials(step, i, start, block + i * width);
        multiply(step, 0, 0, n, dim, width, block, width, step->scores->units + start * dim,
                 start > first, step->pulls + part * n * dim, dim);
    }
}

/* Sample i: its loss, dL/dx_i into `grad` (dim), `slope` and its row of `scaled`. */
static double finish_sample(struct step *step, size_t i, float *grad) {
    const struct dml_class_rule *rule = step->rule;
    size_t n = step->n, dim = step->scores->dim;
    double loss = 0, share = 1 / (double)n;
    double own = rule->without_class ? 0 : exp(step->own[i] - step->shift[i]), sum = own;
    for (size_t part = 0; part < step->parts; part++)
        sum += step->sums[part * n + i];
    float factor = 0; /* dL/dc_ij / exps_ij */
    if (sum == 0) {   /* a single class: nothing to tell it from */
        step->slope[i] = 0;
    } else {
        loss = share * (step->shift[i] + log(sum) - step->own[i]);
        factor = (float)(share * rule->scale / sum);
        step->slope[i] *= share * (own / sum - 1);
    }
    float slope = (float)step->slope[i];
    const float *unit = step->scores->units + (size_t)step->labels[i] * dim;
    memcpy(grad, step->pulls + i * dim, dim * sizeof *grad);
    for (size_t part = 1; part < step->parts; part++)
        for (size_t k = 0; k < dim; k++)
            grad[k] += step->pulls[(part * n + i) * dim + k];
    for (size_t k = 0; k < dim; k++) {
        step->scaled[i * dim + k] = factor * step->x[i * dim + k];
        grad[k] = factor * grad[k] + slope * unit[k];
    }
    return loss;
}

/* dL/dw of a block of classes. */
static void backward_block(const struct step *step, size_t start) {
    struct dml_class_scores *scores = step->scores;
    size_t dim = scores->dim, n = step->n, width = width_of(step, start);
    float *block = scores->grad + start * dim;
    multiply(step, 1, 0, width, dim, n, step->exps + n * start, width, step->scaled, false, block,
             dim);
    for (size_t i = 0; i < n; i++) {
        size_t own = (size_t)step->labels[i] - start;
        float slope = (float)step->slope[i];
        for (size_t k = 0; own < width && k < dim; k++)
            block[own * dim + k] += slope * step->x[i * dim + k];
    }
    dml_units_backward(scores->units + start * dim, scores->norms + start, width, dim, block);
}

/* Lays out the memory of a step. */
static bool start_step(struct step *step) {
    size_t n = step->n, classes = step->scores->classes, dim = step->scores->dim;
    size_t blocks = (classes + BLOCK - 1) / BLOCK;
    step->blocks = (blocks + PARTS - 1) / PARTS;
    step->parts = (blocks + step->blocks - 1) / step->blocks;
    size_t doubles = n * (3 + step->parts), floats = n * (classes + dim * (1 + step->parts));
    double *memory = dml_buffer_reserve(&step->scores->memory, 2 * doubles + floats, sizeof(float));
    if (!memory)
        return false;
    step->shift = memory;
    step->own = memory + n;
    step->slope = memory + 2 * n;
    step->sums = memory + 3 * n;
    step->exps = (float *)(memory + doubles);
    step->scaled = step->exps + n * classes;
    step->pulls = step->scaled + n * dim;
    return true;
}

enum dml_status dml_class_scores_step(struct dml_class_scores *scores,
                                      const struct dml_class_rule *rule, const float *x,
                                      const int32_t *labels, size_t n, float *grad, double *loss) {
    struct step step = {.scores = scores, .rule = rule, .x = x, .labels = labels, .n = n};
    if (!start_step(&step))
        return DML_ERROR_MEMORY;
    prepare(&step);
    if (!step.bounded)
        find_shifts(&step);
    /* One part goes outside of any parallel construct: even a team of one around it would make
     * libgomp start new threads for the product inside. */
    if (step.parts == 1)
        forward_part(&step, 0);
    else
#pragma omp parallel for schedule(dynamic, 1)
        for (size_t part = 0; part < step.parts; part++)
            forward_part(&step, part);
    *loss = 0;
    for (size_t i = 0; i < n; i++)
        *loss += finish_sample(&step, i, grad + i * scores->dim);
    if (step.parts == 1)
        for (size_t start = 0; start < scores->classes; start += BLOCK)
            backward_block(&step, start);
    else
#pragma omp parallel for schedule(dynamic, 1)
        for (size_t start = 0; start < scores->classes; start += BLOCK)
            backward_block(&step, start);
    return DML_OK;
}
