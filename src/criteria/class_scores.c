#include "criteria/class_scores.h"

#include "criteria/class_bank.h"
#include "criteria/sampled_classes.h"

#include "math/linear.h"
#include "math/panels.h"
#include "math/transcendental.h"

#include "base/memory.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* Classes per block (whole panels and whole groups), so that their units stay in a core's cache;
 * samples per tile, taken from cosines to their part of dL/dE while in the nearest cache; classes
 * per group of dL/dw, with many classes and with few; and how many parts the classes are cut into,
 * each with its own sum of gradients. None depends on the number of threads. */
enum {
    BLOCK = DML_PANEL == 32 ? 288 : 240,
    SAMPLES = DML_PANEL_ROWS,
    GROUP = 48,
    SMALL_GROUP = 24,
    PARTS = 8
};

#define COSINE_LEAST 1e-10
/* How far a float32 cosine may be from the true one. */
#define COSINE_DOUBT 1e-6f
/* exp(z - shift) stays normal in float32 down to here. */
#define RANGE 80.0
/* More exponentials than this, 256 MiB, are not kept from the forward pass for the backward pass:
 * those of each block are recomputed, with four products instead of three. */
#define MOST_KEPT ((size_t)1 << 26)

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
    scores->norms = dml_alloc(classes, sizeof(float));
    if (!scores->vectors || !scores->grad || !scores->norms) {
        dml_class_scores_destroy(scores);
        return DML_ERROR_MEMORY;
    }
    *state = scores;
    return DML_OK;
}

enum dml_status dml_class_map_new(size_t size, const struct dml_criterion_context *context,
                                  double lr, void **state) {
    enum dml_status status = dml_class_scores_new(size, context, "class_map", lr, state);
    if (status)
        return status;
    struct dml_class_scores *scores = *state;
    dml_init_uniform(scores->vectors, context->classes * context->dim, context->seed,
                     1 / sqrt((double)context->dim));
    return DML_OK;
}

void dml_class_scores_destroy(void *state) {
    struct dml_class_scores *scores = state;
    if (!scores)
        return;
    if (scores->bank)
        scores->bank->ops->close(scores->bank);
    free(scores->vectors);
    free(scores->grad);
    free(scores->norms);
    dml_buffer_free(&scores->memory);
    dml_buffer_free(&scores->directions);
    dml_buffer_free(&scores->sample);
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
                                              .lr = scores->lr,
                                              .bank = scores->bank};
    return 1;
}

/* One step. Until dL/dw is written, class by class, its rows hold the units: with a million
 * classes, memory of their own would be a third copy of the vectors. exps is cut into groups of
 * classes stored one after another, each (n, width): dL/dw of a group reads contiguous memory. A
 * block consists of whole groups. */
struct step {
    struct dml_class_scores *scores;
    const struct dml_class_rule *rule;
    const float *x; /* (n, dim) */
    const int32_t *labels;
    size_t n, group;
    size_t parts, blocks; /* parts of the classes; blocks in a part, fewer in the last */
    bool kept;            /* exps covers all classes, otherwise one block of each part */
    float *exps;          /* (n, classes): cosines, then exp(z - shift), 0 for own class; finally
                             dL/dc_ij / factor_i, own class included */
    double *own_pull;     /* (n): dL/dc_iy / factor_i */
    float *pulls;         /* (parts, n, dim): sum_j exps_ij u_j over a part's classes */
    float *scaled;        /* panels of (n, dim): factor_i x_i */
    float *slopes;        /* (threads, group, dim): dL/du */
    float *packed;        /* (parts): see struct packed */
    double *sums;         /* (parts, n): of exps */
    double *shift;        /* (n): what exponents are relative to, exact in float32 */
    struct dml_own_score *own; /* (n) */
    double *losses;            /* (n) */
    bool bounded;              /* shift bounds z, and exps cannot underflow */
};

/* The units of a block of classes as operands of products: of units^T (dim, width), and of units
 * (width, dim). */
struct packed {
    float *across, *along;
};

/* AGAIN: exponentials only, for the backward pass. */
enum stages { COSINES = 1, EXPONENTIALS = 2, AGAIN = 4 };

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

