#include "backends/cuda/run.h"

#include "backends/parts.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

static const struct plan_fusion *unit_at(const struct cuda_run *run, int u) {
    return &run->plan->fusions.fusions[u];
}

static size_t channels_of(const struct plan_fusion *fusion) {
    return plan_layout_channels(&fusion->layout);
}

void cuda_sum(const struct cuda_run *run, const struct cuda_summing *summing,
              const struct cuda_sums *sums) {
    run->on->kernels->sums(run->on->stream, sums, summing->partial, summing->sums);
}

static void run_input(const struct cuda_run *run, const struct plan_step *step) {
    const struct plan_fusion *fusion = unit_at(run, step->fusion);
    const struct dml_node *affine =
        fusion->affine >= 0 ? &run->plan->graph->nodes[fusion->affine] : NULL;
    cuda_images_input(run->images, run->on, run->pass, affine, channels_of(fusion),
                      fusion->layout.element == PLAN_BFLOAT16, cuda_at(run, step->out));
}

static void run_conv(const struct cuda_run *run, const struct plan_step *step) {
    const struct cuda_on *on = run->on;
    const struct plan_fusion *fusion = unit_at(run, step->fusion);
    const void *bias, *weights = cuda_conv_values(run->params, fusion->node, fusion->norm, &bias);
    on->api->conv_forward(on->device, run->plan->kernels[step->fusion], cuda_at(run, step->in),
                          weights, bias, cuda_at(run, step->other), cuda_at(run, step->out),
                          cuda_at(run, step->scratch));
}

/* sums (count), on the card, become those over all parts of the batch. */
static enum dml_status sum_parts(const struct cuda_run *run, double *sums, size_t count) {
    const struct cuda_on *on = run->on;
    if (!run->parts)
        return DML_OK;
    double *host = dml_alloc(count, sizeof *host);
    if (!host)
        return DML_ERROR_MEMORY;
    on->api->download(on->device, host, sums, count * sizeof *host);
    enum dml_status status = cuda_finish(on);
    if (!status)
        status = dml_parts_sums(run->parts, count, host);
    if (!status)
        on->api->upload(on->device, sums, host, count * sizeof *host);
    free(host);
    return status;
}

/* State: mean, variance, scale and shift of each channel. */
static enum dml_status run_norm(const struct cuda_run *run, const struct plan_step *step) {
    const struct cuda_on *on = run->on;
    const struct plan_fusion *fusion = unit_at(run, step->fusion);
    const struct dml_node *node = &run->plan->graph->nodes[fusion->norm];
    struct cuda_rows rows = cuda_rows_of(&fusion->layout, run->plan->n);
    double count = (double)(rows.count * dml_parts_count(run->parts));
    if (count < 2)
        return dml_fail(DML_ERROR_INPUT,
                        "%s: batch statistics need more than one value per channel", node->name);
    struct cuda_carving carving = {cuda_at(run, step->scratch), 0};
    struct cuda_summing summing = cuda_carve_sums(&carving, rows.width);
    struct cuda_norm norm = cuda_norm_of(run->params, fusion->norm);
    norm.stride = channels_of(fusion);
    float *statistics = cuda_at(run, step->state);
    const void *x = cuda_at(run, step->in);
    cuda_sum(run, &summing, &(struct cuda_sums){CUDA_SUM, rows, x, NULL, NULL});
    enum dml_status status = sum_parts(run, summing.sums, rows.width);
    if (status)
        return status;
    on->kernels->norm_mean(on->stream, rows.width, summing.sums, count, statistics);
    cuda_sum(run, &summing, &(struct cuda_sums){CUDA_SUM_SQUARES, rows, x, NULL, statistics});
    status = sum_parts(run, summing.sums, rows.width);
    if (status)
        return status;
    on->kernels->norm_variance(on->stream, &norm, summing.sums, count, node->momentum, statistics);
    run->params->ready = CUDA_STALE;
    on->kernels->affine(on->stream, rows, x, statistics + 2 * rows.width,
                        statistics + 3 * rows.width, cuda_at(run, step->other), fusion->relu,
                        cuda_at(run, step->out));
    return DML_OK;
}

