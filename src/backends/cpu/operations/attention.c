#include "backends/cpu/operations/attention.h"

#include "backends/cpu/traits.h"
#include "math/panels.h"

#include <omp.h>

/* softmax(q k^T / sqrt(d)) v, Vaswani et al. 2017, for each image and head on one thread, whose
 * buffers are reused: the scores of all tokens are never kept. State: the logarithm of each row's
 * sum of exponentials, from which the backward pass computes the softmax again (Dao et al.
 * 2022). */

static struct cpu_attention sizes_of(const struct plan *plan, const struct plan_fusion *fusion) {
    const struct dml_node *node = &plan->graph->nodes[fusion->node];
    const struct cpu_planning *planning = plan->traits->context;
    struct cpu_attention s = {.n = plan->n,
                              .heads = (size_t)node->heads,
                              .tokens = (size_t)node->tokens,
                              .channels = (size_t)node->channels,
                              .pairs = cpu_op_rounding(planning->params, fusion).pairs};
    s.dim = s.channels / s.heads;
    return s;
}

/* Floats of an operand in panels, the largest. */
static size_t panels(const struct cpu_attention *s) {
    size_t wide = dml_panels_size(s->dim, s->tokens), narrow = dml_panels_size(s->tokens, s->dim);
    return cpu_aligned_floats(wide > narrow ? wide : narrow);
}

static size_t square(const struct cpu_attention *s) {
    return cpu_aligned_floats(s->tokens * s->tokens);
}

static size_t state(const struct plan *plan, const struct plan_fusion *fusion) {
    struct cpu_attention s = sizes_of(plan, fusion);
    return s.n * s.heads * s.tokens * sizeof(float);
}

/* Bytes per thread: a square of scores and an operand; one more square in the backward pass. */
static size_t forward_bytes(const struct cpu_attention *s) {
    return s->pairs ? cpu_attention_pairs_forward_bytes(s)
                    : (square(s) + panels(s)) * sizeof(float);
}
static size_t backward_bytes(const struct cpu_attention *s) {
    return s->pairs ? cpu_attention_pairs_backward_bytes(s)
                    : (2 * square(s) + panels(s)) * sizeof(float);
}

static size_t threads(void) {
    return (size_t)omp_get_max_threads();
}

static size_t forward_scratch(const struct plan *plan, const struct plan_fusion *fusion) {
    struct cpu_attention s = sizes_of(plan, fusion);
    return threads() * forward_bytes(&s);
}
static size_t backward_scratch(const struct plan *plan, const struct plan_fusion *fusion) {
    struct cpu_attention s = sizes_of(plan, fusion);
    return threads() * backward_bytes(&s);
}

/* Threads that the plan has scratch memory for. */
static int planned_threads(const struct cpu_run *run, const struct plan_step *step, size_t bytes) {
    return (int)(run->plan->slots[step->scratch.slot].bytes / bytes);
}

/* scores = q k^T of one head, its q in x and its k `channels` floats further on. */
static void multiply_qk(const struct cpu_attention *s, const float *x, float *panels,
                        float *scores) {
    size_t stride = 3 * s->channels;
    dml_panels_pack_transposed(s->dim, s->tokens, x + s->channels, stride, panels);
    dml_panels_multiply(s->tokens, s->tokens, s->dim, x, stride, 1, panels, NULL, 0, scores,
                        s->tokens);
}

static void head_forward(const struct cpu_attention *s, const float *x, float *y, float *log_sums,
                         float *buffer) {
    float *scores = buffer, *panels = buffer + square(s);
    float scale = 1.0f / sqrtf((float)s->dim);
    multiply_qk(s, x, panels, scores);
    for (size_t t = 0; t < s->tokens; t++)
        log_sums[t] = cpu_softmax(scores + t * s->tokens, s->tokens, scale);
    dml_panels_pack(s->tokens, s->dim, x + 2 * s->channels, 3 * s->channels, panels);
    dml_panels_multiply(s->tokens, s->dim, s->tokens, scores, s->tokens, 1, panels, NULL, 0, y,
                        s->channels);
}

/* A matrix from element `first` of a tensor on. */
static struct cpu_matrix matrix_at(struct cpu_values x, size_t first, size_t ld) {
    return (struct cpu_matrix){(char *)x.at + first * plan_element_size(x.element), x.element, ld};
}
static struct cpu_pair_result result_at(struct cpu_values y, size_t first, size_t ld) {
    return (struct cpu_pair_result){
        .c = (char *)y.at + first * plan_element_size(y.element), .element = y.element, .ldc = ld};
}

