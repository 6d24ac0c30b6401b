/* Multi-similarity loss. Wang, Han, Huang, Dong, Scott 2019, "Multi-similarity loss with general
 * pair weighting for deep metric learning".
 *
 *     For anchor i, with s_ij = <e_i, e_j>, keep the negatives with s_in + m > min_p s_ip
 *     and the positives with s_ip - m < max_n s_in; skip it when either set is empty.
 *     P_i = log(1 + sum_p exp(-w+ (s_ip - t))),  N_i = log(1 + sum_n exp(w- (s_in - t)))
 *     L = mean of P_i / w+ + N_i / w- over the K anchors left
 *
 * dL/ds_ip = -exp(-w+ (s_ip - t) - P_i) / K and dL/ds_in = exp(w- (s_in - t) - N_i) / K. The matrix
 * of these plus its transpose, times the embeddings, is dL/dE: since s is symmetric, an entry of
 * the sum is found from s_ij and the two anchors' figures alone. With a reference, s_ij is that of
 * a sample and a reference sample, which gets no gradient: dL/dE is the matrix alone, times the
 * reference. */
#include "criteria/common.h"

#include "math/gram.h"
#include "math/linear.h"
#include "math/panels.h"
#include "math/transcendental.h"

#include <math.h>
#include <omp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct options {
    double pos_weight, neg_weight, margin, thresh;
};

static const struct dml_param params[] = {
    {.name = "loss_multisimilarity_pos_weight",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, pos_weight),
     .fallback = "2",
     .max = INFINITY,
     .above_min = true,
     .help = "How sharply positives are weighted by their similarity."},
    {.name = "loss_multisimilarity_neg_weight",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, neg_weight),
     .fallback = "40",
     .max = INFINITY,
     .above_min = true,
     .help = "How sharply negatives are weighted by their similarity."},
    {.name = "loss_multisimilarity_margin",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, margin),
     .fallback = "0.1",
     .max = INFINITY,
     .help =
         "How far short of the hardest pair of the other kind a pair may fall and still be kept."},
    {.name = "loss_multisimilarity_thresh",
     .type = DML_PARAM_FLOAT,
     .offset = offsetof(struct options, thresh),
     .fallback = "0.5",
     .min = -INFINITY,
     .max = INFINITY,
     .help = "Similarity around which pairs are weighted."},
};
static const struct dml_param_table table =
    DML_PARAM_TABLE("Criterion: multisimilarity", struct options, params);

/* Rows of the gradient matrix held at a time, per thread: they stay in a core's cache from the
 * exponentials to the product. */
enum { ROWS = 6, ALONE = 32 /* up to this many samples, one thread is as fast */ };

struct state {
    struct options options;
    struct dml_buffer memory;
};

/* One step; m is n without a reference. Arrays are (n) unless noted. Exponents are kept relative to
 * the largest of their anchor, so that they stay exact for embeddings of any norm. */
struct step {
    size_t n, m, dim;
    const int32_t *labels, *columns; /* (n), (m) */
    float *s; /* (n, m); SELF for the anchor's own copy, so that it is not a positive */
    float *weakest, *hardest; /* min_p s_ip, max_n s_in; INFINITY, -INFINITY for skipped anchors */
    float *pos, *neg;         /* P_i + w+ (weakest - t), N_i - w- (hardest - t) */
    double *losses;           /* P_i / w+ + N_i / w-, 0 for skipped anchors */
    float *kept;   /* (n, m): exponentials of an anchor's kept pairs, positives negated */
    float *rows;   /* (threads, ROWS, m) */
    float *packed; /* panels of what is compared with (m, dim) */
    float wp, wn, margin, thresh;
};

static const float SELF = 1e30f;

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

/* The anchor's weakest positive and hardest negative. Returns whether the anchor is kept: it has
 * both, and they are no farther apart than the margin. */