static void run_pointwise(const struct cuda_run *run, const struct plan_step *step) {
    const struct cuda_on *on = run->on;
    const struct plan_fusion *fusion = unit_at(run, step->fusion);
    struct cuda_rows rows = cuda_rows_of(&fusion->layout, run->plan->n);
    float *scale = cuda_at(run, step->state), *shift = scale ? scale + rows.width : NULL;
    if (fusion->norm >= 0) {
        struct cuda_norm norm = cuda_norm_of(run->params, fusion->norm);
        on->kernels->norm_affine(on->stream, &norm, NULL, rows.width, scale, shift);
    }
    if (fusion->affine >= 0) {
        const struct dml_node *node = &run->plan->graph->nodes[fusion->affine];
        size_t bytes = (size_t)fusion->layout.channels * sizeof(float);
        on->api->zero(on->device, scale, 2 * rows.width * sizeof(float));
        on->api->upload(on->device, scale, node->scale, bytes);
        on->api->upload(on->device, shift, node->shift, bytes);
    }
    on->kernels->affine(on->stream, rows, cuda_at(run, step->in), scale, shift,
                        cuda_at(run, step->other), fusion->relu, cuda_at(run, step->out));
}

static void run_concat(const struct cuda_run *run, const struct plan_step *step) {
    const struct plan_fusion *fusion = unit_at(run, step->fusion);
    struct cuda_rows rows = cuda_rows_of(&fusion->layout, run->plan->n);
    char *out = cuda_at(run, step->out);
    for (int k = 0; k < step->term_count; k++) {
        const struct plan_layout *input = &unit_at(run, fusion->inputs[k])->layout;
        struct cuda_rows part = cuda_rows_of(input, run->plan->n);
        part.width = (size_t)input->channels;
        run->on->kernels->copy(run->on->stream, part, cuda_at(run, step->terms[k]), out,
                               rows.width);
        out += part.width * plan_element_size(input->element);
    }
}

static void run_split(const struct cuda_run *run, const struct plan_step *step) {
    const struct plan_fusion *fusion = unit_at(run, step->fusion);
    const struct plan_layout *input = &unit_at(run, fusion->inputs[step->input])->layout;
    struct cuda_rows rows = cuda_rows_of(&fusion->layout, run->plan->n);
    const char *in = cuda_at(run, step->in);
    rows.width = (size_t)input->channels;
    run->on->kernels->copy(run->on->stream, rows,
                           in + (size_t)step->channel * plan_element_size(input->element),
                           cuda_at(run, step->out), plan_layout_channels(input));
}

static struct cuda_window window_of(const struct cuda_run *run, const struct plan_fusion *fusion) {
    const struct dml_node *node = &run->plan->graph->nodes[fusion->node];
    const struct plan_layout *in = &plan_input_of(run->plan, fusion)->layout;
    return (struct cuda_window){.kernel_h = node->kernel_h,
                                .kernel_w = node->kernel_w,
                                .stride_h = node->stride_h,
                                .stride_w = node->stride_w,
                                .pad_h = node->pad_h,
                                .pad_w = node->pad_w,
                                .count_padding = node->count_padding,
                                .in_h = in->height,
                                .in_w = in->width,
                                .out_h = node->height,
                                .out_w = node->width,
                                .channels = (int)plan_layout_channels(in),
                                .n = run->plan->n,
                                .narrow = in->element == PLAN_BFLOAT16};
}

/* A global pool of maps like these. */
static struct cuda_pool pool_of(const struct cuda_run *run, const struct plan_layout *from) {
    return (struct cuda_pool){run->plan->n, from->pixels, plan_layout_channels(from),
                              from->element == PLAN_BFLOAT16};
}

static enum dml_status forward_step(const struct cuda_run *run, const struct plan_step *step) {
    const struct cuda_kernels *k = run->on->kernels;
    cuda_stream s = run->on->stream;
    const struct plan_fusion *fusion = unit_at(run, step->fusion);
    const struct plan_layout *from =
        fusion->input_count ? &plan_input_of(run->plan, fusion)->layout : &fusion->layout;
    const struct cuda_pool pool = pool_of(run, from);
    const void *in = cuda_at(run, step->in);
    void *out = cuda_at(run, step->out), *state = cuda_at(run, step->state);
    struct cuda_window window;
    if (plan_is_operation(fusion->kind)) {
        cuda_operation_forward(run, step);
        return DML_OK;
    }
    switch (fusion->kind) {
    case PLAN_FUSION_INPUT:
        run_input(run, step);
        break;
    case PLAN_FUSION_CONV:
        run_conv(run, step);
        break;
    case PLAN_FUSION_NORM:
        return run_norm(run, step);
    case PLAN_FUSION_POINTWISE:
        run_pointwise(run, step);
        break;
    case PLAN_FUSION_MAX_POOL:
        window = window_of(run, fusion);
        k->max_pool(s, &window, in, out, state);
        break;
    case PLAN_FUSION_AVG_POOL:
        window = window_of(run, fusion);
        k->avg_pool(s, &window, in, out);
        break;
    case PLAN_FUSION_GLOBAL_AVG_POOL:
        k->global_avg(s, &pool, in, out);
        break;
    case PLAN_FUSION_GLOBAL_MAX_POOL:
        k->global_max(s, &pool, in, out, state);
        break;
    case PLAN_FUSION_GLOBAL_GEM_POOL:
        k->global_gem(s, &pool, in, cuda_value(run->params, fusion->node, DML_ROLE_POOL_POWER), out,
                      state);
        break;
    case PLAN_FUSION_CONCAT:
        run_concat(run, step);
        break;
    case PLAN_FUSION_L2_NORMALIZE:
        k->l2_normalize(s, cuda_rows_of(&fusion->layout, run->plan->n), in, out, state);
        break;
    default: /* operations */
        break;
    }
    return DML_OK;
}

