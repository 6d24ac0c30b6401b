#include "backends/cpu/operations/operation.h"

#include <string.h>

/* Tokens to one vector: some rows of the sequence averaged, once or (class token and patches, one
 * after the other) twice. */

/* The mean of rows first..first+count-1 goes to the channels from `to` on. */
struct mean {
    size_t first, count, to;
};

static size_t means_of(const struct dml_node *node, const struct dml_node *input,
                       struct mean out[2]) {
    size_t prefix = (size_t)input->prefix, tokens = (size_t)input->tokens;
    const struct mean cls = {0, 1, 0}, patches = {prefix, tokens - prefix, 0};
    out[0] = cls;
    switch (node->pool) {
    case DML_TOKENS_CLS:
        return 1;
    case DML_TOKENS_DISTILLED:
        out[0].count = 2;
        return 1;
    case DML_TOKENS_AVG:
        out[0] = patches;
        return 1;
    case DML_TOKENS_CLS_AVG:
        break;
    }
    out[1] = patches;
    out[1].to = (size_t)input->channels;
    return 2;
}

static size_t means(const struct cpu_run *run, const struct plan_step *step, struct mean out[2]) {
    const struct dml_node *node = cpu_node_of(run, step);
    return means_of(node, &run->plan->graph->nodes[node->inputs[0]], out);
}

static enum dml_status forward(const struct cpu_run *run, const struct plan_step *step) {
    const struct plan_fusion *fusion = plan_fusion_of(run->plan, step);
    const struct plan_layout *in = &plan_input_of(run->plan, fusion)->layout;
    size_t channels = (size_t)in->channels;
    struct mean parts[2];
    size_t count = means(run, step, parts);
    const float *x = cpu_at(run, step->in);
    float *y = cpu_at(run, step->out);
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < run->plan->n; i++) {
        float *vector = y + i * fusion->layout.image;
        memset(vector, 0, fusion->layout.image * sizeof *vector);
        for (size_t p = 0; p < count; p++) {
            const float *rows = x + i * in->image + parts[p].first * channels;
            for (size_t c = 0; c < channels; c++) {
                double sum = 0;
                for (size_t t = 0; t < parts[p].count; t++)
                    sum += rows[t * channels + c];
                vector[parts[p].to + c] = (float)(sum / (double)parts[p].count);
            }
        }
    }
    return DML_OK;
}

static enum dml_status backward(const struct cpu_run *run, const struct plan_step *step) {
    const struct plan_fusion *fusion = plan_fusion_of(run->plan, step);
    const struct plan_layout *in = &plan_input_of(run->plan, fusion)->layout;
    size_t channels = (size_t)in->channels;
    struct mean parts[2];
    size_t count = means(run, step, parts);
    const float *grad = cpu_at(run, step->in);
    float *out = cpu_at(run, step->out);
    if (!out)
        return DML_OK;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < run->plan->n; i++) {
        float *image = out + i * in->image;
        memset(image, 0, in->image * sizeof *image);
        for (size_t p = 0; p < count; p++) {
            const float *vector = grad + i * fusion->layout.image + parts[p].to;
            float share = 1.0f / (float)parts[p].count;
            for (size_t t = parts[p].first; t < parts[p].first + parts[p].count; t++)
                for (size_t c = 0; c < channels; c++)
                    image[t * channels + c] = share * vector[c];
        }
    }
    return DML_OK;
}

const struct cpu_op *cpu_op_token_pool(void) {
    static const struct cpu_op op = {.forward = forward, .backward = backward};
    return &op;
}
