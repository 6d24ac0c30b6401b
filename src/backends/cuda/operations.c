#include "backends/cuda/run.h"

#include "dml/rng.h"

#include <math.h>

/* The operations of transformers, and linear layers, as backends/cpu/operations has them. */

static const struct dml_node *node_of(const struct cuda_run *run, const struct plan_step *step) {
    return &run->plan->graph->nodes[plan_fusion_of(run->plan, step)->node];
}

static const float *value(const struct cuda_run *run, const struct plan_step *step,
                          enum dml_param_role role) {
    return cuda_value(run->params, plan_fusion_of(run->plan, step)->node, role);
}
static float *gradient(const struct cuda_run *run, const struct plan_step *step,
                       enum dml_param_role role) {
    return cuda_grad(run->params, plan_fusion_of(run->plan, step)->node, role);
}

/* The tensor of a step's fusion, and that of its input. */
static struct cuda_rows out_rows(const struct cuda_run *run, const struct plan_step *step) {
    return cuda_rows_of(&plan_fusion_of(run->plan, step)->layout, run->plan->n);
}
static const struct plan_layout *in_layout(const struct plan *plan, const struct plan_step *step) {
    return &plan_input_of(plan, plan_fusion_of(plan, step))->layout;
}
static struct cuda_rows in_rows(const struct cuda_run *run, const struct plan_step *step) {
    return cuda_rows_of(in_layout(run->plan, step), run->plan->n);
}

static void multiply(const struct cuda_run *run, struct cuda_gemm gemm) {
    if (gemm.batch == 0)
        gemm.batch = 1;
    gemm.narrow = run->params->narrow_products;
    run->on->api->gemm(run->on->device, &gemm);
}

/* grad[c] = the sum over rows of x[c], or of x[c] y[c]. */
static void column_sums(const struct cuda_run *run, const struct plan_step *step,
                        struct cuda_carving *carving, const float *x, const float *y, float *grad) {
    struct cuda_rows rows = out_rows(run, step);
    struct cuda_summing summing = cuda_carve_sums(carving, rows.width);
    enum cuda_sum kind = y ? CUDA_SUM_PRODUCT : CUDA_SUM;
    cuda_sum(run, &summing, &(struct cuda_sums){kind, rows, x, y, NULL});
    run->on->kernels->store(run->on->stream, rows.width, summing.sums + (y ? rows.width : 0), 1,
                            grad);
}

/* y = x W^T + b + residual, for each row. */
static void linear_forward(const struct cuda_run *run, const struct plan_step *step) {
    struct cuda_rows in = in_rows(run, step), out = out_rows(run, step);
    size_t width = (size_t)in_layout(run->plan, step)->channels;
    float *y = cuda_at(run, step->out);
    run->on->kernels->affine(run->on->stream, out, NULL, NULL, value(run, step, DML_ROLE_BIAS),
                             cuda_at(run, step->other), false, y);
    multiply(run, (struct cuda_gemm){.transpose_b = true,
                                     .m = out.count,
                                     .n = out.width,
                                     .k = width,
                                     .a = cuda_at(run, step->in),
                                     .lda = in.stride,
                                     .b = value(run, step, DML_ROLE_WEIGHT),
                                     .ldb = width,
                                     .c = y,
                                     .ldc = out.stride,
                                     .beta = 1});
}

static void linear_backward(const struct cuda_run *run, const struct plan_step *step) {
    struct cuda_rows in = in_rows(run, step), out = out_rows(run, step);
    struct cuda_carving carving = {cuda_at(run, step->scratch), 0};
    size_t width = (size_t)in_layout(run->plan, step)->channels;
    const float *grad = cuda_at(run, step->in);
    float *bias = gradient(run, step, DML_ROLE_BIAS), *grad_x = cuda_at(run, step->out);
    multiply(run, (struct cuda_gemm){.transpose_a = true,
                                     .m = out.width,
                                     .n = width,
                                     .k = out.count,
                                     .a = grad,
                                     .lda = out.stride,
                                     .b = cuda_at(run, step->other),
                                     .ldb = in.stride,
                                     .c = gradient(run, step, DML_ROLE_WEIGHT),
                                     .ldc = width});
    if (bias)
        column_sums(run, step, &carving, grad, NULL, bias);
    if (!grad_x)
        return;
    if (in.stride != width)
        run->on->api->zero(run->on->device, grad_x, in.count * in.stride * sizeof *grad_x);
    multiply(run, (struct cuda_gemm){.m = in.count,
                                     .n = width,
                                     .k = out.width,
                                     .a = grad,
                                     .lda = out.stride,
                                     .b = value(run, step, DML_ROLE_WEIGHT),
                                     .ldb = width,
                                     .c = grad_x,
                                     .ldc = in.stride});
}

