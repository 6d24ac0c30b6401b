#include "backends/parts.h"
#include "backends/planned.h"

#include "backends/cpu/run.h"
#include "backends/cpu/traits.h"
#include "base/memory.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The CPU backend: parameters, and the one arena that all plans work in. */
struct cpu_network {
    struct dml_planned planned;
    struct cpu_engine *engine;
    struct cpu_params params;
    struct cpu_planning planning;
    char *arena;
    size_t arena_bytes;
    float *piece; /* gradients of a piece of a batch, to be added to the others; NULL until then */
};

static struct cpu_network *cpu_of(struct dml_network *network) {
    return (struct cpu_network *)network; /* its first member */
}

static void close_network(struct cpu_network *network) {
    dml_planned_close(&network->planned);
    cpu_params_destroy(&network->params);
    cpu_engine_destroy(network->engine);
    free(network->arena);
    free(network->piece);
    free(network);
}

static const char no_bf16[] =
    "it would not be faster than fp32: that takes a processor with AVX-512 BF16 or AMX, and oneDNN "
    "2.5 or newer";

static struct dml_backend_abilities abilities(void) {
    bool bf16 = cpu_engine_bf16() != CPU_BF16_NONE;
    return (struct dml_backend_abilities){
        .devices = 1,
        .precisions = 1u << DML_PRECISION_FP32 | (bf16 ? 1u << DML_PRECISION_BF16 : 0),
        .micro_batches = true,
        .reason = bf16 ? NULL : no_bf16,
    };
}

static enum dml_status check_options(const struct dml_graph *graph,
                                     const struct dml_network_options *options) {
    if (options->precision == DML_PRECISION_TF32)
        return dml_fail(DML_ERROR_UNSUPPORTED, "--precision tf32: only GPUs support it");
    if (options->precision == DML_PRECISION_BF16 && cpu_engine_bf16() == CPU_BF16_NONE)
        return dml_fail(DML_ERROR_UNSUPPORTED, "--precision bf16: %s", no_bf16);
    return dml_planned_check(graph, options);
}

static enum dml_status need_arena(struct dml_planned *planned, const struct plan *plan) {
    struct cpu_network *network = (struct cpu_network *)planned;
    size_t bytes = plan->arena_bytes;
    if (bytes <= network->arena_bytes)
        return DML_OK;
    free(network->arena);
    network->arena_bytes = 0;
    network->arena = dml_alloc_aligned(bytes, 1);
    if (!network->arena)
        return dml_fail(DML_ERROR_MEMORY,
                        "activations of the network need %.1f GB, which is more than there is; a "
                        "smaller batch, or --micro_bs with frozen batch norm, needs less",
                        (double)bytes / 1e9);
    network->arena_bytes = bytes;
    return DML_OK;
}

static struct cpu_run run_of(struct cpu_network *network, const struct dml_planned_pass *pass) {
    return (struct cpu_run){.plan = pass->plan,
                            .params = &network->params,
                            .arena = network->arena,
                            .images = pass->images,
                            .first = pass->first,
                            .parts = dml_parts_norms(&network->planned.options)};
}

static enum dml_status run_forward(struct dml_planned *planned, const struct dml_planned_pass *pass,
                                   float *embeddings) {
    const struct cpu_run run = run_of((struct cpu_network *)planned, pass);
    return cpu_run_forward(&run, embeddings);
}

/* A backward pass under way, in which gradients are completed from the last layers on. */
struct settling {
    const struct cpu_params *params;
    float *sums;                         /* over the pieces of a batch */
    const float *piece;                  /* of the piece at hand; NULL: `sums` are the first's */
    const struct dml_batch_parts *parts; /* NULL: none, or further pieces follow */
    size_t added, shared; /* from there on `sums` have the piece's, and their sums over the parts
                           * have begun */
};

/* The gradients of a piece are added to those before it once they are complete: the same sum as
 * that of as many processes with one piece each. Sums over processes begin while earlier layers are
 * still being computed. */
static enum dml_status settle(void *data, int param) {
    struct settling *s = data;
    const struct dml_batch_parts *parts = s->parts;
    size_t from = cpu_params_from(s->params, param), end = s->piece ? s->added : from;
#pragma omp parallel for simd schedule(static) if (end - from > 16384)
    for (size_t i = from; i < end; i++)
        s->sums[i] += s->piece[i];
    s->added = from;
    if (!parts)
        return DML_OK;
    if (s->shared - from < parts->sum_piece && from > 0)
        return parts->advance_sums(parts->data, false);
    size_t count = s->shared - from;
    s->shared = from;
    return parts->start_sum(parts->data, s->sums + from, count);
}

static enum dml_status need_piece(struct cpu_network *network) {
    size_t floats = network->params.learnable;
    if (network->piece)
        return DML_OK;
    network->piece = dml_alloc_aligned(floats, sizeof *network->piece);
    if (!network->piece)
        return DML_ERROR_MEMORY;
    memset(network->piece, 0, floats * sizeof *network->piece);
    return DML_OK;
}