/* How many classes the block that begins with class `start` has. */
static size_t width_of(const struct step *step, size_t start) {
    return least(step->scores->classes - start, BLOCK);
}

/* Sample i's row in exps for the group of classes that begins with `first`; *width: its length. */
static float *group_row(const struct step *step, size_t first, size_t i, size_t *width) {
    size_t part = step->blocks * BLOCK;
    size_t at = step->kept ? first : first / part * BLOCK + first % BLOCK;
    *width = least(step->scores->classes - first, step->group);
    return step->exps + step->n * at + i * *width;
}

/* A block's rows (count, width) of the samples from i on: copied out of exps, or into it. */
static void load_rows(const struct step *step, size_t start, size_t i, size_t count, float *rows) {
    size_t width = width_of(step, start), size = width;
    for (size_t j = 0; j < width; j += size)
        for (size_t k = 0; k < count; k++) {
            const float *from = group_row(step, start + j, i + k, &size);
            memcpy(rows + k * width + j, from, size * sizeof *rows);
        }
}

static void store_rows(const struct step *step, size_t start, size_t i, size_t count,
                       const float *rows) {
    size_t width = width_of(step, start), size = width;
    for (size_t j = 0; j < width; j += size)
        for (size_t k = 0; k < count; k++) {
            float *to = group_row(step, start + j, i + k, &size);
            memcpy(to, rows + k * width + j, size * sizeof *rows);
        }
}

static size_t packed_size(const struct step *step) {
    size_t dim = step->scores->dim, width = width_of(step, 0);
    return dml_panels_size(dim, width) + dml_panels_size(width, dim);
}

/* The units of the classes, or the vectors themselves. */
static const float *rows_of(const struct step *step) {
    return step->rule->inner ? step->scores->vectors : step->scores->grad;
}

/* <x, u>, or <x, w>, in float64. */
static double cosine_of(const struct dml_class_rule *rule, const float *x, const float *w,
                        size_t dim) {
    double norm = rule->inner ? 1 : sqrt(dml_dot(w, w, dim));
    return norm < 1e-12 ? 0 : dml_dot(x, w, dim) / norm;
}

struct dml_own_score dml_class_own_score(const struct dml_class_rule *rule, const float *x,
                                         const float *w, size_t dim) {
    double cosine = cosine_of(rule, x, w, dim);
    bool clamped = rule->clamp && (cosine < COSINE_LEAST || cosine > 1 - COSINE_LEAST);
    if (clamped)
        cosine = fmin(fmax(cosine, COSINE_LEAST), 1 - COSINE_LEAST);
    struct dml_own_score own = {.value = rule->scale * cosine, .slope = rule->scale};
    if (rule->own)
        own = rule->own(rule->options, cosine, sqrt(dml_dot(x, x, dim)), sqrt(dml_dot(w, w, dim)));
    if (clamped)
        own.slope = 0;
    return own;
}

float dml_class_shift(const struct dml_class_rule *rule, const float *x, size_t dim, double own) {
    double bound = rule->clamp ? 1 : sqrt(dml_dot(x, x, dim)) * (1 + 1e-6);
    return (float)fmax(rule->scale * bound, rule->without_class ? 0 : own);
}

bool dml_class_bounded(const struct dml_class_rule *rule, double shift) {
    return !rule->inner && (rule->clamp ? 1 : 2) * shift <= RANGE;
}

float dml_class_raised_shift(const struct dml_class_rule *rule, double shift, float most) {
    double z = rule->scale * (rule->clamp ? fmin(fmax(most, COSINE_LEAST), 1) : most);
    return (float)fmax(shift, z);
}

/* The samples' own classes in float64, and a shift for each sample: a bound of its logits where
 * that is tight enough, -infinity where the maximum must be found first. */