static void layer_norm_forward(const struct cuda_run *run, const struct plan_step *step) {
    struct cuda_rows rows = out_rows(run, step);
    float *mean = cuda_at(run, step->state);
    run->on->kernels->layer_norm(run->on->stream, rows, node_of(run, step)->epsilon,
                                 cuda_at(run, step->in), value(run, step, DML_ROLE_NORM_WEIGHT),
                                 value(run, step, DML_ROLE_NORM_BIAS), cuda_at(run, step->out),
                                 mean, mean + rows.count);
}

static void layer_norm_backward(const struct cuda_run *run, const struct plan_step *step) {
    const struct cuda_kernels *k = run->on->kernels;
    cuda_stream s = run->on->stream;
    struct cuda_rows rows = out_rows(run, step);
    struct cuda_carving carving = {cuda_at(run, step->scratch), 0};
    const float *weight = value(run, step, DML_ROLE_NORM_WEIGHT), *mean = cuda_at(run, step->state);
    const float *grad = cuda_at(run, step->in), *x = cuda_at(run, step->other);
    if (weight) {
        struct cuda_summing summing = cuda_carve_sums(&carving, rows.width);
        cuda_sum(run, &summing, &(struct cuda_sums){CUDA_SUM_NORMED, rows, grad, x, mean});
        k->store(s, rows.width, summing.sums + rows.width, 1,
                 gradient(run, step, DML_ROLE_NORM_WEIGHT));
        k->store(s, rows.width, summing.sums, 1, gradient(run, step, DML_ROLE_NORM_BIAS));
    }
    if (step->out.slot >= 0)
        k->layer_norm_gradient(s, rows, grad, x, weight, mean, mean + rows.count,
                               cuda_at(run, step->out));
}

/* A convolution whose windows lie side by side: pixels gathered patch by patch, and one product.
 * Returns the number of values in a patch. */
static size_t gather_patches(const struct cuda_run *run, const struct plan_step *step,
                             const float *image, float *patches) {
    const struct plan_layout *in = in_layout(run->plan, step);
    size_t side = (size_t)node_of(run, step)->kernel_h;
    struct cuda_input shape = {.n = run->plan->n,
                               .height = (size_t)in->height,
                               .width = (size_t)in->width,
                               .stride = plan_layout_channels(in)};
    run->on->kernels->patches(run->on->stream, &shape, side, image, patches);
    return 3 * side * side;
}

static void patches_forward(const struct cuda_run *run, const struct plan_step *step) {
    struct cuda_rows out = out_rows(run, step);
    float *patches = cuda_at(run, step->scratch), *y = cuda_at(run, step->out);
    size_t width = gather_patches(run, step, cuda_at(run, step->in), patches);
    run->on->kernels->affine(run->on->stream, out, NULL, NULL, value(run, step, DML_ROLE_BIAS),
                             NULL, false, y);
    multiply(run, (struct cuda_gemm){.transpose_b = true,
                                     .m = out.count,
                                     .n = out.width,
                                     .k = width,
                                     .a = patches,
                                     .lda = width,
                                     .b = value(run, step, DML_ROLE_WEIGHT),
                                     .ldb = width,
                                     .c = y,
                                     .ldc = out.stride,
                                     .beta = 1});
}

static size_t patch_floats(const struct plan *plan, const struct plan_step *step) {
    const struct plan_fusion *fusion = plan_fusion_of(plan, step);
    size_t side = (size_t)plan->graph->nodes[fusion->node].kernel_h;
    return plan->n * fusion->layout.pixels * 3 * side * side;
}