enum dml_status cuda_run_forward(const struct cuda_run *run, float *embeddings) {
    const struct cuda_on *on = run->on;
    const struct plan *plan = run->plan;
    enum dml_status status = DML_OK;
    cuda_params_prepare(run->params, &plan->fusions, plan_folds(plan));
    for (size_t s = 0; !status && s < plan->forward_steps; s++)
        status = forward_step(run, &plan->steps[s]);
    if (status)
        return status;
    size_t dim = (size_t)plan->graph->embed_dim, stride = plan->embeddings.image;
    const float *from = cuda_at(run, plan->embeddings);
    if (stride == dim)
        on->api->download(on->device, embeddings, from, plan->n * dim * sizeof *embeddings);
    for (size_t i = 0; stride != dim && i < plan->n; i++)
        on->api->download(on->device, embeddings + i * dim, from + i * stride,
                          dim * sizeof *embeddings);
    return cuda_finish(on);
}

static void conv_weights(const struct cuda_run *run, const struct plan_step *step) {
    const struct cuda_on *on = run->on;
    const struct cuda_kernels *k = on->kernels;
    struct cuda_params *params = run->params;
    const struct plan_fusion *fusion = unit_at(run, step->fusion);
    struct cuda_conv *conv = run->plan->kernels[step->fusion];
    struct cuda_conv_parts parts =
        cuda_conv_grads(params, fusion, on->api->conv_scratch(conv, CUDA_WEIGHTS),
                        (struct cuda_carving){cuda_at(run, step->scratch), 0});
    int weight = dml_graph_find_param(params->graph, fusion->node, DML_ROLE_WEIGHT);
    const struct cuda_param *item = &params->items[weight];
    const void *grad = cuda_at(run, step->in);
    const float *values = params->values + item->offset;
    const float *bias = cuda_value(params, fusion->node, DML_ROLE_BIAS);
    float *target = params->grads + item->offset, *target_bias = NULL;
    struct cuda_rows rows = cuda_rows_of(&fusion->layout, run->plan->n);
    size_t inner = item->taps * item->stored_in;
    bool folded = fusion->norm >= 0, narrow = params->element == PLAN_BFLOAT16;
    if (bias)
        target_bias = cuda_grad(params, fusion->node, DML_ROLE_BIAS);
    on->api->conv_weights(on->device, conv, grad, cuda_at(run, step->other), parts.weights,
                          parts.scratch);
    if (folded || bias)
        cuda_sum(run, &parts.summing, &(struct cuda_sums){CUDA_SUM, rows, grad, NULL, NULL});
    if (!folded) { /* it computes with its own parameters */
        k->unfold(on->stream, item->out, inner, narrow, parts.weights, values, NULL, target, NULL);
        if (bias)
            k->store(on->stream, item->out, parts.summing.sums, 1, target_bias);
        return;
    }
    struct cuda_norm norm = cuda_norm_of(params, fusion->norm);
    k->store(on->stream, item->out, parts.summing.sums, 1, parts.shift);
    k->norm_affine(on->stream, &norm, NULL, norm.channels, parts.scale, parts.offset);
    k->unfold(on->stream, item->out, inner, narrow, parts.weights, values, parts.scale, target,
              parts.dots);
    k->unfold_norm(on->stream, &norm, parts.dots, parts.shift, bias, parts.scale,
                   cuda_grad(params, fusion->norm, DML_ROLE_NORM_WEIGHT),
                   cuda_grad(params, fusion->norm, DML_ROLE_NORM_BIAS), target_bias);
}