static enum dml_status run_backward(struct dml_planned *planned,
                                    const struct dml_planned_pass *pass, const float *grad) {
    struct cpu_network *network = (struct cpu_network *)planned;
    struct cpu_params *params = &network->params;
    const struct cpu_run run = run_of(network, pass);
    enum dml_status status = pass->first ? need_piece(network) : DML_OK;
    if (status)
        return status;
    bool last = pass->first + pass->plan->n == pass->images->n;
    struct settling settling = {.params = params,
                                .sums = params->grads,
                                .piece = pass->first ? network->piece : NULL,
                                .parts = last ? planned->options.parts : NULL,
                                .added = params->learnable,
                                .shared = params->learnable};
    if (pass->first)
        params->grads = network->piece;
    status = cpu_run_backward(&run, grad, &(struct cpu_settled){settle, &settling});
    params->grads = settling.sums;
    if (!status && settling.parts)
        status = settling.parts->advance_sums(settling.parts->data, true);
    return status;
}

/* Pieces of inference are small enough for the largest activations to stay near the cores. */
static const struct dml_planned_calls calls = {.embed = 32,
                                               .embed_most = 128,
                                               .need = need_arena,
                                               .forward = run_forward,
                                               .backward = run_backward};

static enum dml_status create(const struct dml_graph *graph,
                              const struct dml_network_options *options, struct dml_network **out) {
    *out = NULL;
    struct cpu_network *network = dml_alloc(1, sizeof *network);
    if (!network)
        return DML_ERROR_MEMORY;
    network->planned.calls = &calls;
    network->planned.options = *options;
    enum dml_status status = cpu_engine_create(&network->engine);
    size_t batch = options->micro_batch ? options->micro_batch : options->batch_hint;
    /* Feature maps are bfloat16, or the tokens between products, which round to bfloat16. */
    bool narrow = options->precision == DML_PRECISION_BF16,
         tokens = dml_planned_has(graph, DML_OP_TOKENS);
    enum plan_element maps = narrow && !tokens ? PLAN_BFLOAT16 : PLAN_FLOAT32;
    if (!status)
        status = cpu_params_create(graph, network->engine, batch ? batch : 32, cpu_engine_block(),
                                   maps, &network->params);
    if (status) {
        close_network(network);
        return status;
    }
    if (narrow && tokens)
        network->params.rounding = cpu_rounding_of(network->engine);
    network->planning = (struct cpu_planning){network->engine, &network->params};
    network->planned.traits = cpu_traits(&network->planning, cpu_engine_block());
    network->planned.traits.recompute = options->recompute;
    *out = &network->planned.base;
    return DML_OK;
}

static enum dml_status read_param(struct dml_network *network, int index, enum dml_slot slot,
                                  float *values) {
    return cpu_params_read(&cpu_of(network)->params, index, slot, values);
}

static enum dml_status write_param(struct dml_network *network, int index, enum dml_slot slot,
                                   const float *values) {
    return cpu_params_write(&cpu_of(network)->params, index, slot, values);
}

static enum dml_status gradient_size(struct dml_network *network, const struct dml_spans *spans,
                                     struct dml_gradient_size *size) {
    *size = cpu_params_gradient_size(&cpu_of(network)->params, spans);
    return DML_OK;
}

static enum dml_status clip(struct dml_network *network, const struct dml_spans *spans,
                            double scale, double limit) {
    cpu_params_clip(&cpu_of(network)->params, spans, scale, limit);
    return DML_OK;
}

static enum dml_status step(struct dml_network *network, const struct dml_optimiser_step *step) {
    return cpu_params_step(&cpu_of(network)->params, step);
}

static enum dml_status average(struct dml_network *network, double decay) {
    return cpu_params_average(&cpu_of(network)->params, decay);
}

static enum dml_status exchange(struct dml_network *network) {
    return cpu_params_exchange(&cpu_of(network)->params);
}

static size_t memory(const struct dml_network *network) {
    return ((const struct cpu_network *)network)->arena_bytes;
}

static void describe(const struct dml_network *network, char *text, size_t size) {
    (void)network;
    snprintf(text, size, "cpu, %d threads", omp_get_max_threads());
}

static void destroy(struct dml_network *network) {
    close_network(cpu_of(network));
}

const struct dml_backend dml_backend_cpu = {
    .name = "cpu",
    .abilities = abilities,
    .check = check_options,
    .create = create,
    .destroy = destroy,
    .read = read_param,
    .write = write_param,
    .embed = dml_planned_embed,
    .forward = dml_planned_forward,
    .backward = dml_planned_backward,
    .gradient_size = gradient_size,
    .clip = clip,
    .step = step,
    .average = average,
    .exchange = exchange,
    .describe = describe,
    .memory = memory,
};