/* For the parameters only: nothing needs the gradient of an image. */
static void patches_backward(const struct cuda_run *run, const struct plan_step *step) {
    struct cuda_rows out = out_rows(run, step);
    struct cuda_carving carving = {cuda_at(run, step->scratch), 0};
    float *patches = cuda_carve(&carving, patch_floats(run->plan, step) * sizeof *patches);
    float *bias = gradient(run, step, DML_ROLE_BIAS);
    const float *grad = cuda_at(run, step->in);
    size_t width = gather_patches(run, step, cuda_at(run, step->other), patches);
    multiply(run, (struct cuda_gemm){.transpose_a = true,
                                     .m = out.width,
                                     .n = width,
                                     .k = out.count,
                                     .a = grad,
                                     .lda = out.stride,
                                     .b = patches,
                                     .ldb = width,
                                     .c = gradient(run, step, DML_ROLE_WEIGHT),
                                     .ldc = width});
    if (bias)
        column_sums(run, step, &carving, grad, NULL, bias);
}

static struct cuda_tokens tokens_of(const struct cuda_run *run, const struct plan_step *step) {
    const struct dml_node *node = node_of(run, step);
    const struct dml_graph *graph = run->plan->graph;
    int registers =
        dml_graph_find_param(graph, plan_fusion_of(run->plan, step)->node, DML_ROLE_REGISTERS);
    return (struct cuda_tokens){.n = run->plan->n,
                                .tokens = (size_t)node->tokens,
                                .prefix = (size_t)node->prefix,
                                .registers =
                                    registers < 0 ? 0 : (size_t)graph->params[registers].dims[1],
                                .channels = (size_t)node->channels,
                                .cls = value(run, step, DML_ROLE_CLASS_TOKEN),
                                .distilled = value(run, step, DML_ROLE_DISTILLATION_TOKEN),
                                .extra = value(run, step, DML_ROLE_REGISTERS),
                                .positions = value(run, step, DML_ROLE_POSITIONS)};
}

static void tokens_forward(const struct cuda_run *run, const struct plan_step *step) {
    struct cuda_tokens tokens = tokens_of(run, step);
    run->on->kernels->tokens(run->on->stream, &tokens, cuda_at(run, step->in),
                             cuda_at(run, step->out));
}

static void tokens_backward(const struct cuda_run *run, const struct plan_step *step) {
    struct cuda_tokens tokens = tokens_of(run, step);
    struct cuda_token_grads grads = {
        gradient(run, step, DML_ROLE_CLASS_TOKEN), gradient(run, step, DML_ROLE_DISTILLATION_TOKEN),
        gradient(run, step, DML_ROLE_REGISTERS), gradient(run, step, DML_ROLE_POSITIONS)};
    run->on->kernels->tokens_gradient(run->on->stream, &tokens, cuda_at(run, step->in), &grads,
                                      cuda_at(run, step->out));
}

/* softmax(q k^T / sqrt(d)) v: the products of one head in all images at once. The scores are kept
 * only during the step; the backward pass computes them again from the logarithms of their sums. */
struct heads {
    struct cuda_attention shape;
    size_t dim, channels, square, wide;
};
static struct heads heads_of(const struct plan *plan, const struct plan_fusion *fusion) {
    const struct dml_node *node = &plan->graph->nodes[fusion->node];
    struct heads h = {.shape = {plan->n, (size_t)node->heads, (size_t)node->tokens, 0},
                      .channels = (size_t)node->channels};
    h.dim = h.channels / h.shape.heads;
    h.square = h.shape.tokens * h.shape.tokens;
    h.wide = 3 * h.channels;
    h.shape.scale = 1.0f / sqrtf((float)h.dim);
    return h;
}
static size_t score_bytes(const struct heads *h) {
    return h->shape.n * h->shape.heads * h->square * sizeof(float);
}

/* A head's part of each image in scores, in (tokens, channels), and in q, k and v side by side. */
enum part { SCORES, NARROW, WIDE };
struct operand {
    const float *data;
    enum part part;
    bool transpose;
};
static size_t row_floats(const struct heads *h, enum part part) {
    return part == SCORES ? h->shape.tokens : part == NARROW ? h->channels : h->wide;
}
static size_t image_floats(const struct heads *h, enum part part) {
    return part == SCORES ? h->shape.heads * h->square : h->shape.tokens * row_floats(h, part);
}
static size_t head_floats(const struct heads *h, enum part part) {
    return part == SCORES ? h->square : h->dim;
}