static void conv_data(const struct cuda_run *run, const struct plan_step *step) {
    const struct plan_fusion *fusion = unit_at(run, step->fusion);
    const void *bias, *weights = cuda_conv_values(run->params, fusion->node, fusion->norm, &bias);
    run->on->api->conv_data(run->on->device, run->plan->kernels[step->fusion],
                            cuda_at(run, step->in), weights, cuda_at(run, step->out),
                            cuda_at(run, step->scratch));
}

static enum dml_status norm_backward(const struct cuda_run *run, const struct plan_step *step) {
    const struct cuda_on *on = run->on;
    const struct plan_fusion *fusion = unit_at(run, step->fusion);
    struct cuda_rows rows = cuda_rows_of(&fusion->layout, run->plan->n);
    struct cuda_carving carving = {cuda_at(run, step->scratch), 0};
    struct cuda_summing summing = cuda_carve_sums(&carving, rows.width);
    float *coefficients = cuda_carve(&carving, 3 * rows.width * sizeof(float));
    const void *grad = cuda_at(run, step->in), *x = cuda_at(run, step->other);
    const float *statistics = cuda_at(run, step->state);
    struct cuda_norm norm = cuda_norm_of(run->params, fusion->norm);
    norm.stride = channels_of(fusion);
    cuda_sum(run, &summing, &(struct cuda_sums){CUDA_SUM_PRODUCT, rows, grad, x, statistics});
    on->kernels->norm_backward(on->stream, &norm, summing.sums, (double)rows.count, statistics,
                               cuda_grad(run->params, fusion->norm, DML_ROLE_NORM_WEIGHT),
                               cuda_grad(run->params, fusion->norm, DML_ROLE_NORM_BIAS),
                               coefficients);
    if (run->parts) { /* parameters' gradients are this part's, like all; the input's are not */
        enum dml_status status = sum_parts(run, summing.sums, 2 * rows.width);
        if (status)
            return status;
        double count = (double)(rows.count * dml_parts_count(run->parts));
        on->kernels->norm_backward(on->stream, &norm, summing.sums, count, statistics, NULL, NULL,
                                   coefficients);
    }
    on->kernels->norm_input(on->stream, rows, grad, x, statistics, coefficients,
                            cuda_at(run, step->out));
    return DML_OK;
}

static void frozen_norm_backward(const struct cuda_run *run, const struct plan_step *step) {
    const struct cuda_on *on = run->on;
    const struct plan_fusion *fusion = unit_at(run, step->fusion);
    struct cuda_rows rows = cuda_rows_of(&fusion->layout, run->plan->n);
    struct cuda_carving carving = {cuda_at(run, step->scratch), 0};
    struct cuda_summing summing = cuda_carve_sums(&carving, rows.width);
    struct cuda_norm norm = cuda_norm_of(run->params, fusion->norm);
    norm.stride = channels_of(fusion);
    cuda_sum(run, &summing,
             &(struct cuda_sums){CUDA_SUM_PRODUCT, rows, cuda_at(run, step->in),
                                 cuda_at(run, step->other), NULL});
    on->kernels->frozen_norm(on->stream, &norm, summing.sums,
                             cuda_grad(run->params, fusion->norm, DML_ROLE_NORM_WEIGHT),
                             cuda_grad(run->params, fusion->norm, DML_ROLE_NORM_BIAS));
}

static struct cuda_term term_of(const struct cuda_run *run, struct plan_ref ref) {
    return (struct cuda_term){cuda_at(run, ref), ref.image,     ref.pixel,
                              ref.scale,         ref.broadcast, ref.element == PLAN_BFLOAT16};
}

static void combine(const struct cuda_run *run, const struct plan_step *step) {
    const struct plan_fusion *fusion = unit_at(run, step->fusion);
    struct cuda_terms terms = {.count = step->term_count};
    struct cuda_term mask = term_of(run, step->other);
    for (int t = 0; t < step->term_count; t++)
        terms.items[t] = term_of(run, step->terms[t]);
    run->on->kernels->combine(run->on->stream, run->plan->n, fusion->layout.pixels,
                              channels_of(fusion), &terms, step->other.slot >= 0 ? &mask : NULL,
                              fusion->layout.element == PLAN_BFLOAT16, cuda_at(run, step->out));
}