static bool find_hardest(const struct step *step, size_t i) {
    const float *s = step->s + i * step->m;
    const int32_t *columns = step->columns, label = step->labels[i];
    float weakest = INFINITY, hardest = -INFINITY;
#pragma omp simd reduction(min : weakest) reduction(max : hardest)
    for (size_t j = 0; j < step->m; j++) {
        float positive = columns[j] == label ? s[j] : INFINITY;
        float negative = columns[j] == label ? -INFINITY : s[j];
        weakest = positive < weakest ? positive : weakest;
        hardest = negative > hardest ? negative : hardest;
    }
    bool kept = weakest < SELF && hardest + step->margin > weakest &&
                weakest - step->margin < hardest; /* the same up to rounding */
    step->weakest[i] = kept ? weakest : INFINITY;
    step->hardest[i] = kept ? hardest : -INFINITY;
    return kept;
}

/* log(1 + sum), where `sum` is that of exponentials relative to e^most; *relative is the same minus
 * `most`. */
static double softplus(double most, double sum, float *relative) {
    double shifted = most > 0 ? log(exp(-most) + sum) : log1p(exp(most) * sum) - most;
    *relative = (float)shifted;
    return shifted + most;
}

static void forward_row(const struct step *step, size_t i) {
    float *restrict kept = step->kept + i * step->m;
    step->losses[i] = 0;
    if (!find_hardest(step, i)) {
        memset(kept, 0, step->m * sizeof *kept);
        return;
    }
    const float *s = step->s + i * step->m, weakest = step->weakest[i], hardest = step->hardest[i];
    const int32_t *columns = step->columns, label = step->labels[i];
    float wp = step->wp, wn = step->wn, margin = step->margin, sum_p = 0, sum_n = 0;
#pragma omp simd reduction(+ : sum_p, sum_n)
    for (size_t j = 0; j < step->m; j++) {
        float e = dml_expf(columns[j] == label ? wp * (weakest - s[j]) : wn * (s[j] - hardest));
        float positive = columns[j] == label && s[j] - margin < hardest ? e : 0.0f;
        float negative = columns[j] != label && s[j] + margin > weakest ? e : 0.0f;
        sum_p += positive;
        sum_n += negative;
        kept[j] = negative - positive;
    }
    step->losses[i] = softplus(-wp * (weakest - step->thresh), sum_p, &step->pos[i]) / wp +
                      softplus(wn * (hardest - step->thresh), sum_n, &step->neg[i]) / wn;
}

/* Row i of dL/ds + (dL/ds)^T; `weight` is 1 / K. Without branches, so that it vectorises. */
static void backward_row(const struct step *step, size_t i, float weight, float *restrict out) {
    const float *s = step->s + i * step->n, *weakest = step->weakest, *hardest = step->hardest;
    const float *pos = step->pos, *neg = step->neg, *kept = step->kept + i * step->n;
    const int32_t *labels = step->labels, label = labels[i];
    float wp = step->wp, wn = step->wn, margin = step->margin;
    bool skipped = hardest[i] == -INFINITY;
    float scale_p = skipped ? 0 : expf(-pos[i]), scale_n = skipped ? 0 : expf(-neg[i]);
#pragma omp simd
    for (size_t j = 0; j < step->n; j++) {
        int same = labels[j] == label;
        float e = same ? wp * (weakest[j] - s[j]) - pos[j] : wn * (s[j] - hardest[j]) - neg[j];
        float keep = same ? hardest[j] - (s[j] - margin) : s[j] + margin - weakest[j];
        e = dml_expf(e);
        e = keep > 0 ? e : 0.0f;
        out[j] = weight * (kept[j] * (same ? scale_p : scale_n) + (same ? -e : e));
    }
}

/* Row i of dL/ds, for a batch with a reference. */
static void reference_row(const struct step *step, size_t i, float weight, float *restrict out) {
    const float *kept = step->kept + i * step->m;
    const int32_t *columns = step->columns, label = step->labels[i];
    const bool skipped = step->hardest[i] == -INFINITY;
    const float scale_p = skipped ? 0 : weight * expf(-step->pos[i]);
    const float scale_n = skipped ? 0 : weight * expf(-step->neg[i]);
#pragma omp simd
    for (size_t j = 0; j < step->m; j++)
        out[j] = kept[j] * (columns[j] == label ? scale_p : scale_n);
}