/* c = a b for every image and head: n columns, sums over k products. */
static void multiply_heads(const struct cuda_run *run, const struct heads *h, struct operand a,
                           struct operand b, size_t n, size_t k, float *c, enum part part) {
    for (size_t head = 0; head < h->shape.heads; head++)
        multiply(run, (struct cuda_gemm){.transpose_a = a.transpose,
                                         .transpose_b = b.transpose,
                                         .m = h->shape.tokens,
                                         .n = n,
                                         .k = k,
                                         .batch = h->shape.n,
                                         .a = a.data + head * head_floats(h, a.part),
                                         .lda = row_floats(h, a.part),
                                         .stride_a = image_floats(h, a.part),
                                         .b = b.data + head * head_floats(h, b.part),
                                         .ldb = row_floats(h, b.part),
                                         .stride_b = image_floats(h, b.part),
                                         .c = c + head * head_floats(h, part),
                                         .ldc = row_floats(h, part),
                                         .stride_c = image_floats(h, part)});
}

static void attention_forward(const struct cuda_run *run, const struct plan_step *step) {
    struct heads h = heads_of(run->plan, plan_fusion_of(run->plan, step));
    const float *q = cuda_at(run, step->in), *k = q + h.channels, *v = k + h.channels;
    float *scores = cuda_at(run, step->scratch);
    size_t tokens = h.shape.tokens;
    multiply_heads(run, &h, (struct operand){q, WIDE, false}, (struct operand){k, WIDE, true},
                   tokens, h.dim, scores, SCORES);
    run->on->kernels->softmax(run->on->stream, &h.shape, scores, cuda_at(run, step->state));
    multiply_heads(run, &h, (struct operand){scores, SCORES, false},
                   (struct operand){v, WIDE, false}, h.dim, tokens, cuda_at(run, step->out),
                   NARROW);
}

static void attention_backward(const struct cuda_run *run, const struct plan_step *step) {
    struct heads h = heads_of(run->plan, plan_fusion_of(run->plan, step));
    struct cuda_carving carving = {cuda_at(run, step->scratch), 0};
    float *scores = cuda_carve(&carving, score_bytes(&h)),
          *d = cuda_carve(&carving, score_bytes(&h));
    const float *grad = cuda_at(run, step->in);
    const float *q = cuda_at(run, step->other), *k = q + h.channels, *v = k + h.channels;
    float *out = cuda_at(run, step->out);
    size_t tokens = h.shape.tokens;
    if (!out)
        return;
    multiply_heads(run, &h, (struct operand){q, WIDE, false}, (struct operand){k, WIDE, true},
                   tokens, h.dim, scores, SCORES);
    multiply_heads(run, &h, (struct operand){grad, NARROW, false}, (struct operand){v, WIDE, true},
                   tokens, h.dim, d, SCORES);
    run->on->kernels->softmax_gradient(run->on->stream, &h.shape, cuda_at(run, step->state), scores,
                                       d);
    multiply_heads(run, &h, (struct operand){scores, SCORES, true},
                   (struct operand){grad, NARROW, false}, h.dim, tokens, out + 2 * h.channels,
                   WIDE);
    multiply_heads(run, &h, (struct operand){d, SCORES, false}, (struct operand){k, WIDE, false},
                   h.dim, tokens, out, WIDE);
    multiply_heads(run, &h, (struct operand){d, SCORES, true}, (struct operand){q, WIDE, false},
                   h.dim, tokens, out + h.channels, WIDE);
}

static size_t elements(const struct cuda_run *run, const struct plan_step *step) {
    return run->plan->n * plan_fusion_of(run->plan, step)->layout.image;
}

