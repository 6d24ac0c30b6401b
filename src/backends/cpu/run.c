#include "backends/cpu/run.h"

#include "backends/cpu/operations/operation.h"
#include "backends/cpu/traits.h"
#include "backends/parts.h"

#include <math.h>
#include <string.h>

static const struct plan_fusion *unit_at(const struct cpu_run *run, int u) {
    return &run->plan->fusions.fusions[u];
}

/* The kernels for the fusion's tensor. */
static const struct cpu_kernels *kernels_of(const struct plan_fusion *fusion) {
    return cpu_kernels_of(&fusion->layout);
}

static struct cpu_window window_of(const struct cpu_run *run, const struct plan_fusion *fusion) {
    const struct dml_node *node = &run->plan->graph->nodes[fusion->node];
    return (struct cpu_window){node->kernel_h, node->kernel_w, node->stride_h,     node->stride_w,
                               node->pad_h,    node->pad_w,    node->count_padding};
}

static void run_input(const struct cpu_run *run, const struct plan_step *step) {
    const struct plan_fusion *fusion = unit_at(run, step->fusion);
    const struct dml_graph *graph = run->plan->graph;
    const struct dml_node *affine = fusion->affine >= 0 ? &graph->nodes[fusion->affine] : NULL;
    kernels_of(fusion)->input(run->images, run->first, run->plan->n, &graph->input,
                              affine ? affine->scale : NULL, affine ? affine->shift : NULL,
                              cpu_at(run, step->out));
}

/* The weights and bias that a convolution computes with: its own, or folded. */
static const void *effective(const struct cpu_run *run, const struct plan_fusion *fusion,
                             const float **bias) {
    const struct cpu_params *params = run->params;
    const struct cpu_param *weight =
        &params->items[dml_graph_find_param(params->graph, fusion->node, DML_ROLE_WEIGHT)];
    if (fusion->norm >= 0) {
        int shift = dml_graph_find_param(params->graph, fusion->norm, DML_ROLE_NORM_BIAS);
        *bias = params->folded + params->items[shift].offset;
    } else {
        *bias = cpu_params_value(params, fusion->node, DML_ROLE_BIAS);
    }
    if (params->narrow)
        return params->narrow + weight->narrow;
    return (fusion->norm >= 0 ? params->folded : params->values) + weight->offset;
}

static enum dml_status run_conv(const struct cpu_run *run, const struct plan_step *step) {
    const float *bias;
    const void *weights = effective(run, unit_at(run, step->fusion), &bias);
    return cpu_conv_forward(run->plan->kernels[step->fusion], cpu_at(run, step->in), weights, bias,
                            cpu_at(run, step->other), cpu_at(run, step->out),
                            cpu_at(run, step->scratch));
}

/* Running statistics move towards the batch's, PyTorch's way: the variance unbiased. */
static void update_running(struct cpu_params *params, const struct dml_node *node, int index,
                           double count, const float *mean, const float *variance) {
    float *running_mean = cpu_params_value(params, index, DML_ROLE_RUNNING_MEAN);
    float *running_var = cpu_params_value(params, index, DML_ROLE_RUNNING_VAR);
    float keep = 1.0f - node->momentum;
    float unbias = (float)(count > 1 ? count / (count - 1) : 1.0);
    for (int c = 0; c < node->channels; c++) {
        running_mean[c] = keep * running_mean[c] + node->momentum * mean[c];
        running_var[c] = keep * running_var[c] + node->momentum * variance[c] * unbias;
    }
    params->prepared = CPU_PREPARED_NOT;
}

/* Per channel mean and biased variance over the whole batch: Ioffe and Szegedy 2015, Batch
 * normalization. Wherever its images are, the same float32 sums are added up in float64. */
static enum dml_status batch_statistics(const struct cpu_run *run, const struct plan_fusion *fusion,
                                        const void *x, double count, float *mean, float *variance) {
    const struct plan_layout *layout = &fusion->layout;
    size_t padded = plan_layout_channels(layout);
    float shift[padded];
    double sums[2 * padded], *squares = sums + padded;
    kernels_of(fusion)->first_values(layout, x, shift);
    enum dml_status status = dml_parts_first(run->parts, padded, shift);
    if (status)
        return status;
    kernels_of(fusion)->moments(layout, run->plan->n, x, shift, sums, squares);
    status = dml_parts_sums(run->parts, 2 * padded, sums);
    for (size_t c = 0; !status && c < padded; c++) {
        double m = sums[c] / count;
        mean[c] = (float)(shift[c] + m);
        variance[c] = (float)fmax(squares[c] / count - m * m, 0.0);
    }
    return status;
}