static void pool_backward(const struct cuda_run *run, const struct plan_step *step) {
    const struct cuda_kernels *k = run->on->kernels;
    const struct plan_fusion *fusion = unit_at(run, step->fusion);
    struct cuda_window window = window_of(run, fusion);
    struct cuda_term grad = term_of(run, step->in), positive = term_of(run, step->other);
    if (step->kind == PLAN_STEP_MAX_POOL)
        k->max_pool_gradient(run->on->stream, &window, &grad,
                             step->other.slot >= 0 ? &positive : NULL, cuda_at(run, step->state),
                             cuda_at(run, step->out));
    else
        k->avg_pool_gradient(run->on->stream, &window, &grad, cuda_at(run, step->out));
}

static void gem_backward(const struct cuda_run *run, const struct plan_step *step) {
    const struct cuda_on *on = run->on;
    const struct plan_fusion *fusion = unit_at(run, step->fusion);
    const struct plan_layout *in = &plan_input_of(run->plan, fusion)->layout;
    const float *power = cuda_value(run->params, fusion->node, DML_ROLE_POOL_POWER);
    const float *grad = cuda_at(run, step->in), *state = cuda_at(run, step->state);
    double *sum = cuda_at(run, step->scratch);
    const struct cuda_pool pool = pool_of(run, in);
    on->kernels->gem_power(on->stream, pool.n * pool.channels, grad, power, state, sum);
    on->kernels->store(on->stream, 1, sum, 1,
                       cuda_grad(run->params, fusion->node, DML_ROLE_POOL_POWER));
    if (step->out.slot >= 0)
        on->kernels->global_gem_gradient(on->stream, &pool, grad, cuda_at(run, step->other), power,
                                         state, cuda_at(run, step->out));
}

static enum dml_status backward_step(const struct cuda_run *run, const struct plan_step *step) {
    const struct cuda_kernels *k = run->on->kernels;
    cuda_stream s = run->on->stream;
    const struct plan_fusion *fusion = unit_at(run, step->fusion);
    const struct plan_layout *layout = &fusion->layout;
    struct cuda_rows rows = cuda_rows_of(layout, run->plan->n);
    const void *in = cuda_at(run, step->in);
    void *out = cuda_at(run, step->out);
    switch (step->kind) {
    case PLAN_STEP_FORWARD: /* again */
        return forward_step(run, step);
    case PLAN_STEP_OUTPUT_GRAD:
        break;
    case PLAN_STEP_COMBINE:
        combine(run, step);
        break;
    case PLAN_STEP_CONV_WEIGHTS:
        conv_weights(run, step);
        break;
    case PLAN_STEP_CONV_DATA:
        conv_data(run, step);
        break;
    case PLAN_STEP_NORM:
        return norm_backward(run, step);
    case PLAN_STEP_FROZEN_NORM:
        frozen_norm_backward(run, step);
        break;
    case PLAN_STEP_SCALE:
        k->affine(s, rows, in, cuda_at(run, step->state), NULL, NULL, false, out);
        break;
    case PLAN_STEP_MAX_POOL:
    case PLAN_STEP_AVG_POOL:
        pool_backward(run, step);
        break;
    case PLAN_STEP_GLOBAL_MAX_POOL: {
        const struct cuda_pool pool = pool_of(run, &plan_input_of(run->plan, fusion)->layout);
        k->global_max_gradient(s, &pool, in, cuda_at(run, step->state), out);
        break;
    }
    case PLAN_STEP_GLOBAL_GEM_POOL:
        gem_backward(run, step);
        break;
    case PLAN_STEP_OPERATION:
        cuda_operation_backward(run, step);
        break;
    case PLAN_STEP_L2_NORMALIZE:
        k->l2_normalize_gradient(s, rows, in, cuda_at(run, step->other), cuda_at(run, step->state),
                                 out);
        break;
    case PLAN_STEP_SPLIT:
        run_split(run, step);
        break;
    }
    return DML_OK;
}

enum dml_status cuda_run_backward(const struct cuda_run *run, const float *grad) {
    const struct cuda_on *on = run->on;
    const struct plan *plan = run->plan;
    size_t dim = (size_t)plan->graph->embed_dim, stride = plan->output_grad.image;
    float *to = cuda_at(run, plan->output_grad);
    if (stride != dim)
        on->api->zero(on->device, to, plan->n * stride * sizeof *to);
    if (stride == dim)
        on->api->upload(on->device, to, grad, plan->n * dim * sizeof *grad);
    for (size_t i = 0; stride != dim && i < plan->n; i++)
        on->api->upload(on->device, to + i * stride, grad + i * dim, dim * sizeof *grad);
    enum dml_status status = DML_OK;
    for (size_t s = plan->forward_steps; !status && s < plan->step_count; s++)
        status = backward_step(run, &plan->steps[s]);
    return status ? status : cuda_finish(on);
}
