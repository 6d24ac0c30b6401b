#include "criteria/class_bank.h"

#include "math/linear.h"

#include <math.h>
#include <string.h>

enum dml_status dml_class_bank_place(struct dml_class_scores *scores,
                                     const struct dml_criterion_context *context,
                                     void (*destroy)(void *state)) {
    const struct dml_class_banks *banks = context->banks;
    if (!banks)
        return DML_OK;
    enum dml_status status = banks->open(banks->data, scores->classes, scores->dim, &scores->bank);
    if (!status && scores->bank)
        status = scores->bank->ops->write(scores->bank, DML_BANK_VALUES, scores->vectors);
    if (status)
        destroy(scores);
    return status;
}

/* One step; the formulas are those of class_scores.c. */
struct step {
    struct dml_class_bank *bank;
    const struct dml_class_rule *rule;
    const float *x; /* (n, dim) */
    size_t n, dim;
    double *sums;                         /* (n): of exponentials, before them of largest cosines */
    struct dml_own_score *own;            /* (n) */
    float *rows;                          /* (n, dim): the samples' own vectors, then their units */
    float *pulls;                         /* (n, dim) */
    float *shift, *factor, *pull, *along; /* (n) */
};

static bool lay_out(struct step *step, struct dml_class_scores *scores) {
    size_t n = step->n, floats = 2 * n * step->dim + 4 * n;
    double *memory = dml_buffer_reserve(&scores->memory, 10 * n + floats, sizeof(float));
    if (!memory)
        return false;
    step->sums = memory;
    step->own = (struct dml_own_score *)(memory + n);
    step->rows = (float *)(memory + 5 * n);
    step->pulls = step->rows + n * step->dim;
    step->shift = step->pulls + n * step->dim;
    step->factor = step->shift + n;
    step->pull = step->factor + n;
    step->along = step->pull + n;
    return true;
}

/* Shifts that bound the logits; false where none is tight enough. */
static bool bound_shifts(const struct step *step) {
    const struct dml_class_rule *rule = step->rule;
    bool bounded = !rule->inner;
    for (size_t i = 0; i < step->n; i++) {
        const float *x = step->x + i * step->dim;
        step->own[i] = dml_class_own_score(rule, x, step->rows + i * step->dim, step->dim);
        step->shift[i] = dml_class_shift(rule, x, step->dim, step->own[i].value);
        bounded &= dml_class_bounded(rule, step->shift[i]);
    }
    return bounded;
}

static enum dml_status find_shifts(const struct step *step) {
    enum dml_status status = step->bank->ops->largest(step->bank, step->rule, step->sums);
    for (size_t i = 0; !status && i < step->n; i++) {
        double least = step->rule->without_class ? -INFINITY : step->own[i].value;
        step->shift[i] = dml_class_raised_shift(step->rule, (float)least, (float)step->sums[i]);
    }
    return status;
}

/* The loss of sample i, and dL/dx_i. */
static double finish_sample(const struct step *step, size_t i, float *grad) {
    const struct dml_class_rule *rule = step->rule;
    const struct dml_own_score *score = &step->own[i];
    const size_t dim = step->dim;
    const float *x = step->x + i * dim;
    float *row = step->rows + i * dim;
    double share = 1 / (double)step->n, others = step->sums[i];
    const double own = rule->without_class ? 0 : exp(score->value - step->shift[i]);
    const double sum = others + own;
    float factor = sum == 0 ? 0 : (float)(share * rule->scale / sum);
    float pull = (float)(-score->slope / rule->scale * others), norm;
    const double pull_z = sum == 0 ? 0 : -share * others / sum;
    double length = sqrt(dml_dot(row, row, dim)), x_length = sqrt(dml_dot(x, x, dim));
    step->factor[i] = factor;
    step->pull[i] = pull;
    step->along[i] = length < 1e-12 ? 0 : (float)(score->along_w * pull_z / length);
    if (!rule->inner)
        dml_units_forward(row, 1, dim, row, &norm);
    float along_x = x_length < 1e-12 ? 0 : (float)(score->along_x * pull_z / x_length);
    for (size_t k = 0; k < dim; k++)
        grad[k] = factor * (step->pulls[i * dim + k] + pull * row[k]) + along_x * x[k];
    if (sum == 0)
        return 0;
    return share * (own >= others ? log1p(others / own) : step->shift[i] + log(sum) - score->value);
}

enum dml_status dml_class_bank_step(struct dml_class_scores *scores,
                                    const struct dml_class_rule *rule, const float *x,
                                    const int32_t *labels, size_t n, float *grad, double *loss) {
    struct step step = {.bank = scores->bank, .rule = rule, .x = x, .n = n, .dim = scores->dim};
    const struct dml_class_bank_ops *ops = scores->bank->ops;
    if (!lay_out(&step, scores))
        return DML_ERROR_MEMORY;
    enum dml_status status = ops->begin(step.bank, x, labels, n, step.rows);
    if (!status && !bound_shifts(&step))
        status = find_shifts(&step);
    if (!status)
        status = ops->exponentials(step.bank, rule, step.shift, step.sums, step.pulls);
    if (status)
        return status;
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += finish_sample(&step, i, grad + i * step.dim);
    *loss = sum;
    return ops->gradients(step.bank, rule, step.factor, step.pull, step.along);
}
