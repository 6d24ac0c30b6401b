#include "backends/cpu/params.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

struct plan_norm cpu_norm_of(const struct cpu_params *params, int node) {
    return (struct plan_norm){
        .channels = (size_t)params->graph->nodes[node].channels,
        .weight = cpu_params_value(params, node, DML_ROLE_NORM_WEIGHT),
        .bias = cpu_params_value(params, node, DML_ROLE_NORM_BIAS),
        .mean = cpu_params_value(params, node, DML_ROLE_RUNNING_MEAN),
        .variance = cpu_params_value(params, node, DML_ROLE_RUNNING_VAR),
        .epsilon = params->graph->nodes[node].epsilon,
    };
}

/* target = source * scale per output, in the layout of `weights`. */
static void scale_outputs(const struct cpu_weights *weights, size_t outputs, const float *source,
                          const float *scale, float *target) {
    size_t block = (size_t)cpu_weights_block(weights), inner = cpu_weights_inner(weights);
#pragma omp parallel for schedule(static)
    for (size_t first = 0; first < outputs; first += block) {
        float factor[CPU_MOST_WEIGHT_BLOCK];
        for (size_t l = 0; l < block; l++)
            factor[l] = first + l < outputs ? scale[first + l] : 0.0f;
        const float *from = source + first * inner;
        float *to = target + first * inner;
        for (size_t j = 0; j < inner; j++)
#pragma omp simd
            for (size_t l = 0; l < block; l++)
                to[j * block + l] = from[j * block + l] * factor[l];
    }
}

static enum dml_status fold_fusion(struct cpu_params *params, const struct plan_fusion *fusion) {
    size_t channels = (size_t)params->graph->nodes[fusion->norm].channels;
    float *scale = dml_alloc(2 * channels, sizeof *scale);
    if (!scale)
        return DML_ERROR_MEMORY;
    int weight = dml_graph_find_param(params->graph, fusion->node, DML_ROLE_WEIGHT);
    const float *bias = cpu_params_value(params, fusion->node, DML_ROLE_BIAS);
    int norm_bias = dml_graph_find_param(params->graph, fusion->norm, DML_ROLE_NORM_BIAS);
    float *folded_bias = params->folded + params->items[norm_bias].offset;
    struct plan_norm norm = cpu_norm_of(params, fusion->norm);
    plan_norm_affine(&norm, scale, folded_bias, channels);
    for (size_t c = 0; bias && c < channels; c++)
        folded_bias[c] += bias[c] * scale[c];
    scale_outputs(params->items[weight].weights, channels,
                  params->values + params->items[weight].offset, scale,
                  params->folded + params->items[weight].offset);
    free(scale);
    return DML_OK;
}

static enum dml_status narrow_fusion(struct cpu_params *params, const struct plan_fusion *fusion) {
    const struct cpu_param *item =
        &params->items[dml_graph_find_param(params->graph, fusion->node, DML_ROLE_WEIGHT)];
    const float *weights = fusion->norm >= 0 ? params->folded : params->values;
    return cpu_weights_narrow(item->weights, weights + item->offset, params->narrow + item->narrow);
}

enum dml_status cpu_params_prepare(struct cpu_params *params, const struct plan_fusions *fusions,
                                   bool fold) {
    enum cpu_prepared wanted = fold ? CPU_PREPARED_FOLDED : CPU_PREPARED_OWN;
    if (params->prepared == wanted || (!fold && !params->narrow))
        return DML_OK;
    for (int u = 0; u < fusions->count; u++) {
        const struct plan_fusion *fusion = &fusions->fusions[u];
        enum dml_status status = DML_OK;
        if (fusion->kind == PLAN_FUSION_CONV && fusion->norm >= 0)
            status = fold_fusion(params, fusion);
        if (!status && fusion->kind == PLAN_FUSION_CONV && params->narrow)
            status = narrow_fusion(params, fusion);
        if (status)
            return status;
    }
    params->prepared = wanted;
    return DML_OK;
}

/* grads = scale * effective per output, and dots[o] = the sum of
 * effective * values over output o. */
static void unfold(const struct cpu_weights *weights, size_t outputs, const float *effective,
                   const float *values, const float *scale, float *grads, double *dots) {
    size_t block = (size_t)cpu_weights_block(weights), inner = cpu_weights_inner(weights);
    enum { FEW = 64 };
#pragma omp parallel for schedule(static)
    for (size_t first = 0; first < outputs; first += block) {
        float factor[CPU_MOST_WEIGHT_BLOCK];
        double dot[CPU_MOST_WEIGHT_BLOCK] = {0};
        for (size_t l = 0; l < block; l++)
            factor[l] = first + l < outputs ? scale[first + l] : 0.0f;
        size_t base = first * inner;
        for (size_t start = 0; start < inner; start += FEW) {
            size_t end = start + FEW < inner ? start + FEW : inner;
            float part[CPU_MOST_WEIGHT_BLOCK] = {0};
            for (size_t at = base + start * block; at < base + end * block; at += block)
#pragma omp simd
                for (size_t l = 0; l < block; l++) {
                    part[l] += effective[at + l] * values[at + l];
                    grads[at + l] = effective[at + l] * factor[l];
                }
            for (size_t l = 0; l < block; l++)
                dot[l] += part[l];
        }
        for (size_t l = 0; l < block && first + l < outputs; l++)
            dots[first + l] = dot[l];
    }
}

static void copy(const float *from, size_t count, float *to) {
#pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < count; i++)
        to[i] = from[i];
}

void cpu_params_conv_grads(struct cpu_params *params, const struct plan_fusion *fusion,
                           const float *grad_weights, const float *grad_bias) {
    size_t outputs = (size_t)params->graph->nodes[fusion->node].channels;
    const struct cpu_param *item =
        &params->items[dml_graph_find_param(params->graph, fusion->node, DML_ROLE_WEIGHT)];
    float *target = cpu_params_grad(params, fusion->node, DML_ROLE_WEIGHT);
    const float *bias = cpu_params_value(params, fusion->node, DML_ROLE_BIAS);
    float *target_bias = cpu_params_grad(params, fusion->node, DML_ROLE_BIAS);
    if (fusion->norm < 0) { /* its own parameters are the effective ones */
        copy(grad_weights, item->count, target);
        if (bias)
            copy(grad_bias, outputs, target_bias);
        return;
    }
    struct plan_norm norm = cpu_norm_of(params, fusion->norm);
    /* Channels of one convolution: a few thousand at most. */
    float scale[outputs];
    double dots[outputs];
    plan_norm_scale(&norm, scale);
    unfold(item->weights, outputs, grad_weights,
           cpu_params_value(params, fusion->node, DML_ROLE_WEIGHT), scale, target, dots);
    struct plan_folded_grads folded = {dots, grad_bias, bias, scale};
    plan_norm_gradients(&norm, &folded, cpu_params_grad(params, fusion->norm, DML_ROLE_NORM_WEIGHT),
                        cpu_params_grad(params, fusion->norm, DML_ROLE_NORM_BIAS), target_bias);
}