static void compare(const struct dml_batch *batch, struct step *step) {
    const struct dml_reference *reference = batch->reference;
    if (reference)
        dml_gemm(0, 1, step->n, step->m, step->dim, 1, batch->embeddings, step->dim,
                 reference->embeddings, step->dim, 0, step->s, step->m);
    else
        dml_gram(batch->embeddings, step->n, step->dim, step->s);
    for (size_t i = 0; i < step->n; i++) {
        long long own = !reference ? (long long)i : reference->own ? reference->own[i] : -1;
        if (own >= 0)
            step->s[i * step->m + (size_t)own] = SELF;
    }
    dml_panels_pack(step->m, step->dim, reference ? reference->embeddings : batch->embeddings,
                    step->dim, step->packed);
}

static bool start(struct state *state, const struct dml_batch *batch, struct step *step) {
    size_t n = batch->n, m = batch->reference ? batch->reference->n : n;
    size_t rows = (size_t)omp_get_max_threads() * ROWS * m, packed = dml_panels_size(m, batch->dim);
    float *memory =
        dml_buffer_reserve(&state->memory, 2 * n * m + 6 * n + rows + packed, sizeof *memory);
    if (!memory)
        return false;
    *step = (struct step){
        .n = n,
        .m = m,
        .dim = batch->dim,
        .labels = batch->labels,
        .columns = batch->reference ? batch->reference->labels : batch->labels,
        .losses = (double *)memory,
        .weakest = memory + 2 * n,
        .hardest = memory + 3 * n,
        .pos = memory + 4 * n,
        .neg = memory + 5 * n,
        .s = memory + 6 * n,
        .kept = memory + 6 * n + n * m,
        .rows = memory + 6 * n + 2 * n * m,
        .packed = memory + 6 * n + 2 * n * m + rows,
        .wp = (float)state->options.pos_weight,
        .wn = (float)state->options.neg_weight,
        .margin = (float)state->options.margin,
        .thresh = (float)state->options.thresh,
    };
    compare(batch, step);
    return true;
}

/* dL/dE of up to ROWS samples from `first` on. */
static void backward_rows(const struct step *step, bool mutual, size_t first, float weight,
                          float *grad) {
    size_t n = step->n, m = step->m, dim = step->dim, count = n - first < ROWS ? n - first : ROWS;
    float *rows = step->rows + (size_t)omp_get_thread_num() * ROWS * m;
    for (size_t i = 0; i < count; i++)
        if (mutual)
            backward_row(step, first + i, weight, rows + i * m);
        else
            reference_row(step, first + i, weight, rows + i * m);
    dml_panels_multiply(count, dim, m, rows, m, 1, step->packed, NULL, 0, grad + first * dim, dim);
}

static enum dml_status forward_backward(void *data, const struct dml_batch *batch,
                                        const struct dml_tuples *tuples, struct dml_rng *rng,
                                        float *grad, struct dml_loss *loss) {
    (void)tuples, (void)rng;
    struct step step;
    if (!start(data, batch, &step))
        return DML_ERROR_MEMORY;
    size_t n = batch->n, kept = 0;
    double sum = 0;
#pragma omp parallel for if (n > ALONE)
    for (size_t i = 0; i < n; i++)
        forward_row(&step, i);
    for (size_t i = 0; i < n; i++) {
        kept += isfinite(step.weakest[i]);
        sum += step.losses[i];
    }
    dml_loss_none(batch, n, grad, loss);
    if (kept == 0)
        return DML_OK;
    loss->active = kept;
    loss->value = sum / (double)kept;
#pragma omp parallel for if (n > ALONE)
    for (size_t first = 0; first < n; first += ROWS)
        backward_rows(&step, !batch->reference, first, 1 / (float)kept, grad);
    return DML_OK;
}

const struct dml_criterion dml_criterion_multisimilarity = {
    .method = {.name = "multisimilarity",
               .summary = "Weights pairs by their similarity, relative to the anchor's other pairs",
               .paper = "Wang et al. 2019, Multi-similarity loss with general pair weighting for "
                        "deep metric learning",
               .params = &table},
    .takes = DML_TUPLES_NONE,
    .takes_reference = true,
    .create = create,
    .forward_backward = forward_backward,
    .destroy = destroy,
};