static void prepare(struct step *step) {
    const struct dml_class_rule *rule = step->rule;
    size_t dim = step->scores->dim, far = 0;
#pragma omp parallel for reduction(+ : far) if (step->n * dim > 10000)
    for (size_t i = 0; i < step->n; i++) {
        const float *x = step->x + i * dim;
        const float *w = step->scores->vectors + (size_t)step->labels[i] * dim;
        step->own[i] = dml_class_own_score(rule, x, w, dim);
        step->shift[i] = dml_class_shift(rule, x, dim, step->own[i].value);
        far += !dml_class_bounded(rule, step->shift[i]);
    }
    step->bounded = far == 0;
    for (size_t i = 0; far && i < step->n; i++)
        step->shift[i] = rule->without_class ? -INFINITY : (float)step->own[i].value;
}

/* Units of a block of classes, packed into its part's memory. */
static struct packed pack(const struct step *step, enum stages stages, size_t part, size_t start) {
    struct dml_class_scores *scores = step->scores;
    size_t dim = scores->dim, width = width_of(step, start);
    float *memory = step->packed + part * packed_size(step);
    const float *units = rows_of(step) + start * dim;
    struct packed packed = {.across = memory, .along = memory + dml_panels_size(dim, width)};
    if (!step->rule->inner && !(stages & AGAIN))
        dml_units_forward(scores->vectors + start * dim, width, dim, scores->grad + start * dim,
                          scores->norms + start);
    dml_panels_pack_transposed(dim, width, units, dim, packed.across);
    if (!(stages & AGAIN))
        dml_panels_pack(width, dim, units, dim, packed.along);
    return packed;
}

/* The largest cosine of a row, leaving out the one at `own`. */
static float largest(const float *row, size_t width, size_t own) {
    float most = -INFINITY;
    for (size_t j = 0; j < width; j++)
        most = row[j] > most && j != own ? row[j] : most;
    return most;
}

static void raise_shift(struct step *step, size_t i, float most) {
    step->shift[i] = dml_class_raised_shift(step->rule, step->shift[i], most);
}

/* Turns cosines into exps and returns their sum; classes without gradient become 0. */
static float exponentials(const struct step *step, float shift, size_t count, float *row) {
    const float scale = (float)step->rule->scale, least = (float)COSINE_LEAST;
    float sum = 0;
    if (step->rule->clamp) {
#pragma omp simd reduction(+ : sum)
        for (size_t j = 0; j < count; j++) {
            float cosine = row[j], inside = cosine < least ? least : cosine;
            inside = inside > 1.0f ? 1.0f : inside;
            float e = dml_expf(scale * inside - shift);
            sum += e;
            row[j] = cosine == inside ? e : 0.0f;
        }
    } else if (step->bounded) {
#pragma omp simd reduction(+ : sum)
        for (size_t j = 0; j < count; j++) {
            row[j] = dml_expf_normal(scale * row[j] - shift);
            sum += row[j];
        }
    } else {
#pragma omp simd reduction(+ : sum)
        for (size_t j = 0; j < count; j++) {
            row[j] = dml_expf(scale * row[j] - shift);
            sum += row[j];
        }
    }
    return sum;
}

static double cosine_in_full(const struct step *step, size_t i, size_t class) {
    size_t dim = step->scores->dim;
    return cosine_of(step->rule, step->x + i * dim, step->scores->vectors + class * dim, dim);
}

/* Moves cosines that float32 cannot tell from a bound of the clamp to the side that float64 puts
 * them on: whether a class has a gradient depends on it. */
static void settle_clamp(const struct step *step, size_t i, size_t start, float *row) {
    size_t width = width_of(step, start);
    int unsure = 0;
#pragma omp simd reduction(| : unsure)
    for (size_t j = 0; j < width; j++)
        unsure |= (fabsf(row[j]) < COSINE_DOUBT) | (row[j] > 1 - COSINE_DOUBT);
    for (size_t j = 0; unsure && j < width; j++)
        if (fabsf(row[j]) < COSINE_DOUBT || row[j] > 1 - COSINE_DOUBT) {
            double cosine = cosine_in_full(step, i, start + j);
            row[j] = cosine < COSINE_LEAST       ? -1.0f
                     : cosine > 1 - COSINE_LEAST ? 2.0f
                                                 : fminf((float)cosine, 1);
        }
}

/* The exponentials of sample i and a whole block, except the sample's own class, which becomes
 * 0. */
