#include "backends/cpu/operations/operation.h"

#include "math/panels.h"
#include "math/transcendental.h"

#include <float.h>
#include <omp.h>

/* softmax(q k^T / sqrt(d)) v, Vaswani et al. 2017, for each image and head on one thread, whose
 * buffers are reused: the scores of all tokens are never kept. State: the logarithm of each row's
 * sum of exponentials, from which the backward pass computes the softmax again (Dao et al.
 * 2022). */

/* Sizes of the computation for one image and head. */
struct sizes {
    size_t n, heads, tokens, dim, channels;
    size_t panels; /* floats of the largest operand in panels */
};

static struct sizes sizes_of(const struct plan *plan, const struct plan_fusion *fusion) {
    const struct dml_node *node = &plan->graph->nodes[fusion->node];
    struct sizes s = {.n = plan->n,
                      .heads = (size_t)node->heads,
                      .tokens = (size_t)node->tokens,
                      .channels = (size_t)node->channels};
    s.dim = s.channels / s.heads;
    size_t wide = dml_panels_size(s.dim, s.tokens), narrow = dml_panels_size(s.tokens, s.dim);
    s.panels = cpu_aligned_floats(wide > narrow ? wide : narrow);
    return s;
}

static size_t square(const struct sizes *s) {
    return cpu_aligned_floats(s->tokens * s->tokens);
}

static size_t state(const struct plan *plan, const struct plan_fusion *fusion) {
    struct sizes s = sizes_of(plan, fusion);
    return s.n * s.heads * s.tokens * sizeof(float);
}

/* Floats per thread: a square of scores and an operand; one more square in the backward pass. */
static size_t forward_floats(const struct sizes *s) {
    return square(s) + s->panels;
}
static size_t backward_floats(const struct sizes *s) {
    return 2 * square(s) + s->panels;
}

static size_t threads(void) {
    return (size_t)omp_get_max_threads();
}

static size_t forward_scratch(const struct plan *plan, const struct plan_fusion *fusion) {
    struct sizes s = sizes_of(plan, fusion);
    return threads() * forward_floats(&s) * sizeof(float);
}
static size_t backward_scratch(const struct plan *plan, const struct plan_fusion *fusion) {
    struct sizes s = sizes_of(plan, fusion);
    return threads() * backward_floats(&s) * sizeof(float);
}

/* Threads that the plan has scratch memory for. */
static int planned_threads(const struct cpu_run *run, const struct plan_step *step, size_t floats) {
    return (int)(run->plan->slots[step->scratch.slot].bytes / (floats * sizeof(float)));
}

/* scores = q k^T of one head, its q in x and its k `channels` floats further on. */
static void multiply_qk(const struct sizes *s, const float *x, float *panels, float *scores) {
    size_t stride = 3 * s->channels;
    dml_panels_pack_transposed(s->dim, s->tokens, x + s->channels, stride, panels);
    dml_panels_multiply(s->tokens, s->tokens, s->dim, x, stride, 1, panels, false, scores,
                        s->tokens);
}

/* Scaled scores of a row become their softmax; returns the logarithm of the sum of exponentials. */
static float softmax(float *row, size_t count, float scale) {
    float most = -FLT_MAX, sum = 0;
#pragma omp simd reduction(max : most)
    for (size_t j = 0; j < count; j++) {
        row[j] *= scale;
        most = row[j] > most ? row[j] : most;
    }
#pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < count; j++) {
        row[j] = dml_expf(row[j] - most);
        sum += row[j];
    }
    float share = 1.0f / sum;
#pragma omp simd
    for (size_t j = 0; j < count; j++)
        row[j] *= share;
    return most + logf(sum);
}

static void head_forward(const struct sizes *s, const float *x, float *y, float *log_sums,
                         float *buffer) {
    float *scores = buffer, *panels = buffer + square(s);
    float scale = 1.0f / sqrtf((float)s->dim);
    multiply_qk(s, x, panels, scores);
    for (size_t t = 0; t < s->tokens; t++)
        log_sums[t] = softmax(scores + t * s->tokens, s->tokens, scale);
    dml_panels_pack(s->tokens, s->dim, x + 2 * s->channels, 3 * s->channels, panels);
    dml_panels_multiply(s->tokens, s->dim, s->tokens, scores, s->tokens, 1, panels, false, y,
                        s->channels);
}

