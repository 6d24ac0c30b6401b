#include "backends/cpu/operations/operation.h"

/* A feature map's pixels become tokens, row by row, after the learned ones, and position
 * embeddings are added to all; where there are registers, to the patches alone. Dosovitskiy et al.
 * 2021, An image is worth 16x16 words; registers: Darcet et al. 2024. */

/* What a row of one image's sequence is made of. */
struct source {
    enum dml_param_role role; /* of a learned token */
    size_t token;             /* its index in that parameter */
    bool patch, positioned;
    size_t index; /* of the patch */
    size_t position;
};

static struct source source_of(const struct dml_node *node, size_t registers, size_t t) {
    size_t prefix = (size_t)node->prefix, before = prefix - registers;
    if (t >= prefix)
        return (struct source){.patch = true,
                               .positioned = true,
                               .index = t - prefix,
                               .position = registers ? t - prefix : t};
    if (t >= before)
        return (struct source){.role = DML_ROLE_REGISTERS, .token = t - before};
    return (struct source){.role = t ? DML_ROLE_DISTILLATION_TOKEN : DML_ROLE_CLASS_TOKEN,
                           .positioned = registers == 0,
                           .position = t};
}

static size_t registers_of(const struct cpu_run *run, int node) {
    int index = dml_graph_find_param(run->plan->graph, node, DML_ROLE_REGISTERS);
    return index < 0 ? 0 : (size_t)run->plan->graph->params[index].dims[1];
}

/* Where channel c of pixel s lies in an image of a feature map. */
static size_t pixel_at(const struct plan_layout *map, size_t c, size_t s) {
    size_t block = (size_t)map->block;
    return (c / block * map->pixels + s) * block + c % block;
}

static enum dml_status forward(const struct cpu_run *run, const struct plan_step *step) {
    const struct plan_fusion *fusion = plan_fusion_of(run->plan, step);
    const struct cpu_params *params = run->params;
    const struct dml_node *node = cpu_node_of(run, step);
    const struct plan_layout *map = &plan_input_of(run->plan, fusion)->layout;
    size_t tokens = fusion->layout.pixels, channels = (size_t)fusion->layout.channels;
    size_t registers = registers_of(run, fusion->node);
    const float *positions = cpu_params_value(params, fusion->node, DML_ROLE_POSITIONS);
    const float *x = cpu_at(run, step->in);
    float *y = cpu_at(run, step->out);
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < run->plan->n; i++)
        for (size_t t = 0; t < tokens; t++) {
            struct source source = source_of(node, registers, t);
            float *row = y + (i * tokens + t) * channels;
            const float *learned = NULL;
            if (!source.patch)
                learned =
                    cpu_params_value(params, fusion->node, source.role) + source.token * channels;
            for (size_t c = 0; c < channels; c++)
                row[c] = learned ? learned[c] : x[i * map->image + pixel_at(map, c, source.index)];
            for (size_t c = 0; source.positioned && c < channels; c++)
                row[c] += positions[source.position * channels + c];
        }
    return DML_OK;
}

/* A token's gradient summed over the images goes to the learned token and to its position. */
static void parameter_grads(const struct cpu_run *run, const struct plan_step *step, size_t t) {
    const struct plan_fusion *fusion = plan_fusion_of(run->plan, step);
    struct cpu_params *params = run->params;
    size_t channels = (size_t)fusion->layout.channels;
    struct source source = source_of(cpu_node_of(run, step), registers_of(run, fusion->node), t);
    float *learned = NULL, *position = NULL;
    if (!source.patch)
        learned = cpu_params_grad(params, fusion->node, source.role) + source.token * channels;
    if (source.positioned)
        position =
            cpu_params_grad(params, fusion->node, DML_ROLE_POSITIONS) + source.position * channels;
    const float *grad = (const float *)cpu_at(run, step->in) + t * channels;
    for (size_t c = 0; c < channels; c++) {
        double sum = 0;
        for (size_t i = 0; i < run->plan->n; i++)
            sum += grad[i * fusion->layout.image + c];
        if (learned)
            learned[c] = (float)sum;
        if (position)
            position[c] = (float)sum;
    }
}

static enum dml_status backward(const struct cpu_run *run, const struct plan_step *step) {
    const struct plan_fusion *fusion = plan_fusion_of(run->plan, step);
    const struct plan_layout *map = &plan_input_of(run->plan, fusion)->layout;
    size_t tokens = fusion->layout.pixels, channels = (size_t)fusion->layout.channels;
    size_t prefix = (size_t)cpu_node_of(run, step)->prefix, padded = plan_layout_channels(map);
    const float *grad = cpu_at(run, step->in);
    float *out = cpu_at(run, step->out);
#pragma omp parallel for schedule(static)
    for (size_t t = 0; t < tokens; t++)
        parameter_grads(run, step, t);
    if (!out)
        return DML_OK;
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < run->plan->n; i++)
        for (size_t s = 0; s < map->pixels; s++) {
            const float *row = grad + (i * tokens + prefix + s) * channels;
            for (size_t c = 0; c < padded; c++)
                out[i * map->image + pixel_at(map, c, s)] = c < channels ? row[c] : 0.0f;
        }
    return DML_OK;
}

const struct cpu_op *cpu_op_tokens(void) {
    static const struct cpu_op op = {.forward = forward, .backward = backward};
    return &op;
}