static float block_exponentials(const struct step *step, size_t i, size_t start, float *row) {
    size_t width = width_of(step, start), own = (size_t)step->labels[i] - start;
    float shift = (float)step->shift[i];
    if (step->rule->clamp)
        settle_clamp(step, i, start, row);
    if (own >= width)
        return exponentials(step, shift, width, row);
    row[own] = 0;
    return exponentials(step, shift, own, row) +
           exponentials(step, shift, width - own - 1, row + own + 1);
}

/* Samples from `first` on, SAMPLES or as many as are left, and one block of classes: cosines, then
 * exps, sums and pulls. */
static void forward_tile(const struct step *step, enum stages stages, struct packed packed,
                         size_t part, size_t start, size_t first) {
    size_t n = step->n, dim = step->scores->dim, width = width_of(step, start);
    size_t count = least(n - first, SAMPLES);
    _Alignas(64) float rows[SAMPLES * BLOCK];
    if (stages & (COSINES | AGAIN))
        dml_panels_multiply(count, width, dim, step->x + first * dim, dim, 1, packed.across, NULL,
                            0, rows, width);
    else
        load_rows(step, start, first, count, rows);
    bool add = start > part * step->blocks * BLOCK;
    double *sums = step->sums + part * n + first;
    for (size_t i = 0; stages == COSINES && !step->kept && i < count; i++) {
        double most = largest(rows + i * width, width, (size_t)step->labels[first + i] - start);
        sums[i] = add ? fmax(sums[i], most) : most;
    }
    for (size_t i = 0; stages & AGAIN && i < count; i++) {
        size_t own = (size_t)step->labels[first + i] - start;
        block_exponentials(step, first + i, start, rows + i * width);
        if (own < width)
            rows[i * width + own] = (float)step->own_pull[first + i];
    }
    if (stages & EXPONENTIALS) {
        for (size_t i = 0; i < count; i++)
            sums[i] =
                (add ? sums[i] : 0) + block_exponentials(step, first + i, start, rows + i * width);
        float *pulls = step->pulls + (part * n + first) * dim;
        dml_panels_multiply(count, dim, width, rows, width, 1, packed.along, add ? pulls : NULL,
                            dim, pulls, dim);
    }
    if (step->kept || stages & AGAIN)
        store_rows(step, start, first, count, rows);
}

static void backward_group(const struct step *step, size_t first);

/* All samples and the classes of one part. */
static void forward_part(const struct step *step, enum stages stages, size_t part) {
    size_t first = part * step->blocks * BLOCK, end = first + step->blocks * BLOCK;
    for (size_t start = first; start < end && start < step->scores->classes; start += BLOCK) {
        struct packed packed = pack(step, stages, part, start);
        for (size_t i = 0; i < step->n; i += SAMPLES)
            forward_tile(step, stages, packed, part, start, i);
        size_t width = width_of(step, start);
        for (size_t j = 0; stages & AGAIN && j < width; j += step->group)
            backward_group(step, start + j);
    }
}

/* Threads share the parts where there are several, otherwise the samples. */
static void forward(const struct step *step, enum stages stages) {
    if (step->parts > 1) {
#pragma omp parallel for schedule(dynamic, 1)
        for (size_t part = 0; part < step->parts; part++)
            forward_part(step, stages, part);
        return;
    }
    struct packed packed = pack(step, stages, 0, 0);
#pragma omp parallel for if (step->n * step->scores->classes > 2000)
    for (size_t i = 0; i < step->n; i += SAMPLES)
        forward_tile(step, stages, packed, 0, 0, i);
}

/* Where no bound will do: computes all cosines, and takes the largest logit of each sample as its
 * shift. */
static void find_shifts(struct step *step) {
    size_t classes = step->scores->classes;
    forward(step, COSINES);
#pragma omp parallel for if (step->n * classes > 20000)
    for (size_t i = 0; i < step->n; i++) {
        for (size_t part = 0; !step->kept && part < step->parts; part++)
            raise_shift(step, i, (float)step->sums[part * step->n + i]);
        for (size_t first = 0; step->kept && first < classes; first += step->group) {
            size_t width;
            const float *row = group_row(step, first, i, &width);
            raise_shift(step, i, largest(row, width, (size_t)step->labels[i] - first));
        }
    }
}