/* 0, or 1 / (1 - rate), for each image, as the CPU draws it. */
static void upload_keeps(const struct cuda_run *run, const struct plan_step *step, float *factors) {
    float rate = node_of(run, step)->rate, *host = (float *)run->images->host;
    const struct dml_images *images = run->pass->images;
    uint64_t node = (uint64_t)plan_fusion_of(run->plan, step)->node;
    for (size_t i = 0; i < run->plan->n; i++) {
        struct dml_rng rng = dml_rng_make(images->seed, DML_PURPOSE_DROP_PATH, images->step,
                                          node << 32 | (images->first + run->pass->first + i));
        host[i] = dml_rng_uniform(&rng) < rate ? 0.0f : 1.0f / (1.0f - rate);
    }
    run->on->api->upload(run->on->device, factors, host, run->plan->n * sizeof *factors);
}

static void drop_path_forward(const struct cuda_run *run, const struct plan_step *step) {
    float *factors = cuda_at(run, step->state);
    if (!factors) { /* inference keeps all */
        run->on->kernels->affine(run->on->stream, out_rows(run, step), cuda_at(run, step->in), NULL,
                                 NULL, cuda_at(run, step->other), false, cuda_at(run, step->out));
        return;
    }
    upload_keeps(run, step, factors);
    run->on->kernels->keep(
        run->on->stream, run->plan->n, plan_fusion_of(run->plan, step)->layout.image, factors,
        cuda_at(run, step->in), cuda_at(run, step->other), cuda_at(run, step->out));
}

static size_t means_of(const struct cuda_run *run, const struct plan_step *step,
                       struct cuda_mean out[2]) {
    const struct dml_node *node = node_of(run, step);
    const struct dml_node *input = &run->plan->graph->nodes[node->inputs[0]];
    size_t prefix = (size_t)input->prefix, tokens = (size_t)input->tokens;
    const struct cuda_mean patches = {prefix, tokens - prefix, 0};
    out[0] = (struct cuda_mean){0, node->pool == DML_TOKENS_DISTILLED ? 2 : 1, 0};
    out[1] = patches;
    out[1].to = (size_t)input->channels;
    if (node->pool == DML_TOKENS_AVG)
        out[0] = patches;
    return node->pool == DML_TOKENS_CLS_AVG ? 2 : 1;
}

static void token_pool(const struct cuda_run *run, const struct plan_step *step, bool forward) {
    const struct cuda_on *on = run->on;
    const struct plan_layout *in = in_layout(run->plan, step);
    size_t image = plan_fusion_of(run->plan, step)->layout.image, n = run->plan->n;
    struct cuda_mean means[2];
    size_t count = means_of(run, step, means), channels = (size_t)in->channels;
    float *out = cuda_at(run, step->out);
    if (!out)
        return;
    on->api->zero(on->device, out, n * (forward ? image : in->image) * sizeof *out);
    for (size_t p = 0; p < count; p++)
        (forward ? on->kernels->token_mean : on->kernels->token_mean_gradient)(
            on->stream, n, in->pixels, channels, &means[p], cuda_at(run, step->in), image, out);
}

static void layer_scale_backward(const struct cuda_run *run, const struct plan_step *step) {
    struct cuda_carving carving = {cuda_at(run, step->scratch), 0};
    const float *grad = cuda_at(run, step->in);
    column_sums(run, step, &carving, grad, cuda_at(run, step->other),
                gradient(run, step, DML_ROLE_LAYER_SCALE));
    if (step->out.slot >= 0)
        run->on->kernels->affine(run->on->stream, out_rows(run, step), grad,
                                 value(run, step, DML_ROLE_LAYER_SCALE), NULL, NULL, false,
                                 cuda_at(run, step->out));
}

void cuda_operation_forward(const struct cuda_run *run, const struct plan_step *step) {
    switch (plan_fusion_of(run->plan, step)->kind) {
    case PLAN_FUSION_LINEAR:
        linear_forward(run, step);
        break;
    case PLAN_FUSION_LAYER_NORM:
        layer_norm_forward(run, step);
        break;
    case PLAN_FUSION_PATCHES:
        patches_forward(run, step);
        break;
    case PLAN_FUSION_TOKENS:
        tokens_forward(run, step);
        break;
    case PLAN_FUSION_ATTENTION:
        attention_forward(run, step);
        break;
    case PLAN_FUSION_GELU:
        run->on->kernels->gelu(run->on->stream, elements(run, step),
                               node_of(run, step)->op == DML_OP_QUICK_GELU, cuda_at(run, step->in),
                               cuda_at(run, step->out));
        break;
    case PLAN_FUSION_LAYER_SCALE:
        run->on->kernels->affine(run->on->stream, out_rows(run, step), cuda_at(run, step->in),
                                 value(run, step, DML_ROLE_LAYER_SCALE), NULL,
                                 cuda_at(run, step->other), false, cuda_at(run, step->out));
        break;
    case PLAN_FUSION_DROP_PATH:
        drop_path_forward(run, step);
        break;
    case PLAN_FUSION_TOKEN_POOL:
        token_pool(run, step, true);
        break;
    default:
        break;
    }
}