static enum dml_status forward(const struct cpu_run *run, const struct plan_step *step) {
    struct cpu_attention s = sizes_of(run->plan, plan_fusion_of(run->plan, step));
    struct cpu_values in = cpu_values_at(run, step->in), out = cpu_values_at(run, step->out);
    float *log_sums = cpu_at(run, step->state);
    char *buffers = cpu_at(run, step->scratch);
    size_t bytes = forward_bytes(&s);
#pragma omp parallel for collapse(2) schedule(static) num_threads(planned_threads(run, step, bytes))
    for (size_t i = 0; i < s.n; i++)
        for (size_t h = 0; h < s.heads; h++) {
            size_t x = i * s.tokens * 3 * s.channels + h * s.dim;
            size_t y = i * s.tokens * s.channels + h * s.dim;
            float *sums = log_sums + (i * s.heads + h) * s.tokens;
            void *buffer = buffers + (size_t)omp_get_thread_num() * bytes;
            if (s.pairs)
                cpu_attention_pairs_forward(&s, matrix_at(in, x, 3 * s.channels),
                                            result_at(out, y, s.channels), sums, buffer);
            else
                head_forward(&s, (const float *)in.at + x, (float *)out.at + y, sums, buffer);
        }
    return DML_OK;
}

/* grad (tokens, dim), rows `channels` apart; out is the gradient of q, with those of k and v each
 * `channels` floats further on, as in x. */
static void head_backward(const struct cpu_attention *s, const float *x, const float *log_sums,
                          const float *grad, float *out, float *buffer) {
    float *scores = buffer, *d = scores + square(s), *panels = d + square(s);
    size_t wide = 3 * s->channels, tokens = s->tokens, dim = s->dim;
    const float *q = x, *k = x + s->channels, *v = x + 2 * s->channels;
    float scale = 1.0f / sqrtf((float)dim);
    multiply_qk(s, x, panels, scores);
    dml_panels_pack_transposed(dim, tokens, v, wide, panels); /* d = grad v^T */
    dml_panels_multiply(tokens, tokens, dim, grad, s->channels, 1, panels, NULL, 0, d, tokens);
    for (size_t t = 0; t < tokens; t++)
        cpu_softmax_gradient(scores + t * tokens, d + t * tokens, tokens, log_sums[t], scale);
    dml_panels_pack(tokens, dim, grad, s->channels, panels); /* for v: p^T grad */
    dml_panels_multiply(tokens, dim, tokens, scores, 1, tokens, panels, NULL, 0,
                        out + 2 * s->channels, wide);
    dml_panels_pack(tokens, dim, k, wide, panels); /* for q: d k */
    dml_panels_multiply(tokens, dim, tokens, d, tokens, 1, panels, NULL, 0, out, wide);
    dml_panels_pack(tokens, dim, q, wide, panels); /* for k: d^T q */
    dml_panels_multiply(tokens, dim, tokens, d, 1, tokens, panels, NULL, 0, out + s->channels,
                        wide);
}

static enum dml_status backward(const struct cpu_run *run, const struct plan_step *step) {
    struct cpu_attention s = sizes_of(run->plan, plan_fusion_of(run->plan, step));
    struct cpu_values in = cpu_values_at(run, step->in), input = cpu_values_at(run, step->other);
    struct cpu_values out = cpu_values_at(run, step->out);
    const float *log_sums = cpu_at(run, step->state);
    char *buffers = cpu_at(run, step->scratch);
    size_t bytes = backward_bytes(&s);
    if (!out.at)
        return DML_OK;
#pragma omp parallel for collapse(2) schedule(static) num_threads(planned_threads(run, step, bytes))
    for (size_t i = 0; i < s.n; i++)
        for (size_t h = 0; h < s.heads; h++) {
            size_t x = i * s.tokens * 3 * s.channels + h * s.dim;
            size_t y = i * s.tokens * s.channels + h * s.dim;
            const float *sums = log_sums + (i * s.heads + h) * s.tokens;
            void *buffer = buffers + (size_t)omp_get_thread_num() * bytes;
            if (s.pairs)
                cpu_attention_pairs_backward(&s, matrix_at(input, x, 3 * s.channels), sums,
                                             matrix_at(in, y, s.channels),
                                             result_at(out, x, 3 * s.channels), buffer);
            else
                head_backward(&s, (const float *)input.at + x, sums, (const float *)in.at + y,
                              (float *)out.at + x, buffer);
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