/* Adds weight * x / ||x||. */
static void pull_along(const float *x, size_t dim, double weight, float *grad) {
    double norm = sqrt(dml_dot(x, x, dim));
    float factor = norm < 1e-12 ? 0 : (float)(weight / norm);
    for (size_t k = 0; k < dim; k++)
        grad[k] += factor * x[k];
}

/* Sample i: its loss, dL/dx_i into `grad` (dim), its own class in exps and its row of `scaled`. */
static void finish_sample(const struct step *step, size_t i, float *grad) {
    const struct dml_class_rule *rule = step->rule;
    size_t n = step->n, dim = step->scores->dim, label = (size_t)step->labels[i];
    double share = 1 / (double)n, sum = 0;
    double own = rule->without_class ? 0 : exp(step->own[i].value - step->shift[i]);
    for (size_t part = 0; part < step->parts; part++)
        sum += step->sums[part * n + i];
    double others = sum;
    sum += own;
    /* Cross entropy; a loss of next to nothing keeps its digits. With a single class there is
     * nothing to tell it from. */
    double loss =
        own >= others ? log1p(others / own) : step->shift[i] + log(sum) - step->own[i].value;
    step->losses[i] = sum == 0 ? 0 : share * loss;
    float factor = sum == 0 ? 0 : (float)(share * rule->scale / sum);
    float pull = (float)(-step->own[i].slope / rule->scale * others);
    size_t width, first = label / step->group * step->group;
    step->own_pull[i] = pull;
    if (step->kept)
        group_row(step, first, i, &width)[label - first] = pull;

    const float *unit = rows_of(step) + label * dim;
    memcpy(grad, step->pulls + i * dim, dim * sizeof *grad);
    for (size_t part = 1; part < step->parts; part++)
        for (size_t k = 0; k < dim; k++)
            grad[k] += step->pulls[(part * n + i) * dim + k];
    for (size_t k = 0; k < dim; k++)
        grad[k] = factor * (grad[k] + pull * unit[k]);
    const float *x = step->x + i * dim;
    float *scaled = step->scaled + i * DML_PANEL;
    for (size_t k = 0; k < dim; k += DML_PANEL, scaled += n * DML_PANEL)
        for (size_t v = 0; v < DML_PANEL; v++)
            scaled[v] = k + v < dim ? factor * x[k + v] : 0;
    const double pull_z = sum == 0 ? 0 : -share * others / sum;
    step->own[i].along_w *= pull_z;
    if (step->own[i].along_x != 0)
        pull_along(x, dim, step->own[i].along_x * pull_z, grad);
}

/* The slopes along the vectors of the samples' own classes, which have become dL/d||w||. */
static void pull_vectors(const struct step *step) {
    struct dml_class_scores *scores = step->scores;
    for (size_t i = 0; i < step->n; i++) {
        size_t at = (size_t)step->labels[i] * scores->dim;
        if (step->own[i].along_w != 0)
            pull_along(scores->vectors + at, scores->dim, step->own[i].along_w, scores->grad + at);
    }
}

/* dL/dw of a group of classes. */
static void backward_group(const struct step *step, size_t first) {
    struct dml_class_scores *scores = step->scores;
    size_t dim = scores->dim, width;
    const float *exps = group_row(step, first, 0, &width);
    float *grad = scores->grad + first * dim;
    if (step->kept && first + width < scores->classes) { /* the beginning of the next group */
        size_t next, rows = least(step->n, 128);
        const float *from = group_row(step, first + width, 0, &next);
        dml_prefetch(from, rows * next);
    }
    float *slopes =
        step->rule->inner ? grad : step->slopes + (size_t)omp_get_thread_num() * step->group * dim;
    dml_panels_multiply(width, dim, step->n, exps, 1, width, step->scaled, NULL, 0, slopes, dim);
    if (step->rule->inner)
        return;
    dml_units_backward(grad, scores->norms + first, width, dim, slopes);
    memcpy(grad, slopes, width * dim * sizeof *grad);
}