void cuda_operation_backward(const struct cuda_run *run, const struct plan_step *step) {
    switch (plan_fusion_of(run->plan, step)->kind) {
    case PLAN_FUSION_LINEAR:
        linear_backward(run, step);
        break;
    case PLAN_FUSION_LAYER_NORM:
        layer_norm_backward(run, step);
        break;
    case PLAN_FUSION_PATCHES:
        patches_backward(run, step);
        break;
    case PLAN_FUSION_TOKENS:
        tokens_backward(run, step);
        break;
    case PLAN_FUSION_ATTENTION:
        attention_backward(run, step);
        break;
    case PLAN_FUSION_GELU:
        if (step->out.slot >= 0)
            run->on->kernels->gelu_gradient(
                run->on->stream, elements(run, step), node_of(run, step)->op == DML_OP_QUICK_GELU,
                cuda_at(run, step->in), cuda_at(run, step->other), cuda_at(run, step->out));
        break;
    case PLAN_FUSION_LAYER_SCALE:
        layer_scale_backward(run, step);
        break;
    case PLAN_FUSION_DROP_PATH:
        if (step->out.slot >= 0)
            run->on->kernels->keep(
                run->on->stream, run->plan->n, plan_fusion_of(run->plan, step)->layout.image,
                cuda_at(run, step->state), cuda_at(run, step->in), NULL, cuda_at(run, step->out));
        break;
    case PLAN_FUSION_TOKEN_POOL:
        token_pool(run, step, false);
        break;
    default:
        break;
    }
}

size_t cuda_operation_state(const struct plan *plan, const struct plan_fusion *fusion) {
    struct heads h;
    switch (fusion->kind) {
    case PLAN_FUSION_LAYER_NORM: /* mean and inverse of each row */
        return 2 * plan->n * fusion->layout.pixels * sizeof(float);
    case PLAN_FUSION_ATTENTION: /* logarithms of sums */
        h = heads_of(plan, fusion);
        return h.shape.n * h.shape.heads * h.shape.tokens * sizeof(float);
    case PLAN_FUSION_DROP_PATH: /* factors */
        return plan->kind == PLAN_TRAIN ? plan->n * sizeof(float) : 0;
    default:
        return 0;
    }
}

size_t cuda_operation_scratch(const struct plan *plan, const struct plan_step *step) {
    const struct plan_fusion *fusion = plan_fusion_of(plan, step);
    size_t channels = plan_layout_channels(&fusion->layout);
    struct cuda_carving carving = {NULL, 0};
    bool forward = step->kind == PLAN_STEP_FORWARD;
    if (!forward && step->kind != PLAN_STEP_OPERATION)
        return 0;
    if (fusion->kind == PLAN_FUSION_ATTENTION) {
        struct heads h = heads_of(plan, fusion);
        cuda_carve(&carving, score_bytes(&h));
        if (!forward)
            cuda_carve(&carving, score_bytes(&h));
        return carving.bytes;
    }
    if (fusion->kind == PLAN_FUSION_PATCHES)
        cuda_carve(&carving, patch_floats(plan, step) * sizeof(float));
    if (!forward &&
        (fusion->kind == PLAN_FUSION_PATCHES || fusion->kind == PLAN_FUSION_LINEAR ||
         fusion->kind == PLAN_FUSION_LAYER_NORM || fusion->kind == PLAN_FUSION_LAYER_SCALE))
        cuda_carve_sums(&carving, channels);
    return carving.bytes;
}