/* State: mean, variance, scale and shift of each channel. */
static enum dml_status run_norm(const struct cpu_run *run, const struct plan_step *step) {
    const struct plan_fusion *fusion = unit_at(run, step->fusion);
    struct cpu_params *params = run->params;
    const struct dml_node *node = &run->plan->graph->nodes[fusion->norm];
    const struct plan_layout *layout = &fusion->layout;
    size_t padded = plan_layout_channels(layout);
    double count = (double)(run->plan->n * dml_parts_count(run->parts)) * (double)layout->pixels;
    if (count < 2)
        return dml_fail(DML_ERROR_INPUT,
                        "%s: batch statistics need more than one value per channel", node->name);
    float *mean = cpu_at(run, step->state), *variance = mean + padded;
    float *scale = variance + padded, *shift = scale + padded;
    const struct cpu_kernels *kernels = kernels_of(fusion);
    enum dml_status status =
        batch_statistics(run, fusion, cpu_at(run, step->in), count, mean, variance);
    if (status)
        return status;
    update_running(params, node, fusion->norm, count, mean, variance);
    const float *weight = cpu_params_value(params, fusion->norm, DML_ROLE_NORM_WEIGHT);
    const float *bias = cpu_params_value(params, fusion->norm, DML_ROLE_NORM_BIAS);
    for (size_t c = 0; c < padded; c++) {
        bool real = c < (size_t)layout->channels;
        double factor = real ? weight[c] / sqrt((double)variance[c] + node->epsilon) : 0.0;
        scale[c] = (float)factor;
        shift[c] = real ? (float)(bias[c] - mean[c] * factor) : 0.0f;
    }
    kernels->pointwise(layout, run->plan->n, cpu_at(run, step->in), scale, shift,
                       cpu_at(run, step->other), fusion->relu, cpu_at(run, step->out));
    return DML_OK;
}

/* The layout of a fusion's tensor for kernels that go over elements whatever their channel: these
 * take groups of few channels, and a token's one group has them all. */
static struct plan_layout elementwise(const struct cpu_run *run, const struct plan_fusion *fusion) {
    struct plan_layout layout = fusion->layout;
    if (run->plan->graph->nodes[fusion->last_node].tokens || fusion->kind == PLAN_FUSION_PATCHES) {
        layout.pixels = layout.image;
        layout.block = 1;
    }
    return layout;
}

static void run_pointwise(const struct cpu_run *run, const struct plan_step *step) {
    const struct plan_fusion *fusion = unit_at(run, step->fusion);
    size_t padded = plan_layout_channels(&fusion->layout);
    float *scale = cpu_at(run, step->state), *shift = scale ? scale + padded : NULL;
    if (fusion->norm >= 0) {
        struct plan_norm norm = cpu_norm_of(run->params, fusion->norm);
        plan_norm_affine(&norm, scale, shift, padded);
    }
    if (fusion->affine >= 0) {
        const struct dml_node *node = &run->plan->graph->nodes[fusion->affine];
        memset(scale, 0, 2 * padded * sizeof *scale);
        memcpy(scale, node->scale, (size_t)fusion->layout.channels * sizeof *scale);
        memcpy(shift, node->shift, (size_t)fusion->layout.channels * sizeof *shift);
    }
    struct plan_layout layout = elementwise(run, fusion);
    kernels_of(fusion)->pointwise(&layout, run->plan->n, cpu_at(run, step->in), scale, shift,
                                  cpu_at(run, step->other), fusion->relu, cpu_at(run, step->out));
}

static void run_concat(const struct cpu_run *run, const struct plan_step *step) {
    const struct plan_fusion *fusion = unit_at(run, step->fusion);
    void *out = cpu_at(run, step->out);
    int channel = 0;
    if (fusion->layout.channels % fusion->layout.block) /* padding of the last group */
        memset(out, 0, plan_layout_bytes(&fusion->layout, run->plan->n));
    for (int k = 0; k < step->term_count; k++) {
        const struct plan_layout *input = &unit_at(run, fusion->inputs[k])->layout;
        kernels_of(fusion)->copy_channels(input, cpu_at(run, step->terms[k]), 0, &fusion->layout,
                                          out, channel, input->channels, run->plan->n);
        channel += input->channels;
    }
}