static enum dml_status forward(const struct cpu_run *run, const struct plan_step *step) {
    struct sizes s = sizes_of(run->plan, plan_fusion_of(run->plan, step));
    const float *x = cpu_at(run, step->in);
    float *y = cpu_at(run, step->out), *log_sums = cpu_at(run, step->state);
    float *buffers = cpu_at(run, step->scratch);
#pragma omp parallel for collapse(2) schedule(static)                                              \
    num_threads(planned_threads(run, step, forward_floats(&s)))
    for (size_t i = 0; i < s.n; i++)
        for (size_t h = 0; h < s.heads; h++)
            head_forward(&s, x + i * s.tokens * 3 * s.channels + h * s.dim,
                         y + i * s.tokens * s.channels + h * s.dim,
                         log_sums + (i * s.heads + h) * s.tokens,
                         buffers + (size_t)omp_get_thread_num() * forward_floats(&s));
    return DML_OK;
}

/* From scores and d = dL/d(softmax): the softmax p, and in place of d the gradient of q k^T,
 * p (d - sum p d) / sqrt(dim). */
static void softmax_gradient(const struct sizes *s, const float *log_sums, float scale,
                             float *scores, float *d) {
    for (size_t t = 0; t < s->tokens; t++) {
        float *p = scores + t * s->tokens, *g = d + t * s->tokens, dot = 0;
#pragma omp simd reduction(+ : dot)
        for (size_t j = 0; j < s->tokens; j++) {
            p[j] = dml_expf(p[j] * scale - log_sums[t]);
            dot += p[j] * g[j];
        }
#pragma omp simd
        for (size_t j = 0; j < s->tokens; j++)
            g[j] = p[j] * (g[j] - dot) * scale;
    }
}

/* grad (tokens, dim), rows `channels` apart; out is the gradient of q, with those of k and v each
 * `channels` floats further on, as in x. */
static void head_backward(const struct sizes *s, const float *x, const float *log_sums,
                          const float *grad, float *out, float *buffer) {
    float *scores = buffer, *d = scores + square(s), *panels = d + square(s);
    size_t wide = 3 * s->channels, tokens = s->tokens, dim = s->dim;
    const float *q = x, *k = x + s->channels, *v = x + 2 * s->channels;
    multiply_qk(s, x, panels, scores);
    dml_panels_pack_transposed(dim, tokens, v, wide, panels); /* d = grad v^T */
    dml_panels_multiply(tokens, tokens, dim, grad, s->channels, 1, panels, false, d, tokens);
    softmax_gradient(s, log_sums, 1.0f / sqrtf((float)dim), scores, d);
    dml_panels_pack(tokens, dim, grad, s->channels, panels); /* for v: p^T grad */
    dml_panels_multiply(tokens, dim, tokens, scores, 1, tokens, panels, false,
                        out + 2 * s->channels, wide);
    dml_panels_pack(tokens, dim, k, wide, panels); /* for q: d k */
    dml_panels_multiply(tokens, dim, tokens, d, tokens, 1, panels, false, out, wide);
    dml_panels_pack(tokens, dim, q, wide, panels); /* for k: d^T q */
    dml_panels_multiply(tokens, dim, tokens, d, 1, tokens, panels, false, out + s->channels, wide);
}

static enum dml_status backward(const struct cpu_run *run, const struct plan_step *step) {
    struct sizes s = sizes_of(run->plan, plan_fusion_of(run->plan, step));
    const float *grad = cpu_at(run, step->in), *x = cpu_at(run, step->other);
    const float *log_sums = cpu_at(run, step->state);
    float *out = cpu_at(run, step->out), *buffers = cpu_at(run, step->scratch);
    if (!out)
        return DML_OK;
#pragma omp parallel for collapse(2) schedule(static)                                              \
    num_threads(planned_threads(run, step, backward_floats(&s)))
    for (size_t i = 0; i < s.n; i++)
        for (size_t h = 0; h < s.heads; h++) {
            size_t at = i * s.tokens * 3 * s.channels + h * s.dim;
            head_backward(&s, x + at, log_sums + (i * s.heads + h) * s.tokens,
                          grad + i * s.tokens * s.channels + h * s.dim, out + at,
                          buffers + (size_t)omp_get_thread_num() * backward_floats(&s));
        }
    return DML_OK;
}

const struct cpu_op *cpu_op_attention(void) {
    static const struct cpu_op op = {.reads_input = true,
                                     .state = state,
                                     .forward_scratch = forward_scratch,
                                     .backward_scratch = backward_scratch,
                                     .forward = forward,
                                     .backward = backward};
    return &op;
}
