#include "criteria/sampled_classes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The classes that a step looks at: those of the batch, ascending, then the drawn ones. */
struct sample {
    uint64_t *classes;
    size_t own, count;
    int32_t *labels; /* (n): of the batch, as indices into `classes` */
    struct dml_class_scores part;
};

static int ascending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* How many of the batch's classes, which are ascending, come before the v-th of all others. */
static size_t before_other(const uint64_t *own, size_t count, uint64_t v) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (own[middle] - middle <= v)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool lay_out(struct sample *sample, struct dml_class_scores *scores, size_t n,
                    size_t count) {
    size_t dim = scores->dim, most = count > n ? count : n; /* the batch may have more classes */
    size_t longs = most + (n + 1) / 2, floats = most * (2 * dim + 1);
    uint64_t *memory =
        dml_buffer_reserve(&scores->sample, longs + (floats + 1) / 2, sizeof *memory);
    if (!memory)
        return false;
    float *vectors = (float *)(memory + longs);
    sample->classes = memory;
    sample->labels = (int32_t *)(memory + most);
    sample->part = (struct dml_class_scores){.dim = dim,
                                             .vectors = vectors,
                                             .grad = vectors + most * dim,
                                             .norms = vectors + 2 * most * dim};
    return true;
}

/* Draws classes until there are `count`, and renumbers the batch's labels. */
static void draw(struct sample *sample, size_t classes, size_t count, const int32_t *labels,
                 size_t n, struct dml_rng *rng) {
    uint64_t *all = sample->classes;
    size_t own = 0;
    for (size_t i = 0; i < n; i++)
        all[i] = (uint64_t)labels[i];
    qsort(all, n, sizeof *all, ascending);
    for (size_t i = 0; i < n; i++)
        if (own == 0 || all[own - 1] != all[i])
            all[own++] = all[i];
    for (size_t i = 0; i < n; i++) {
        uint64_t label = (uint64_t)labels[i];
        uint64_t *found = bsearch(&label, all, own, sizeof *all, ascending);
        sample->labels[i] = (int32_t)(found - all);
    }
    sample->own = own;
    sample->count = count > own ? count : own;
    dml_rng_distinct(rng, classes - own, sample->count - own, all + own);
    for (size_t s = own; s < sample->count; s++)
        all[s] += before_other(all, own, all[s]);
}

enum dml_status dml_sampled_classes_step(struct dml_class_scores *scores,
                                         const struct dml_class_rule *rule, const float *x,
                                         const int32_t *labels, size_t n, float *grad,
                                         double *loss) {
    struct sample sample;
    size_t dim = scores->dim, row = dim * sizeof(float);
    size_t count = (size_t)ceil(rule->class_share * (double)scores->classes);
    if (!lay_out(&sample, scores, n, count))
        return DML_ERROR_MEMORY;
    draw(&sample, scores->classes, count, labels, n, rule->rng);
    struct dml_class_scores *part = &sample.part;
#pragma omp parallel for if (sample.count > 1000)
    for (size_t s = 0; s < sample.count; s++)
        memcpy(part->vectors + s * dim, scores->vectors + sample.classes[s] * dim, row);
    part->classes = sample.count;
    part->memory = scores->memory;
    struct dml_class_rule of_part = *rule;
    of_part.class_share = 1;
    enum dml_status status = dml_class_scores_step(part, &of_part, x, sample.labels, n, grad, loss);
    scores->memory = part->memory;
    if (status)
        return status;
    memset(scores->grad, 0, scores->classes * row);
#pragma omp parallel for if (sample.count > 1000)
    for (size_t s = 0; s < sample.count; s++)
        memcpy(scores->grad + sample.classes[s] * dim, part->grad + s * dim, row);
    return DML_OK;
}