static enum dml_status forward_step(const struct cpu_run *run, const struct plan_step *step) {
    const struct plan_fusion *fusion = unit_at(run, step->fusion);
    struct cpu_window window = window_of(run, fusion);
    const void *in = cpu_at(run, step->in);
    void *out = cpu_at(run, step->out), *state = cpu_at(run, step->state);
    size_t n = run->plan->n;
    const struct plan_layout *from =
        fusion->input_count ? &unit_at(run, fusion->inputs[0])->layout : &fusion->layout;
    const struct cpu_kernels *kernels = cpu_kernels_of(from);
    switch (fusion->kind) {
    case PLAN_FUSION_INPUT:
        run_input(run, step);
        break;
    case PLAN_FUSION_CONV:
        return run_conv(run, step);
    case PLAN_FUSION_NORM:
        return run_norm(run, step);
    case PLAN_FUSION_POINTWISE:
        run_pointwise(run, step);
        break;
    case PLAN_FUSION_MAX_POOL:
        kernels->max_pool(&window, from, &fusion->layout, n, in, out, state);
        break;
    case PLAN_FUSION_AVG_POOL:
        kernels->avg_pool(&window, from, &fusion->layout, n, in, out);
        break;
    case PLAN_FUSION_GLOBAL_AVG_POOL:
        kernels->global_avg_pool(from, n, in, out);
        break;
    case PLAN_FUSION_GLOBAL_MAX_POOL:
        kernels->global_max_pool(from, n, in, out, state);
        break;
    case PLAN_FUSION_GLOBAL_GEM_POOL:
        kernels->global_gem_pool(from, n, in,
                                 *cpu_params_value(run->params, fusion->node, DML_ROLE_POOL_POWER),
                                 out, state);
        break;
    case PLAN_FUSION_CONCAT:
        run_concat(run, step);
        break;
    case PLAN_FUSION_L2_NORMALIZE:
        cpu_l2_normalize(n, (size_t)fusion->layout.channels, fusion->layout.image, in, out, state);
        break;
    default:
        return cpu_op_of(fusion->kind)->forward(run, step);
    }
    return DML_OK;
}

enum dml_status cpu_run_forward(const struct cpu_run *run, float *embeddings) {
    const struct plan *plan = run->plan;
    enum dml_status status = cpu_params_prepare(run->params, &plan->fusions, plan_folds(plan));
    for (size_t s = 0; !status && s < plan->forward_steps; s++)
        status = forward_step(run, &plan->steps[s]);
    if (status)
        return status;
    size_t dim = (size_t)plan->graph->embed_dim;
    const float *from = cpu_at(run, plan->embeddings);
    for (size_t i = 0; i < plan->n; i++)
        memcpy(embeddings + i * dim, from + i * plan->embeddings.image, dim * sizeof *embeddings);
    return DML_OK;
}

static enum dml_status conv_weights(const struct cpu_run *run, const struct plan_step *step) {
    float *grad = cpu_at(run, step->scratch);
    float *bias = grad + cpu_grad_bias_offset(run->params, unit_at(run, step->fusion));
    void *scratch = grad + cpu_grad_scratch_offset(run->params, unit_at(run, step->fusion));
    enum dml_status status =
        cpu_conv_backward_weights(run->plan->kernels[step->fusion], cpu_at(run, step->other),
                                  cpu_at(run, step->in), grad, bias, scratch);
    if (!status)
        cpu_params_conv_grads(run->params, unit_at(run, step->fusion), grad, bias);
    return status;
}

static enum dml_status conv_data(const struct cpu_run *run, const struct plan_step *step) {
    const float *bias;
    const void *weights = effective(run, unit_at(run, step->fusion), &bias);
    return cpu_conv_backward_data(run->plan->kernels[step->fusion], cpu_at(run, step->in), weights,
                                  cpu_at(run, step->out), cpu_at(run, step->scratch));
}

/* With N values per channel, x^ = (x - mean) / s, and gradient g of the output:
 * dx = weight / s * (g - mean(g) - x^ * mean(g x^)). */