/* Lays out the memory of a step. */
static bool start_step(struct step *step) {
    size_t n = step->n, classes = step->scores->classes, dim = step->scores->dim;
    size_t blocks = (classes + BLOCK - 1) / BLOCK;
    step->group = classes > BLOCK ? GROUP : SMALL_GROUP;
    step->blocks = (blocks + PARTS - 1) / PARTS;
    step->parts = (blocks + step->blocks - 1) / step->blocks;
    step->kept = step->parts == 1 || n * classes <= MOST_KEPT;
    size_t exps = n * (step->kept ? classes : step->parts * BLOCK);
    size_t doubles = n * (7 + step->parts), packed = step->parts * packed_size(step);
    size_t scaled = dml_panels_size(n, dim), pulls = n * dim * step->parts;
    size_t slopes = (size_t)omp_get_max_threads() * step->group * dim;
    double *memory =
        dml_buffer_reserve(&step->scores->memory,
                           2 * doubles + packed + scaled + exps + pulls + slopes, sizeof(float));
    if (!memory)
        return false;
    step->shift = memory;
    step->losses = memory + n;
    step->own = (struct dml_own_score *)(memory + 2 * n);
    step->own_pull = memory + 6 * n;
    step->sums = memory + 7 * n;
    step->packed = (float *)(memory + doubles);
    step->scaled = step->packed + packed;
    step->exps = step->scaled + scaled;
    step->pulls = step->exps + exps;
    step->slopes = step->pulls + pulls;
    return true;
}

enum dml_status dml_class_scores_step(struct dml_class_scores *scores,
                                      const struct dml_class_rule *rule, const float *x,
                                      const int32_t *labels, size_t n, float *grad, double *loss) {
    if (rule->class_share > 0 && rule->class_share < 1)
        return dml_sampled_classes_step(scores, rule, x, labels, n, grad, loss);
    if (scores->bank)
        return dml_class_bank_step(scores, rule, x, labels, n, grad, loss);
    struct step step = {.scores = scores, .rule = rule, .x = x, .labels = labels, .n = n};
    if (!start_step(&step))
        return DML_ERROR_MEMORY;
    prepare(&step);
    if (!step.bounded)
        find_shifts(&step);
    forward(&step, step.bounded || !step.kept ? COSINES | EXPONENTIALS : EXPONENTIALS);
#pragma omp parallel for if (n * scores->dim > 10000)
    for (size_t i = 0; i < n; i++)
        finish_sample(&step, i, grad + i * scores->dim);
    *loss = 0;
    for (size_t i = 0; i < n; i++)
        *loss += step.losses[i];
    if (!step.kept)
        forward(&step, AGAIN);
#pragma omp parallel for schedule(dynamic, 1) if (n * scores->classes > 2000)
    for (size_t first = 0; first < (step.kept ? scores->classes : 0); first += step.group)
        backward_group(&step, first);
    pull_vectors(&step);
    return DML_OK;
}

enum dml_status dml_class_scores_unit_step(struct dml_class_scores *scores,
                                           const struct dml_class_rule *rule,
                                           const struct dml_batch *batch, float *grad,
                                           double *loss) {
    size_t n = batch->n, dim = batch->dim;
    float *units = dml_buffer_reserve(&scores->directions, n * (dim + 1), sizeof *units);
    if (!units)
        return DML_ERROR_MEMORY;
    float *norms = units + n * dim;
    dml_units_forward(batch->embeddings, n, dim, units, norms);
    enum dml_status status =
        dml_class_scores_step(scores, rule, units, batch->labels, n, grad, loss);
    if (!status)
        dml_units_backward(units, norms, n, dim, grad);
    return status;
}

double dml_class_cosine(const struct dml_class_scores *scores, const float *x, size_t row) {
    const float *w = scores->vectors + row * scores->dim;
    double norms = sqrt(dml_dot(x, x, scores->dim)) * sqrt(dml_dot(w, w, scores->dim));
    return norms < 1e-24 ? 0 : dml_dot(x, w, scores->dim) / norms;
}