static enum dml_status norm_backward(const struct cpu_run *run, const struct plan_step *step) {
    const struct plan_fusion *fusion = unit_at(run, step->fusion);
    const struct plan_layout *layout = &fusion->layout;
    struct cpu_params *params = run->params;
    size_t padded = plan_layout_channels(layout), n = run->plan->n;
    const float *mean = cpu_at(run, step->state), *variance = mean + padded;
    const float *scale = variance + padded;
    double *sum = cpu_at(run, step->scratch), *sum_x = sum + padded;
    float *a = (float *)(sum_x + padded), *b = a + padded, *d = b + padded;
    const void *grad = cpu_at(run, step->in), *x = cpu_at(run, step->other);
    kernels_of(fusion)->channel_sums(layout, n, grad, x, mean, sum, sum_x);
    float *grad_weight = cpu_params_grad(params, fusion->norm, DML_ROLE_NORM_WEIGHT);
    float *grad_bias = cpu_params_grad(params, fusion->norm, DML_ROLE_NORM_BIAS);
    double epsilon = run->plan->graph->nodes[fusion->norm].epsilon;
    double count = (double)(n * dml_parts_count(run->parts)) * (double)layout->pixels;
    for (size_t c = 0; c < (size_t)layout->channels; c++) { /* of this part, like all gradients */
        grad_weight[c] = (float)(sum_x[c] / sqrt(variance[c] + epsilon));
        grad_bias[c] = (float)sum[c];
    }
    enum dml_status status = dml_parts_sums(run->parts, 2 * padded, sum);
    if (status)
        return status;
    for (size_t c = 0; c < padded; c++) {
        double s2 = variance[c] + epsilon;
        a[c] = scale[c];
        b[c] = (float)(-scale[c] * sum_x[c] / (s2 * count));
        d[c] = (float)(-scale[c] * sum[c] / count);
    }
    kernels_of(fusion)->norm_gradient(layout, n, grad, x, mean, a, b, d, cpu_at(run, step->out));
    return DML_OK;
}

/* y = weight (x - mean) / s + bias with running mean and s. */
static void frozen_norm_backward(const struct cpu_run *run, const struct plan_step *step) {
    const struct plan_fusion *fusion = unit_at(run, step->fusion);
    struct cpu_params *params = run->params;
    const struct plan_layout *layout = &fusion->layout;
    size_t channels = (size_t)layout->channels;
    size_t padded = plan_layout_channels(layout);
    double *sum = cpu_at(run, step->scratch), *sum_x = sum + padded;
    /* The mean has no padding to whole groups, so it is subtracted afterwards. */
    float zero[padded];
    memset(zero, 0, sizeof zero);
    kernels_of(fusion)->channel_sums(layout, run->plan->n, cpu_at(run, step->in),
                                     cpu_at(run, step->other), zero, sum, sum_x);
    const float *mean = cpu_params_value(params, fusion->norm, DML_ROLE_RUNNING_MEAN);
    const float *variance = cpu_params_value(params, fusion->norm, DML_ROLE_RUNNING_VAR);
    float *grad_weight = cpu_params_grad(params, fusion->norm, DML_ROLE_NORM_WEIGHT);
    float *grad_bias = cpu_params_grad(params, fusion->norm, DML_ROLE_NORM_BIAS);
    double epsilon = run->plan->graph->nodes[fusion->norm].epsilon;
    for (size_t c = 0; c < channels; c++) {
        double s = sqrt(variance[c] + epsilon);
        grad_weight[c] = (float)((sum_x[c] - mean[c] * sum[c]) / s);
        grad_bias[c] = (float)sum[c];
    }
}

static struct cpu_term term_of(const struct cpu_run *run, struct plan_ref ref) {
    return (struct cpu_term){cpu_at(run, ref), ref.image, ref.broadcast, ref.scale};
}

static void combine(const struct cpu_run *run, const struct plan_step *step) {
    struct cpu_term terms[PLAN_MAX_TERMS];
    for (int t = 0; t < step->term_count; t++)
        terms[t] = term_of(run, step->terms[t]);
    const struct plan_fusion *fusion = unit_at(run, step->fusion);
    struct plan_layout layout = elementwise(run, fusion);
    kernels_of(fusion)->combine(&layout, run->plan->n, terms, step->term_count,
                                cpu_at(run, step->other), step->other.image,
                                cpu_at(run, step->out));
}

static void pool_backward(const struct cpu_run *run, const struct plan_step *step) {
    const struct plan_fusion *fusion = unit_at(run, step->fusion);
    const struct plan_layout *in = &unit_at(run, fusion->inputs[0])->layout;
    struct cpu_window window = window_of(run, fusion);
    struct cpu_term grad = term_of(run, step->in);
    size_t n = run->plan->n;
    void *out = cpu_at(run, step->out);
    const struct cpu_kernels *kernels = cpu_kernels_of(in);
    if (step->kind == PLAN_STEP_MAX_POOL)
        kernels->max_pool_gradient(&window, in, &fusion->layout, n, &grad, cpu_at(run, step->other),
                                   cpu_at(run, step->state), out);
    else if (step->kind == PLAN_STEP_AVG_POOL)
        kernels->avg_pool_gradient(&window, in, &fusion->layout, n, &grad, out);
    else
        kernels->global_max_pool_gradient(in, n, grad.data, cpu_at(run, step->state), out);
}

/* With m the mean of the powers, y = m^(1/p) and s the mean of x^p log x over m:
 * dy/dp = y (s - log m / p) / p. */
static void gem_backward(const struct cpu_run *run, const struct plan_step *step) {
    const struct plan_fusion *fusion = unit_at(run, step->fusion);
    const struct plan_layout *in = &unit_at(run, fusion->inputs[0])->layout;
    struct cpu_params *params = run->params;
    size_t n = run->plan->n, stride = fusion->layout.image;
    float p = *cpu_params_value(params, fusion->node, DML_ROLE_POOL_POWER);
    const float *grad = cpu_at(run, step->in), *logs = cpu_at(run, step->state);
    const float *slopes = logs + n * stride;
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t at = i * stride; at < i * stride + (size_t)in->channels; at++) {
            double log_y = (double)logs[at] / p;
            sum += grad[at] * exp(log_y) * (slopes[at] - log_y) / p;
        }
    *cpu_params_grad(params, fusion->node, DML_ROLE_POOL_POWER) = (float)sum;
    if (step->out.slot >= 0)
        cpu_kernels_of(in)->global_gem_pool_gradient(in, n, grad, cpu_at(run, step->other), p, logs,
                                                     cpu_at(run, step->out));
}

static void split(const struct cpu_run *run, const struct plan_step *step) {
    const struct plan_fusion *fusion = unit_at(run, step->fusion);
    const struct plan_layout *part = &unit_at(run, fusion->inputs[step->input])->layout;
    void *out = cpu_at(run, step->out);
    memset(out, 0, plan_layout_bytes(part, run->plan->n));
    cpu_kernels_of(part)->copy_channels(&fusion->layout, cpu_at(run, step->in), step->channel, part,
                                        out, 0, part->channels, run->plan->n);
}

static enum dml_status backward_step(const struct cpu_run *run, const struct plan_step *step) {
    const struct plan_fusion *fusion = unit_at(run, step->fusion);
    size_t n = run->plan->n;
    switch (step->kind) {
    case PLAN_STEP_FORWARD: /* again */
        return forward_step(run, step);
    case PLAN_STEP_OUTPUT_GRAD:
        break;
    case PLAN_STEP_COMBINE:
        combine(run, step);
        break;
    case PLAN_STEP_CONV_WEIGHTS:
        return conv_weights(run, step);
    case PLAN_STEP_CONV_DATA:
        return conv_data(run, step);
    case PLAN_STEP_NORM:
        return norm_backward(run, step);
    case PLAN_STEP_FROZEN_NORM:
        frozen_norm_backward(run, step);
        break;
    case PLAN_STEP_SCALE: {
        float zero[plan_layout_channels(&fusion->layout)];
        memset(zero, 0, sizeof zero);
        kernels_of(fusion)->pointwise(&fusion->layout, n, cpu_at(run, step->in),
                                      cpu_at(run, step->state), zero, NULL, false,
                                      cpu_at(run, step->out));
        break;
    }
    case PLAN_STEP_MAX_POOL:
    case PLAN_STEP_AVG_POOL:
    case PLAN_STEP_GLOBAL_MAX_POOL:
        pool_backward(run, step);
        break;
    case PLAN_STEP_GLOBAL_GEM_POOL:
        gem_backward(run, step);
        break;
    case PLAN_STEP_OPERATION:
        return cpu_op_of(fusion->kind)->backward(run, step);
    case PLAN_STEP_L2_NORMALIZE:
        cpu_l2_normalize_gradient(n, (size_t)fusion->layout.channels, fusion->layout.image,
                                  cpu_at(run, step->in), cpu_at(run, step->other),
                                  cpu_at(run, step->state), cpu_at(run, step->out));
        break;
    case PLAN_STEP_SPLIT:
        split(run, step);
        break;
    }
    return DML_OK;
}

enum dml_status cpu_run_backward(const struct cpu_run *run, const float *grad,
                                 const struct cpu_settled *settled) {
    const struct plan *plan = run->plan;
    size_t dim = (size_t)plan->graph->embed_dim, stride = plan->output_grad.image;
    float *to = cpu_at(run, plan->output_grad);
    for (size_t i = 0; i < plan->n; i++) {
        memcpy(to + i * stride, grad + i * dim, dim * sizeof *to);
        memset(to + i * stride + dim, 0, (stride - dim) * sizeof *to);
    }
    enum dml_status status = DML_OK;
    for (size_t s = plan->forward_steps; !status && s < plan->step_count; s++) {
        status = backward_step(run, &plan->steps[s]);
        if (!status)
            status = settled->call(settled->data, plan->steps[s].settled);
    }
    return status;
}
